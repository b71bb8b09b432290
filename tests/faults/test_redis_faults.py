"""Faults of the Redis that holds the logs: away, hung, slow, full, emptied, replaced. RQ's own is another one here."""

import contextlib
import os
import shutil
import signal
import time

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from tailer.embedded import EmbeddedServer
from tailer.store import connect, list_key
from tests.clusters import three_nodes
from tests.faults.trial import LIVE
from tests.processes import free_port, running
from tests.proxy import Proxy
from tests.waiting import wait_until

AOF = ("--appendonly", "yes", "--appendfsync")
APPEND = b"\r\no 1"
"""What only an append holds: the header of a chunk of stdout."""


def started(trial, *extra, **options):
    """A running trial whose logs are in a server of their own; returns that server and a connection to it."""
    server = trial.hold(EmbeddedServer(extra=extra))
    trial.begin(logs=server.url, **options)
    return server, trial.hold(connect(server.url))


def behind_proxy(trial, **options):
    """A running trial that reaches its logs through a proxy; returns that."""
    server = trial.hold(EmbeddedServer())
    proxy = trial.hold(Proxy(server.url))
    trial.begin(logs=proxy.url, direct=server.url, **options)
    return proxy


def cut_at_appends(trial, *, answered):
    """Reset the connection of an append, ten times."""
    proxy = behind_proxy(trial)
    for _ in range(10):
        trap = proxy.trap(APPEND, answered=answered)
        wait_until(trap.sprung.is_set, 20, "an append")
        trial.recover()
    trial.finish()


def test_reset_before_an_append(trial):
    """The connection is reset before an append reaches Redis, ten times."""
    cut_at_appends(trial, answered=False)


def test_reset_behind_an_append(trial):
    """The connection is reset when an append is done and its answer on the way, ten times."""
    cut_at_appends(trial, answered=True)


@pytest.mark.whole
def test_hung(trial):
    """Redis hangs (SIGSTOP) for 10 s."""
    server, _ = started(trial)
    os.kill(server.pid, signal.SIGSTOP)
    time.sleep(10)
    os.kill(server.pid, signal.SIGCONT)
    trial.recover()
    trial.finish()


@pytest.mark.whole
def test_killed_with_aof(trial):
    """SIGKILL of a Redis that keeps an append-only file (`everysec`), back 2 s later."""
    server, _ = started(trial, *AOF, "everysec")
    server.stop(signal.SIGKILL)
    time.sleep(2)
    server.start()
    trial.recover()
    trial.finish()


@pytest.mark.whole
def test_power_lost(trial, tmp_path):
    """SIGKILL of a Redis with an append-only file, back with the older half of it, as after a loss of power."""
    server = trial.hold(EmbeddedServer(data_dir=tmp_path / "data", extra=(*AOF, "everysec")))
    trial.begin(logs=server.url)
    trial.write_on(1 << 20)
    trial.reach(trial.written(), 20)
    server.stop(signal.SIGKILL)
    (file,) = (tmp_path / "data").glob("**/*.incr.aof")
    os.truncate(file, file.stat().st_size // 2)
    server.start()
    trial.recover()
    trial.finish()


@pytest.mark.whole
def test_emptied(trial):
    """SIGKILL of a Redis that keeps nothing, back at once and empty."""
    server, _ = started(trial)
    server.stop(signal.SIGKILL)
    server.start()
    trial.recover()
    trial.finish()


@pytest.mark.whole
def test_emptied_of_much(trial):
    """SIGKILL of a Redis that keeps nothing, with 12 MiB of output in it; followers come afterwards."""
    server, redis = started(trial, shape="blocks", rate=2000, live=())
    wait_until(lambda: trial.store.end_of(trial.task.job.id, 1).offset > 12 << 20, 20)
    server.stop(signal.SIGKILL)
    server.start()
    wait_until(lambda: redis.exists(list_key(trial.task.job.id, 1)), 20, "the log to be built again")
    for form in LIVE:
        trial.follow(form)
    trial.recover()
    trial.finish(causes=["Redis lost it"], most_missing=16 << 20)


def test_full(trial):
    """Redis is full (`noeviction`) for 2 s."""
    _, redis = started(trial, "--maxmemory-policy", "noeviction")
    redis.config_set("maxmemory", 1)
    time.sleep(2)
    redis.config_set("maxmemory", 0)
    trial.recover()
    trial.finish()


@pytest.mark.whole
def test_read_only(trial):
    """Redis is a read-only replica for 2 s, without its master."""
    _, redis = started(trial)
    redis.replicaof("127.0.0.1", 1)
    time.sleep(2)
    redis.replicaof("NO", "ONE")
    trial.recover()
    trial.finish()


@pytest.mark.whole
def test_clients_killed(trial):
    """All connections are closed by `CLIENT KILL` every 200 ms, fifteen times."""
    _, redis = started(trial)
    for _ in range(15):
        for kind in ("normal", "pubsub"):
            redis.client_kill_filter(_type=kind, skipme=True)
        time.sleep(0.2)
    trial.recover()
    trial.finish()


@pytest.mark.whole
def test_slow(trial):
    """Every request and every answer takes 200 ms."""
    proxy = behind_proxy(trial)
    proxy.delay = 0.2
    time.sleep(5)
    trial.recover(30)
    trial.finish(timeout=60)


def test_keys_deleted(trial):
    """A stranger deletes all keys of the log, three times."""
    _, redis = started(trial)
    for _ in range(3):
        redis.delete(*redis.keys(f"tailer:{{{trial.task.job.id}}}*"))
        trial.recover()
    trial.finish()


@pytest.mark.whole
def test_keys_overwritten(trial):
    """A stranger overwrites all keys of the log by others of another kind, gone 2 s later; followers come then."""
    _, redis = started(trial, live=())
    keys = wait_until(lambda: redis.keys(f"tailer:{{{trial.task.job.id}}}*"), 20)
    for key in keys:
        redis.set(key, "a stranger's")
    time.sleep(2)
    redis.delete(*keys)
    for form in LIVE:
        trial.follow(form)
    trial.recover()
    trial.finish()


@pytest.mark.whole
@pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server on PATH: run scripts/system-packages")
def test_failover(trial, tmp_path):
    """The master is killed, and three sentinels make its replica the master; the job writes on all the while."""
    master = trial.hold(EmbeddedServer())
    replica = trial.hold(EmbeddedServer(extra=("--replicaof", "127.0.0.1", port(master.url))))
    sentinels = [trial.hold(sentinel(tmp_path / f"sentinel-{n}.conf", port(master.url))) for n in range(3)]
    with connect(replica.url) as redis:
        wait_until(lambda: redis.info("replication")["master_link_status"] == "up", 20)
    for place in sentinels:
        with connect(f"redis://{place}") as watching:
            wait_until(lambda: known(watching) == (1, 2), 20, "what a sentinel has to know")
    trial.begin(logs=f"redis+sentinel://{','.join(sentinels)}/logs")
    master.stop(signal.SIGKILL)
    wait_until(lambda: role(replica.url) == "master", 30, "the failover")
    trial.recover()
    trial.finish()


@pytest.mark.whole
def test_slot_moves(trial):
    """The log's slot of a Redis Cluster moves to another node and back, key by key; the job writes on all the while."""
    cluster = trial.hold(three_nodes())
    trial.begin(logs=cluster.url)
    log = list_key(trial.task.job.id, 1)
    here = cluster.owner(log)
    there = next(node for node in cluster.nodes if node is not here)
    for target in (there, here):
        for _ in cluster.migrating(log, target):
            trial.write_on(100_000)
        trial.recover()
        assert cluster.owner(log) is target
    assert cluster.refused()
    trial.finish()


def port(url):
    """The port in a server's URL."""
    return url.rpartition(":")[2].partition("/")[0]


def role(url):
    """What a server is, None while it takes no question: sentinels close all connections of one whose role changes."""
    with contextlib.suppress(RedisConnectionError), connect(url) as redis:
        return redis.info("replication")["role"]


def known(sentinel):
    """How many replicas of the master, and how many other sentinels, a sentinel knows."""
    told = sentinel.execute_command("SENTINEL", "MASTER", "logs")
    fields = told if isinstance(told, dict) else dict(zip(told[::2], told[1::2], strict=True))
    named = {key.decode() if isinstance(key, bytes) else key: value for key, value in fields.items()}
    return int(named["num-slaves"]), int(named["num-other-sentinels"])


@contextlib.contextmanager
def sentinel(config, master):
    """Run a sentinel that watches the master at that port for the block; yields its host and port."""
    own = free_port()
    config.write_text(
        f"port {own}\nbind 127.0.0.1\nsentinel monitor logs 127.0.0.1 {master} 2\n"
        "sentinel down-after-milliseconds logs 1000\nsentinel failover-timeout logs 5000\n"
    )
    with running([shutil.which("redis-server"), config, "--sentinel"], ready="monitor master"):
        yield f"127.0.0.1:{own}"
