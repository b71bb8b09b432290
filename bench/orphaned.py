"""What it costs a job that its worker was killed: from then on it drains its own pipes, in threads."""

from __future__ import annotations

from statistics import median

from bench.jobs import kill_worker_and_print
from bench.measured import Plain, Tailer, run_orphaned
from bench.report import conditions, spread, table, wait_for_quiet
from tailer.embedded import EmbeddedServer

LINES = 500_000
ROUNDS = 7


def measure() -> str:
    """Print lines in a job that has killed its worker, under each worker in turn; compare within each round."""
    with EmbeddedServer() as server:
        about, rounds = conditions(server), []
        for _ in range(ROUNDS):
            wait_for_quiet()  # not `undisturbed`: these jobs are nobody's children, and would count as others
            rounds.append([run_orphaned(server, kind, kill_worker_and_print, LINES) for kind in (Tailer, Plain)])
    speeds = [f"{median(LINES / took for took in column) / 1000:,.0f}" for column in zip(*rounds, strict=True)]
    share = spread([plain / ours for ours, plain in rounds], 2)
    head = ["worker killed", "worker.Worker", "rq.Worker to /dev/null", "share of it"]
    return "\n".join([about, table(head, [["k lines/s, line-buffered", *speeds, share]])])
