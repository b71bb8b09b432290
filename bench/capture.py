"""What capture costs a job: its speed, the worker's CPU time, and the time an empty job takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from statistics import median

import zstandard

from bench.jobs import POOL, nothing, print_lines, varied
from bench.measured import Cost, Drained, Plain, Tailer, run
from bench.report import conditions, spread, table, undisturbed
from tailer.embedded import EmbeddedServer
from tailer.records import MAX_CHUNK

LINES = 500_000
ROUNDS = 7
EMPTY_JOBS, EMPTY_ROUNDS = 25, 9


def measure() -> str:
    """Return the tables."""
    with EmbeddedServer() as server:
        about = conditions(server)
        return "\n".join([about, throughput(server), parts(), overhead(server)])


def throughput(server: EmbeddedServer) -> str:
    """Print lines under each worker in turn, line-buffered and in blocks; compare within each round."""
    rows = []
    for name, line_buffered in (("line-buffered", True), ("in blocks of 8 KiB", False)):
        rounds = [undisturbed(server, partial(one_round, server, line_buffered)) for _ in range(ROUNDS)]
        speeds = [[LINES / cost.returned for cost in costs] for costs in rounds]
        rows.append([f"k lines/s, {name}", *(f"{median(row) / 1000:,.0f}" for row in zip(*speeds, strict=True))])
        ratios = [[speed[0] / one for one in speed] for speed in speeds]
        rows.append(["worker.Worker's share of it", *(spread(row, 2) for row in zip(*ratios, strict=True))])
        rows[-1][1] = ""
        later = [costs[0].wall - costs[1].wall for costs in rounds]
        rows.append(["job later done than to /dev/null, s", spread(later, 2), "", "", ""])
        cpu = [(costs[0].cpu - costs[1].cpu) / LINES * 1e6 for costs in rounds]
        rows.append(["worker's CPU time, s per M lines", spread(cpu, 2), "", "", ""])
    head = ["", "worker.Worker", "rq.Worker to /dev/null", "rq.Worker to a pipe and cat", "same pipes, only drained"]
    return table(head, rows)


def one_round(server: EmbeddedServer, line_buffered: bool) -> list[Cost]:
    """Run the job once under each worker."""
    kinds = ((Tailer, False), (Plain, False), (Plain, True), (Drained, False))
    return [run(server, kind, print_lines, LINES, line_buffered=line_buffered, piped=piped)[0] for kind, piped in kinds]


def parts() -> str:
    """Do alone, in one thread, what the worker's threads must do with every byte."""
    data = "".join(f"{line}\n" for line in varied(POOL)).encode()
    chunks = [data[start : start + MAX_CHUNK] for start in range(0, len(data), MAX_CHUNK)]
    works: list[tuple[str, Callable[[bytes], object]]] = [
        ("zstd, level 1", zstandard.ZstdCompressor(level=1).compress),
        ("SHA-256", sha256().update),
        ("counting lines, twice", lambda chunk: chunk.count(b"\n") + chunk.count(b"\n")),
    ]
    rows = []
    for name, work in works:
        times = []
        for _ in range(50):
            began = time.process_time()
            for chunk in chunks:
                work(chunk)
            times.append((time.process_time() - began) / POOL * 1e6)
        rows.append([name, f"{median(times):.2f}"])
    return table(["parts of the worker's CPU time", "s per M lines"], rows)


def overhead(server: EmbeddedServer) -> str:
    """Run empty jobs under both workers in turn."""
    rounds: list[tuple[float, float]] = []
    for _ in range(EMPTY_ROUNDS):
        plain, ours = undisturbed(
            server, lambda: [run(server, kind, nothing, jobs=EMPTY_JOBS) for kind in (Plain, Tailer)]
        )
        rounds.append((median(cost.wall * 1000 for cost in plain), median(cost.wall * 1000 for cost in ours)))
    plains, others = zip(*rounds, strict=True)
    row = ["empty job, ms", f"{median(others):.2f}", f"{median(plains):.2f}"]
    return table(
        ["", "worker.Worker", "rq.Worker", "difference"],
        [[*row, spread([mine - other for other, mine in rounds], 2)]],
    )
