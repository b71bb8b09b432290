"""What one running job, one stored log, and one follower cost: the figures of ``docs/sizing.md``."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator

import redis
import rq

from bench.designs import designs
from bench.fanout import Case, connect
from bench.jobs import LINE, print_slowly, varied
from bench.measured import Plain, Tailer, command, environment
from bench.report import PAGE as PERFORMANCE
from bench.report import conditions, table
from bench.usage import cpu_seconds, idle_percent, memory
from tailer.embedded import EmbeddedServer
from tailer.records import STDOUT, Attempt, Chunk, End, encode
from tailer.store import Cursor, LogStore, now_ms
from tailer.store import connect as connect_store

PAGE = PERFORMANCE.with_name("sizing.md")
LOGS = 1000
APPENDS = 20_000
WORKERS = 10
SECONDS = 20.0
SETTLE_S = 3.0
LASTS_S = 40
FOLLOWERS = 5000


def measure() -> str:
    """Return the tables."""
    with EmbeddedServer() as server:
        said = conditions(server)
        parts = [in_redis(server), in_worker(server)]
    return "\n".join([said, *parts, in_web()])


# Redis.


def in_redis(server: EmbeddedServer) -> str:
    """What a log takes there, and what each thing that is done with it costs the server's one thread."""
    store = LogStore(connect_store(server.url))
    used = _used(store.connection)
    lines = [f"{line}\n".encode() for line in varied(APPENDS)]
    calls: list[tuple[str, int, Callable[[int], object]]] = [
        ("begin a log", LOGS, lambda n: store.start(f"job-{n}", _begun())),
        ("append a line, nobody listens", APPENDS, lambda n: _append(store, n, lines[n])),
        ("say that a job is alive", LOGS, lambda n: store.keep_alive(f"job-{n}", 1)),
        ("end a log", LOGS, lambda n: store.end(f"job-{n}", _end(n))),
    ]
    rows = []
    for name, times, call in calls:
        before = cpu_seconds(server.pid)
        for n in range(times):
            call(n)
        rows.append([name, f"{(cpu_seconds(server.pid) - before) / times * 1e6:.0f}"])
    grown = (_used(store.connection) - used) / LOGS
    size = f"takes {grown / 1024:.1f} KiB, all keys included"
    written = f"of {APPENDS // LOGS * LINE:,} bytes, written a line at a time"
    return f"{table(('Redis', 'CPU time, µs'), rows)}\nA finished log {written}, {size}.\n"


def _begun() -> Attempt:
    return Attempt(now_ms(), 0, "0123456789abcdef0123456789abcdef", "worker", "queue", "a.job()", "separate", "a.job")


def _append(store: LogStore, n: int, line: bytes) -> None:
    job, count = n % LOGS, n // LOGS
    chunk = Chunk(STDOUT, now_ms(), count * LINE, count + 1, 1, False, line)
    at = Cursor(1, chunk.offset)
    if store.append(f"job-{job}", at, [encode(chunk)], end=chunk.end, lines=count + 1) != chunk.end:
        raise RuntimeError("not appended")


def _end(_n: int) -> End:
    per_log = APPENDS // LOGS
    return End(outcome="finished", attempt=1, final=True, status="finished", bytes=per_log * LINE, lines=per_log)


def _used(connection: redis.Redis) -> int:
    return int(connection.info("memory")["used_memory"])


# Workers.


def in_worker(server: EmbeddedServer) -> str:
    """What a running job that prints a line a second costs its worker, beside RQ's own."""
    rows = []
    for worker in (Plain, Tailer):
        with _working(server, worker) as pids:
            before, redis_before = [cpu_seconds(pid) for pid in pids], cpu_seconds(server.pid)
            time.sleep(SECONDS)
            used = sum(cpu_seconds(pid) for pid in pids) - sum(before)
            in_redis = cpu_seconds(server.pid) - redis_before
            size = sum(map(memory, pids)) / len(pids)
        share = [f"{100 * seconds / SECONDS / WORKERS:.2f}" for seconds in (used, in_redis)]
        rows.append([f"{worker.__bases__[-1].__module__.partition('.')[0]}.Worker", f"{size / (1 << 20):.1f}", *share])
    head = ("a job that prints a line a second", "its worker's MiB", "its worker's CPU %", "Redis's CPU %")
    return table(head, rows)


@contextlib.contextmanager
def _working(server: EmbeddedServer, worker: type) -> Iterator[list[int]]:
    """Workers that are all busy with a job of LASTS_S; yields their pids, and waits for their end."""
    with redis.Redis.from_url(server.url) as connection:
        connection.flushall()
        queue = rq.Queue(connection=connection)
        for _ in range(WORKERS):
            queue.enqueue(print_slowly, LASTS_S, 1.0)
        argv, null = command(server, worker, "--burst"), subprocess.DEVNULL
        workers = [
            subprocess.Popen(argv, env=environment(server), stdout=null, stderr=null, start_new_session=True)
            for _ in range(WORKERS)
        ]
        while len(queue):
            time.sleep(0.1)
        time.sleep(SETTLE_S)
        yield [process.pid for process in workers]
        for process in workers:
            process.wait(2 * LASTS_S)


# Web processes.


def in_web() -> str:
    """What followers cost that hear nothing but heartbeats."""
    rows = []
    for name, jobs in (("of one job", 1), ("of a job each", FOLLOWERS)):
        with designs()["sse"].start(jobs) as served:
            before = memory(served.pid)
            with connect(served, Case(FOLLOWERS, jobs, 1)):
                kib = (memory(served.pid) - before) / FOLLOWERS / 1024
                idle = idle_percent(served.pid, 16)
        rows.append([f"{FOLLOWERS:,} silent followers {name}", f"{kib:.1f}", f"{idle:.1f}"])
    return table(("web process", "KiB each", "CPU %, all"), rows)
