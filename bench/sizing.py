"""What a running job, a stored line and a follower cost, and what very many of them need: for ``docs/sizing.md``."""

from __future__ import annotations

import contextlib
import math
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import redis
import rq

from bench.designs import designs
from bench.fanout import Case, Figures, run
from bench.jobs import LINE, print_slowly, varied
from bench.measured import Plain, Tailer, command, environment
from bench.report import PAGE as PERFORMANCE
from bench.report import conditions, table
from bench.usage import cpu_seconds, memory
from tailer.embedded import EmbeddedServer
from tailer.records import STDOUT, Attempt, Chunk, End, encode
from tailer.store import Cursor, LogStore, connect, now_ms, wake_channel

PAGE = PERFORMANCE.with_name("sizing.md")
LOGS = 1000
APPENDS = 20_000
LISTENING = 4
"""Web processes that follow each job."""
WORKERS = 10
SECONDS = 20.0
SETTLE_S = 3.0
LASTS_S = 40
FOLLOWERS = 5000
RATE = 4.0
"""Lines of a job a second, where followers are measured."""
EACH = (1, 10, FOLLOWERS)
"""Followers of each job."""
ALIVE_S = 5
PLANS = ((1_000, 1_000), (10_000, 100_000), (100_000, 1_000_000))
"""Jobs that print a line a second, and followers."""
FULL = 0.6
"""Share of its core up to which a process is planned."""


@dataclass(frozen=True, slots=True)
class InRedis:
    """Microseconds of the server's one thread, and bytes: of a log that has no output, and what each line adds."""

    begin: float
    append: float
    listened: float
    alive: float
    end: float
    log: float
    line: float


@dataclass(frozen=True, slots=True)
class InWorker:
    """What a job that prints a line a second costs a worker and Redis: MiB, and shares of a core."""

    name: str
    mib: float
    cpu: float
    redis: float


def measure() -> str:
    """Return the tables."""
    with EmbeddedServer() as server:
        said = conditions(server)
        stored = in_redis(server)
        workers = [in_worker(server, worker) for worker in (Plain, Tailer)]
    web = {each: in_web(each) for each in EACH}
    return "\n".join([said, *tables(stored, workers, web), plan(stored, workers[-1], web)])


def in_redis(server: EmbeddedServer) -> InRedis:
    """Do each thing that is done with a log, for many logs."""
    store = LogStore(connect(server.url))
    lines = [f"{line}\n".encode() for line in varied(2 * APPENDS)]

    def cost(times: int, call: Callable[[int], object], first: int = 0) -> tuple[float, float]:
        """Microseconds and bytes of one call."""
        used, began = int(store.connection.info("memory")["used_memory"]), cpu_seconds(server.pid)
        for n in range(first, first + times):
            call(n)
        took, now = cpu_seconds(server.pid) - began, int(store.connection.info("memory")["used_memory"])
        return took / times * 1e6, (now - used) / times

    begin, empty = cost(LOGS, lambda n: store.start(f"job-{n}", _begun()))
    append, line = cost(APPENDS, lambda n: _append(store, n, lines[n]))
    with listening(server):
        listened, _ = cost(APPENDS, lambda n: _append(store, n, lines[n]), APPENDS)
    alive, _ = cost(LOGS, lambda n: store.keep_alive(f"job-{n}", 1))
    end, ended = cost(LOGS, lambda n: store.end(f"job-{n}", _end()))
    return InRedis(begin, append, listened, alive, end, empty + ended, line)


def _begun() -> Attempt:
    return Attempt(now_ms(), 0, "0123456789abcdef0123456789abcdef", "worker", "queue", "a.job()", "separate", "a.job")


def _append(store: LogStore, n: int, line: bytes) -> None:
    job, count = n % LOGS, n // LOGS
    chunk = Chunk(STDOUT, now_ms(), count * LINE, count + 1, 1, False, line)
    at = Cursor(1, chunk.offset)
    if store.append(f"job-{job}", at, [encode(chunk)], end=chunk.end, lines=count + 1) != chunk.end:
        raise RuntimeError("not appended")


def _end() -> End:
    count = 2 * APPENDS // LOGS
    return End(outcome="finished", attempt=1, final=True, status="finished", bytes=count * LINE, lines=count)


@contextlib.contextmanager
def listening(server: EmbeddedServer) -> Iterator[None]:
    """Connections that hear of every log, as those of web processes do."""
    over = threading.Event()

    def hear(heard: redis.client.PubSub) -> None:
        while not over.is_set():
            heard.get_message(timeout=0.1)

    with contextlib.ExitStack() as held:
        connection = held.enter_context(redis.Redis.from_url(server.url))
        for _ in range(LISTENING):
            heard = held.enter_context(connection.pubsub())
            heard.subscribe(*(wake_channel(f"job-{n}") for n in range(LOGS)))
            thread = threading.Thread(target=hear, args=[heard])
            thread.start()
            held.callback(thread.join)
        held.callback(over.set)
        yield


def in_worker(server: EmbeddedServer, worker: type) -> InWorker:
    """Let workers have a job each that prints a line a second."""
    with _working(server, worker) as pids:
        before, redis_before = sum(map(cpu_seconds, pids)), cpu_seconds(server.pid)
        time.sleep(SECONDS)
        used, in_redis = sum(map(cpu_seconds, pids)) - before, cpu_seconds(server.pid) - redis_before
        size = sum(map(memory, pids)) / len(pids) / (1 << 20)
    name = "rq.Worker" if worker is Plain else "worker.Worker"
    return InWorker(name, size, used / SECONDS / WORKERS, in_redis / SECONDS / WORKERS)


@contextlib.contextmanager
def _working(server: EmbeddedServer, worker: type) -> Iterator[list[int]]:
    """Workers that are all busy with a job of LASTS_S; yields their pids, and waits for their end."""
    with redis.Redis.from_url(server.url) as connection:
        connection.flushall()
        queue = rq.Queue(connection=connection)
        for _ in range(WORKERS):
            queue.enqueue(print_slowly, LASTS_S, 1.0)
        argv, null = command(server, worker, "--burst"), subprocess.DEVNULL
        workers = [subprocess.Popen(argv, env=environment(server), stdout=null, stderr=null) for _ in range(WORKERS)]
        while len(queue):
            time.sleep(0.1)
        time.sleep(SETTLE_S)
        yield [process.pid for process in workers]
        for process in workers:
            process.wait(2 * LASTS_S)


def in_web(each: int) -> Figures:
    """Let as many followers as a process has share jobs."""
    return run(designs()["text"], Case(FOLLOWERS, FOLLOWERS // each, RATE))


def tables(stored: InRedis, workers: Sequence[InWorker], web: dict[int, Figures]) -> Iterator[str]:
    """What each thing costs."""
    calls = [
        ("begin a log", stored.begin),
        ("append a line", stored.append),
        (f"append a line of which {LISTENING} web processes hear", stored.listened),
        ("say that a job is alive", stored.alive),
        ("end a log", stored.end),
    ]
    yield table(("Redis", "CPU time, µs"), [[name, f"{price:.0f}"] for name, price in calls])
    sizes = [("a log without output", stored.log), (f"each line of {LINE} bytes, by itself", stored.line)]
    yield table(("Redis", "bytes"), [[name, f"{price:,.0f}"] for name, price in sizes])
    rows = [[one.name, f"{one.mib:.1f}", f"{100 * one.cpu:.2f}", f"{100 * one.redis:.2f}"] for one in workers]
    yield table(("a job that prints a line a second", "worker, MiB", "worker, CPU %", "Redis, CPU %"), rows)
    rows = [
        [f"{each:,} of each job", f"{one.kib:.1f}", f"{one.cpu:.1f}", f"{one.p99:.0f}", f"{one.delivered:.1%}"]
        for each, one in web.items()
    ]
    head = (f"{FOLLOWERS:,} followers", "KiB each", "CPU time a line, µs", "p99 ms", "delivered")
    yield table(head, rows)


def plan(stored: InRedis, worker: InWorker, web: dict[int, Figures]) -> str:
    """What so many need, by multiplication."""
    rows = []
    for jobs, followers in PLANS:
        redis_cores = jobs * (stored.listened + stored.alive / ALIVE_S) / 1e6
        each = min(web, key=lambda each: abs(each - followers // jobs))
        web_cores = followers * web[each].cpu / 1e6
        needs = [
            f"{redis_cores:.2f}: {math.ceil(redis_cores / FULL)}",
            f"{jobs * 3600 * stored.line / (1 << 30):.1f}",
            f"{web_cores:.2f}: {math.ceil(web_cores / FULL)}",
            f"{followers * web[each].kib / (1 << 20):.2f}",
            f"{followers * LINE * 8 / 1e9:.2f}",
            f"{jobs * worker.mib / 1024:.0f}",
        ]
        rows.append([f"{jobs:,} jobs, {followers:,} followers", *needs])
    head = (
        "a line a second from each job",
        "Redis, cores: servers",
        "Redis, GiB an hour",
        "web, cores: processes",
        "followers, GiB",
        "to clients, Gbit/s",
        "workers, GiB",
    )
    return table(head, rows)
