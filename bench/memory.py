"""What a log takes in Redis, beside the two usual ways of keeping one there."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis

from bench.jobs import LINE, print_once, print_slowly, varied
from bench.measured import Tailer, run
from bench.report import conditions, server_version, table
from tailer.embedded import EmbeddedServer
from tailer.store import LogStore

LINES = 1_000_000
PIPELINE = 10_000

Layout = Callable[[EmbeddedServer], "Size"]


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes in Redis per byte printed: what the server says of the log's keys, and what its memory grew by.

    The latter is ``None`` for a log so small that RQ's own keys would show.
    """

    keys: float
    growth: float | None

    def cells(self) -> list[str]:
        """Return the two as a table shows them."""
        return [f"{value:.3f}" if value is not None else "" for value in (self.keys, self.growth)]


def measure() -> str:
    """Return the table, with the servers that are here side by side."""
    layouts: list[tuple[str, Layout]] = [
        ("Tailer, 1 M lines at full speed", lambda server: captured(server, print_once, LINES)),
        ("RPUSH of each line, 1 M lines", lambda server: stored(server, "rpush")),
        ("XADD of each line, 1 M lines", lambda server: stored(server, "xadd")),
        ("Tailer, 10,000 lines, 1,000 a second", lambda server: captured(server, print_slowly, 10_000, 0.001)),
        ("the same, sealed", lambda server: captured(server, print_slowly, 10_000, 0.001, sealed=True)),
        ("Tailer, 300 lines, 10 a second", lambda server: captured(server, print_slowly, 300, 0.1)),
        ("the same, sealed", lambda server: captured(server, print_slowly, 300, 0.1, sealed=True)),
    ]
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(EmbeddedServer())]
        if shutil.which("redis-server"):
            servers.append(stack.enter_context(EmbeddedServer(binary="redis-server")))
        head = ["bytes in Redis per byte printed"]
        for server in servers:
            head += [f"{server_version(server)}: keys", "growth"]
        rows = []
        for name, layout in layouts:
            sizes = [layout(server) for server in servers]
            rows.append([name, *(cell for size in sizes for cell in size.cells())])
        return f"{conditions(*servers)}\n{table(head, rows)}"


def captured(server: EmbeddedServer, job: Callable[..., Any], count: int, *args: Any, sealed: bool = False) -> Size:
    """Run ``job``, which prints ``count`` lines, under ``worker.Worker``; seal its log then, or leave it as written."""
    with _empty(server) as connection:
        before = _used(connection)
        [cost] = run(server, Tailer, job, count, *args, settings={"TAILER_SEAL": "0"})
        for _ in LogStore(connection).seal(cost.job_id, 1) if sealed else ():
            pass
        keys = list(connection.scan_iter(f"tailer:{{{cost.job_id}}}*"))
        return _size(connection, keys, before, count)


def stored(server: EmbeddedServer, command: str) -> Size:
    """Store the same lines as a handler that sends each of them would."""
    with _empty(server) as connection:
        before = _used(connection)
        with connection.pipeline(transaction=False) as pipe:
            for number, line in enumerate(varied(LINES), 1):
                if command == "rpush":
                    pipe.rpush("log", line + "\n")
                else:
                    pipe.xadd("log", {"line": line + "\n"})
                if number % PIPELINE == 0:
                    pipe.execute()
        return _size(connection, ["log"], before, LINES)


@contextlib.contextmanager
def _empty(server: EmbeddedServer) -> Any:
    """Yield a connection to the emptied server."""
    with redis.Redis.from_url(server.url, socket_timeout=60) as connection:
        connection.execute_command("FLUSHALL", "SYNC")  # Else the memory is given back while we look at it.
        yield connection


def _used(connection: redis.Redis) -> int:
    return int(connection.info("memory")["used_memory"])


def _size(connection: redis.Redis, keys: list[Any], before: int, lines: int) -> Size:
    raw = lines * LINE
    named = sum(connection.memory_usage(key, samples=0) for key in keys)
    growth = (_used(connection) - before) / raw
    return Size(named / raw, growth if lines == LINES else None)
