"""A real cluster for tests: three nodes without replicas, on free ports."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from redis.cluster import key_slot

from tailer.embedded import EmbeddedServer
from tailer.settings import CLUSTER
from tailer.store import connect
from tests.processes import free_port
from tests.waiting import wait_until

SLOTS = 16_384


class Node:
    """One server of a cluster, and a connection to it alone."""

    def __init__(self, server: EmbeddedServer, bus: int) -> None:
        self.server = server
        self.port = int(server.url.rpartition(":")[2].partition("/")[0])
        self.bus = bus
        self.connection = connect(server.url)
        self.id = self.ask("MYID").decode()

    def ask(self, *words: object) -> Any:
        """Send a CLUSTER command, and return the answer as it comes."""
        return self.connection.execute_command("CLUSTER", *words)


class ThreeNodes:
    """The nodes; `url` is for TAILER_REDIS_URL."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.url = CLUSTER + ",".join(f"127.0.0.1:{node.port}" for node in nodes[:2])

    def owner(self, key: str) -> Node:
        """The node that has the slot of a key, as it says."""
        return next(node for node in self.nodes if key_slot(key.encode()) in _slots(node))

    def refused(self) -> int:
        """How many commands found their keys divided between two nodes."""
        told = [node.connection.info("errorstats").get("errorstat_TRYAGAIN", {}) for node in self.nodes]
        return sum(one.get("count", 0) for one in told)

    def migrating(self, key: str, target: Node) -> Iterator[None]:
        """Move the slot of a key to a node, as `valkey-cli --cluster reshard` does; pauses behind each step."""
        slot, source = key_slot(key.encode()), self.owner(key)
        target.ask("SETSLOT", slot, "IMPORTING", source.id)
        source.ask("SETSLOT", slot, "MIGRATING", target.id)
        yield
        while keys := source.ask("GETKEYSINSLOT", slot, 1):
            source.connection.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            yield
        for node in (target, source, *self.nodes):
            node.ask("SETSLOT", slot, "NODE", target.id)


@contextlib.contextmanager
def three_nodes(*, owners: int = 3) -> Iterator[ThreeNodes]:
    """Run a cluster for the block; so many of the nodes have slots."""
    with contextlib.ExitStack() as held:
        nodes = []
        for _ in range(3):
            bus = free_port()
            options = ("--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "5000")
            nodes.append(Node(held.enter_context(EmbeddedServer(extra=options)), bus))
            held.callback(nodes[-1].connection.close)
        first, *others = nodes
        for number, node in enumerate(nodes):
            node.ask("SET-CONFIG-EPOCH", number + 1)
        for number, node in enumerate(nodes[:owners]):
            node.ask("ADDSLOTSRANGE", SLOTS * number // owners, SLOTS * (number + 1) // owners - 1)
        for node in others:
            first.ask("MEET", "127.0.0.1", node.port, node.bus)
        for node in nodes:
            wait_until(lambda node=node: _whole(node), 20, "the cluster to know all of its slots")
        yield ThreeNodes(nodes)


def _whole(node: Node) -> bool:
    told = node.ask("INFO").decode()
    return "cluster_state:ok" in told and f"cluster_slots_ok:{SLOTS}" in told and "cluster_known_nodes:3" in told


def _slots(node: Node) -> set[int]:
    mine = next(line for line in node.ask("NODES").decode().splitlines() if "myself" in line)
    ranges = [part.split("-") for part in mine.split()[8:] if not part.startswith("[")]
    return {slot for one in ranges for slot in range(int(one[0]), int(one[-1]) + 1)}
