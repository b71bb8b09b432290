"""A Redis Cluster that holds the logs, for callers that know one server only.

A job's keys are in one slot, so each script runs on one node. What is asked of many jobs at once goes to each node
in one batch. Wake-ups are heard on any node: a cluster passes them on to all.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha1
from typing import Any

import redis
from redis.client import Pipeline
from redis.cluster import PRIMARY, ClusterNode, RedisCluster
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ClusterError,
    MovedError,
    NoScriptError,
    RedisClusterException,
    TryAgainError,
)

ELSEWHERE = (MovedError, AskError, TryAgainError, ClusterDownError)
"""Answers of a node that has not, or not yet, or no longer, what it was asked for."""

EVERYWHERE = {"PING", "KEYS", "DBSIZE"}
"""Commands without a key that concern every node, and not its replicas; redis-py sends some of them to one."""


class Cluster(redis.Redis):
    """The nodes are looked up at the first command, and again when one does not answer.

    Raises redis-py's errors, as one server does. Nothing is repeated but what a node has refused.
    """

    def __init__(self, places: Sequence[tuple[str, int]], options: dict[str, Any]) -> None:
        self._places = places
        self._options = options
        self._lock = threading.Lock()
        self._found: _Nodes | None = None

    def nodes(self) -> _Nodes:
        """Return redis-py's client of the cluster."""
        with self._lock, _as_of_one_server():
            if self._found is None:
                self._found = _Nodes(self._places, self._options)
            return self._found

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command to the node that has its key, or to those that it concerns."""
        if args[0] in EVERYWHERE:
            options.setdefault("target_nodes", RedisCluster.PRIMARIES)
        with _as_of_one_server():
            return self.nodes().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def register_script(self, script: Any) -> Any:
        """Return a function that runs it where its keys are, and brings it there if it is not known."""
        sha = sha1(script.encode(), usedforsecurity=False).hexdigest()

        def run(keys: Sequence[str], args: Sequence[Any]) -> Any:
            try:
                return self.execute_command("EVALSHA", sha, len(keys), *keys, *args)
            except NoScriptError:
                return self.execute_command("EVAL", script, len(keys), *keys, *args)

        return run

    def pipeline(self, transaction: Any = False, shard_hint: Any = None) -> Pipeline:  # noqa: ARG002 (redis-py's)
        """Return a batch of commands of one slot each, that may be repeated: their key is the first argument.

        Or it is the first one of a script that is known by its hash.
        """
        return _Batch(self)

    def pubsub(self, **options: Any) -> Any:
        """Return redis-py's subscription, to one of the nodes."""
        with _as_of_one_server():
            return self.nodes().pubsub(**options)  # type: ignore[no-untyped-call]

    def servers(self) -> dict[str, redis.Redis]:
        """Return each master by its host and port, as far as it is known."""
        with _as_of_one_server():
            nodes = self.nodes()
            return {node.name: nodes.get_redis_connection(node) for node in nodes.get_primaries()}  # type: ignore[no-untyped-call]

    def connected(self) -> Any:
        """Return a new connection to any master that takes it."""
        servers = list(self.servers().values())
        random.shuffle(servers)
        failure: Exception = redis.ConnectionError("the cluster has no node")
        for server in servers:
            pool = server.connection_pool
            connection: Any = pool.connection_class(**pool.connection_kwargs)
            try:
                connection.connect()
            except redis.RedisError as error:
                failure = error
            else:
                return connection
        raise failure

    def close(self) -> None:
        """Close all connections."""
        if self._found:
            self._found.disconnect_connection_pools()  # type: ignore[no-untyped-call]


class _Nodes(RedisCluster):
    """redis-py's client, which also finds a node that has no slot yet: one may be moving there."""

    def __init__(self, places: Sequence[tuple[str, int]], options: dict[str, Any]) -> None:
        self._newcomers: dict[str, ClusterNode] = {}
        host, port = places[0]
        super().__init__(
            url=f"redis://{host}:{port}",  # it takes a kind of pool only beside a URL
            startup_nodes=[ClusterNode(*place) for place in places],  # type: ignore[no-untyped-call]
            connection_pool_class=redis.BlockingConnectionPool,
            require_full_coverage=False,
            **options,
        )

    def get_node(self, host: Any = None, port: Any = None, node_name: Any = None) -> Any:
        node = super().get_node(host, port, node_name)  # type: ignore[no-untyped-call]
        if node is None and node_name:
            where, _, number = node_name.rpartition(":")
            node = self._newcomers.setdefault(node_name, ClusterNode(where, int(number), PRIMARY))  # type: ignore[no-untyped-call]
        return node


class _Batch(Pipeline):
    """Goes to each node as one pipeline; what a node refuses because it has not the slot is asked again, singly."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(None, {}, transaction=False, shard_hint=None)  # type: ignore[arg-type]
        self._cluster = cluster

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands, self.command_stack = self.command_stack, []
        with _as_of_one_server():
            nodes = self._cluster.nodes()
            there: dict[str, tuple[ClusterNode, list[int]]] = {}
            for number, (args, _) in enumerate(commands):
                node = nodes.nodes_manager.get_node_from_slot(nodes.keyslot(_key(args)))  # type: ignore[no-untyped-call]
                there.setdefault(node.name, (node, []))[1].append(number)
            answers: list[Any] = [None] * len(commands)
            for node, numbers in there.values():
                for number, answer in zip(numbers, _ask(nodes, node, [commands[n] for n in numbers]), strict=True):
                    answers[number] = answer
        for number, answer in enumerate(answers):
            if isinstance(answer, ELSEWHERE):
                args, options = commands[number]
                answers[number] = self._cluster.execute_command(*args, **options)
            elif isinstance(answer, Exception) and raise_on_error:
                raise answer
        return answers


def _key(args: Sequence[Any]) -> Any:
    return args[3] if args[0] == "EVALSHA" else args[1]


def _ask(nodes: _Nodes, node: ClusterNode, commands: Sequence[tuple[Any, Any]]) -> list[Any]:
    """Return a node's answers, errors among them."""
    with nodes.get_redis_connection(node).pipeline(transaction=False) as pipe:
        for args, options in commands:
            pipe.execute_command(*args, **options)  # type: ignore[no-untyped-call]
        try:
            return pipe.execute(raise_on_error=False)
        except (redis.ConnectionError, redis.TimeoutError):
            nodes.nodes_manager.initialize(last_failed_node_name=node.name)  # another one may have its slots
            raise


@contextmanager
def _as_of_one_server() -> Iterator[None]:
    """Make a ``RedisError`` of what redis-py raises beside them for clusters."""
    try:
        yield
    except RedisClusterException as error:
        raise ClusterError(str(error)) from error
