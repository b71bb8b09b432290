"""RQ's worker and Tailer's, each made to write down what a job cost it; and a way to run them."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
import rq

import worker
from bench.jobs import nothing
from tailer.embedded import EmbeddedServer
from worker.capture import Capture
from worker.horse import Redirection
from worker.pump import Pump

COSTS = "bench:costs"
ORPHANED_PATIENCE_S = 60
"""How long a job may take whose worker was killed."""
ROOT = Path(__file__).parents[1]


class _Measured:
    """Pushes each job's figures to the list ``COSTS``."""

    def execute_job(self, job: Any, queue: Any) -> None:
        own, began = _cpu(resource.RUSAGE_SELF), time.perf_counter()
        super().execute_job(job, queue)
        wall = time.perf_counter() - began
        self.connection.rpush(COSTS, json.dumps({"job": job.id, "wall": wall, "cpu": _cpu(resource.RUSAGE_SELF) - own}))


class Plain(_Measured, rq.Worker):
    """``rq.Worker``: the peer."""


class Tailer(_Measured, worker.Worker):
    """``worker.Worker``."""


class Drained(_Measured, rq.Worker):
    """``rq.Worker`` whose jobs write into Tailer's pipes, out of which the bytes are read and thrown away.

    What is left is the least that any capture through pipes costs.
    """

    def fork_work_horse(self, job: Any, queue: Any) -> None:
        """Make the pipes, fork, and drain."""
        self.capture = Capture.open("separate")
        super().fork_work_horse(job, queue)
        self.capture.close_write_ends()
        self.pump = Pump(self.capture.sources, [], self.capture.report)
        self.pump.start()

    def monitor_work_horse(self, *args: Any) -> None:
        """Stop draining when the horse is gone."""
        super().monitor_work_horse(*args)
        self.pump.finish()
        self.capture.close()

    def main_work_horse(self, *args: Any) -> None:
        """Lead fds 1 and 2 into the pipes."""
        Redirection(self.capture)
        super().main_work_horse(*args)


def _cpu(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


@dataclass(frozen=True, slots=True)
class Cost:
    """What a job cost: ``wall`` seconds of its worker from dequeued to done, ``cpu`` seconds of the worker's process.

    The work horse's CPU time is not among them. ``returned`` is what the job returned.
    """

    job_id: str
    wall: float
    cpu: float
    returned: Any


def environment(server: EmbeddedServer, **settings: str) -> dict[str, str]:
    """Return the environment of processes that use ``server``, with no setting but those given; logs are kept whole."""
    meddling = ("TAILER_", "RQ_", "REDIS_URL", "PYTHONUNBUFFERED", "DYNO", "PORT")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(meddling)}
    whole = {"TAILER_KEEP_TAIL": "4GiB"}
    return {**clean, **whole, "PYTHONPATH": str(ROOT), "REDIS_URL": server.url, **settings}


def command(server: EmbeddedServer, worker_class: type, *options: str) -> list[str]:
    """Return the command line of a worker."""
    name = f"{worker_class.__module__}.{worker_class.__name__}"
    return [sys.executable, "-m", "rq.cli", "worker", "--quiet", "--url", server.url, "-w", name, *options]


def run(
    server: EmbeddedServer,
    worker_class: type,
    function: Callable[..., Any],
    *args: Any,
    jobs: int = 1,
    piped: bool = False,
    settings: Mapping[str, str] | None = None,
    **kwargs: Any,
) -> list[Cost]:
    """Empty the server, and run a number of jobs, one after the other, in a worker whose console is /dev/null.

    It has run an empty one before, so that connecting and the like is not counted. ``piped`` gives it a pipe to
    ``cat`` for a console, as a container, systemd or Heroku would. ``settings`` are the worker's.
    """
    connection, queue = _emptied(server)
    queue.enqueue(nothing)
    queued = {job.id: job for job in [queue.enqueue(function, *args, **kwargs) for _ in range(jobs)]}
    argv = command(server, worker_class, "--burst")
    if piped:
        argv = ["sh", "-c", '"$@" | cat', "sh", *argv]
    null = subprocess.DEVNULL
    subprocess.run(argv, env=environment(server, **(settings or {})), stdout=null, stderr=null, check=True)
    raw = [json.loads(one) for one in connection.lrange(COSTS, 1, -1)]
    connection.close()
    return [Cost(one["job"], one["wall"], one["cpu"], queued[one["job"]].return_value()) for one in raw]


def run_orphaned(server: EmbeddedServer, worker_class: type, function: Callable[..., Any], *args: Any) -> Any:
    """Empty the server, run a job that kills its worker, and return what it returned; RQ's horse keeps that itself."""
    connection, queue = _emptied(server)
    job = queue.enqueue(function, *args)
    null = subprocess.DEVNULL
    subprocess.run(command(server, worker_class), env=environment(server), stdout=null, stderr=null, check=False)
    deadline = time.monotonic() + ORPHANED_PATIENCE_S
    while (returned := job.return_value(refresh=True)) is None:
        if time.monotonic() > deadline:
            sys.exit(f"a job without a worker came to nothing: {job.get_status()}")
        time.sleep(0.05)  # not `wait_until`, which asks ten times as often: what is measured runs meanwhile
    connection.close()
    return returned


def _emptied(server: EmbeddedServer) -> tuple[redis.Redis, rq.Queue]:
    connection = redis.Redis.from_url(server.url)
    connection.execute_command("FLUSHALL", "SYNC")
    return connection, rq.Queue(connection=connection)
