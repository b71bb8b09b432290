"""Logs in a Redis Cluster: whose slots move, one of whose nodes is gone, and which is not there yet."""

import contextlib
import signal

import pytest

from tailer.embedded import free_port
from tailer.errors import StoreUnavailable
from tailer.figures import FigureStore
from tailer.gathered import Servers, Workers
from tailer.health import Health
from tailer.records import STDOUT, Attempt, Chunk, End, encode
from tailer.store import Cursor, LogStore, connect, list_key, wake_channel
from tailer.wakeups import WakeUps
from tests.clusters import three_nodes
from tests.waiting import wait_until
from tests.written import Written


@pytest.fixture
def cluster():
    """A cluster of the test's own, whose third node has no slot."""
    with three_nodes(owners=2) as nodes:
        yield nodes


@pytest.fixture
def store(cluster):
    """A store in it."""
    with connect(cluster.url) as connection:
        yield LogStore(connection)


def work(store, attempt):
    """Return what a worker does with an attempt, each safe to repeat."""
    element = encode(Chunk(STDOUT, 1, 0, 1, 1, False, b"line\n"))
    return [
        lambda: store.start("job", Attempt(5, 0, f"e{attempt}")),
        lambda: store.append("job", Cursor(attempt, 0), [element], end=5, lines=1),
        lambda: store.keep_alive("job", attempt),
    ]


def test_a_slot_moves_to_a_node_that_had_none(cluster, store):
    """At each step of it a write is done as a whole or refused, and all can be read; behind it all are done once."""
    key, newcomer = list_key("job", 1), cluster.nodes[2]
    for attempt in (1, 2):
        store.start("job", Attempt(5, 0, f"e{attempt}"))
    assert cluster.owner(key) is not newcomer

    for _ in cluster.migrating(key, newcomer):
        for call in (*work(store, 1), *work(store, 2)):
            with contextlib.suppress(StoreUnavailable):
                call()
        summary = store.summary("job")
        assert [one.number for one in summary.attempts] == [1, 2]
        for one in summary.attempts:
            assert len(store.elements("job", one.number, 0, -1)) == 1 + bool(one.bytes)
        assert store.living([("job", 2), ("other", 1)]) == [True, False]

    assert cluster.owner(key) is newcomer
    assert cluster.refused()
    for attempt in (1, 2):
        for call in work(store, attempt):
            call()
        assert (
            store.end("job", End(outcome="finished", attempt=attempt, final=True, bytes=5, lines=1, ended_at=2.0)) == 5
        )
        assert len(store.elements("job", attempt, 0, -1)) == 3


def test_a_node_that_is_gone(cluster, store):
    """What it had is unavailable until it is back; wake-ups are heard on another one meanwhile."""
    store.start("job", Attempt(5, 0, "e1"))
    gone = cluster.owner(list_key("job", 1))
    gone.server.stop(signal.SIGKILL)
    with pytest.raises(StoreUnavailable, match=r"^Redis: "):
        store.keep_alive("job", 1)
    with pytest.raises(StoreUnavailable, match=r"^Redis: "):
        store.summary("job")
    for _ in range(4):  # whichever is tried first
        wakeups = WakeUps(store.connection)
        wakeups.subscribe([wake_channel("job")])
        assert wakeups.read()[0][:2] == [b"subscribe", wake_channel("job").encode()]
        wakeups.close()


def test_a_cluster_that_is_not_there_yet():
    """A store can be made before its cluster can be reached; each call says that it is unavailable."""
    with connect(f"redis+cluster://127.0.0.1:{free_port()}") as connection:
        store = LogStore(connection)
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match=r"^Redis: "):
                store.start("job", Attempt(5, 0, "e1"))
        with pytest.raises(StoreUnavailable, match=r"^Redis: "):
            WakeUps(connection)


def test_a_change_is_heard_on_every_node(cluster, store):
    """Whichever node a follower listens to, it hears of a job whose slot is elsewhere."""
    for node in cluster.nodes:
        with node.connection.pubsub(ignore_subscribe_messages=True) as pubsub:
            pubsub.subscribe(wake_channel("job"))
            pubsub.get_message(timeout=5)
            store.start("job", Attempt(5, 0, "e1"))
            assert wait_until(lambda heard=pubsub: heard.get_message(timeout=0.1))["data"] == b"1"


def test_figures_are_kept_and_gathered_in_a_cluster(store):
    """Those of workers, and what all nodes and their logs take."""
    figures = FigureStore(store.connection)
    figures.add("mail", {"output": 7})
    figures.add("mail", {"output": 1})
    for _ in range(3):
        Written(store).write(b"a line\n")
    health = Health(store.connection, store.connection)
    told = {
        sample.name: sample.value
        for family in (*Servers(health).collect(), *Workers(health).collect())
        for sample in family.samples
    }

    assert told["tailer_worker_output_bytes_total"] == 8
    assert told["tailer_redis_up"] == 1
    assert told["tailer_logs"] == 3
    assert told["tailer_redis_memory_bytes"] > told["tailer_logs_memory_bytes"] > 0
