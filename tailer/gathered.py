"""Figures that are gathered when Prometheus asks: of Redis, of the workers, of this server's processes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate
from pathlib import Path
from typing import Any

import redis
from prometheus_client import ProcessCollector
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from tailer import figures
from tailer.cluster import Cluster
from tailer.errors import StoreUnavailable
from tailer.figures import FigureStore
from tailer.health import Health
from tailer.settings import metrics_directory
from tailer.store import INDEX, list_key, meta_key, redis_errors, tail_key
from tailer.workers import live_workers

SAMPLE = 50
"""Logs whose memory is asked for at a time: some hundred short commands, in two round trips."""
ATTEMPTS = 5
"""Newest attempts of a sampled log that count."""

_BY_QUEUE = {
    figures.OUTPUT: ("tailer_worker_output_bytes", "Output that workers took from jobs."),
    figures.STORED: ("tailer_worker_stored_bytes", "Bytes that Redis took for it."),
    figures.RESENDS: ("tailer_worker_resends", "Times that a worker went on from another place than it thought."),
    figures.SPILLED: ("tailer_worker_spilled_bytes", "Bytes that went into temporary files."),
    figures.OUTAGES: ("tailer_worker_outages", "Times that a log had to wait for Redis."),
    figures.ABANDONED: ("tailer_worker_abandoned_logs", "Logs that were given up while Redis was away."),
    figures.ERRORS: ("tailer_worker_errors", "Faults of Tailer's own in workers."),
}
_LABELLED = {
    figures.JOBS: ("tailer_worker_jobs", "Executions whose log has its end.", "outcome"),
    figures.HOLES: ("tailer_worker_holes", "Holes in logs.", "cause"),
    figures.HOLE_BYTES: ("tailer_worker_hole_bytes", "Bytes that are missing there.", "cause"),
}


class Servers:
    """Whether each Redis answers, and what that of the logs holds."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        """Yield the families; those that Redis does not tell of are left out."""
        up = GaugeMetricFamily("tailer_redis_up", "Whether this Redis answers.", labels=["redis"])
        answers = self._health.answers()
        for name, answer in answers.items():
            up.add_metric([name], answer)
        yield up
        if answers["logs"]:
            with suppress(StoreUnavailable), redis_errors():
                yield from _memory(self._health.logs)
            with suppress(StoreUnavailable), redis_errors():
                yield from _logs(self._health.logs)
        if answers["rq"]:
            with suppress(StoreUnavailable):
                yield _workers(self._health.rq)


def _memory(connection: redis.Redis) -> Iterator[Metric]:
    servers = connection.servers().values() if isinstance(connection, Cluster) else [connection]
    told: list[Any] = [server.info("memory") for server in servers]
    used, most = (sum(int(one.get(name, 0)) for one in told) for name in ("used_memory", "maxmemory"))
    yield GaugeMetricFamily("tailer_redis_memory_bytes", "Memory used by the Redis with the logs.", used)
    yield GaugeMetricFamily("tailer_redis_memory_limit_bytes", "Its maxmemory; 0 if it has none.", most)


def _logs(connection: redis.Redis) -> Iterator[Metric]:
    """Estimate from some logs what all take. Those that have expired are still known, and count as nothing."""
    known = int(connection.zcard(INDEX))
    found: Any = connection.zrandmember(INDEX, SAMPLE) if known else []
    jobs = [job.decode(errors="replace") for job in found]
    with connection.pipeline(transaction=False) as pipe:
        for job in jobs:
            pipe.hget(meta_key(job), "attempts")
        attempts = {job: int(last) for job, last in zip(jobs, pipe.execute(), strict=True) if last}
        for job, last in attempts.items():
            pipe.memory_usage(meta_key(job))
            for number in range(max(1, last - ATTEMPTS + 1), last + 1):
                pipe.memory_usage(list_key(job, number))
                pipe.memory_usage(tail_key(job, number))
        size = sum(filter(None, pipe.execute()))
    scale = known / len(jobs) if jobs else 0
    yield GaugeMetricFamily("tailer_logs", "Logs in Redis, estimated.", round(len(attempts) * scale))
    yield GaugeMetricFamily("tailer_logs_memory_bytes", "Memory that they take, estimated.", round(size * scale))


def _workers(connection: redis.Redis) -> Metric:
    family = GaugeMetricFamily("tailer_workers", "RQ's workers, by how they capture.", labels=["capture"])
    for capture, count in Counter(worker.capture or "none" for worker in live_workers(connection)).items():
        family.add_metric([capture], count)
    return family


class Workers:
    """What workers have counted: see ``tailer.figures``."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        """Yield the families, which are empty while Redis is away."""
        queues: dict[str, dict[str, int]] = {}
        with suppress(StoreUnavailable):
            queues = FigureStore(self._health.logs).read()
        for name, (metric, told) in _BY_QUEUE.items():
            family = CounterMetricFamily(metric, told, labels=["queue"])
            for queue, values in queues.items():
                family.add_metric([queue], values.get(name, 0))
            yield family
        yield _outage_seconds(queues)
        yield _append_seconds(queues)
        for name, (metric, told, label) in _LABELLED.items():
            family = CounterMetricFamily(metric, told, labels=["queue", label])
            for queue, values in queues.items():
                for kind, value in _labelled(values, name):
                    family.add_metric([queue, kind], value)
            yield family


def _outage_seconds(queues: Mapping[str, Mapping[str, int]]) -> Metric:
    told = "Time for which logs had to wait for Redis."
    family = CounterMetricFamily("tailer_worker_outage_seconds", told, labels=["queue"])
    for queue, values in queues.items():
        family.add_metric([queue], values.get(figures.OUTAGE_MS, 0) / 1000)
    return family


def _append_seconds(queues: Mapping[str, Mapping[str, int]]) -> Metric:
    told = "How long Redis took for a batch of output."
    family = HistogramMetricFamily("tailer_worker_append_seconds", told, labels=["queue"])
    bounds = [*map(str, figures.APPEND_BOUNDS), "+Inf"]
    for queue, values in queues.items():
        counts = accumulate(values.get(f"{figures.APPENDS}.{number}", 0) for number in range(len(bounds)))
        family.add_metric([queue], list(zip(bounds, counts, strict=True)), values.get(figures.APPEND_US, 0) / 1e6)
    return family


def _labelled(values: Mapping[str, int], name: str) -> Iterable[tuple[str, int]]:
    """Return label and value of each figure of that name. Holes are told of before there is any, to be seen rising."""
    found = {key.removeprefix(f"{name}."): value for key, value in values.items() if key.startswith(f"{name}.")}
    return sorted((found if name == figures.JOBS else dict.fromkeys(figures.CAUSES, 0) | found).items())


class Processes:
    """CPU time, memory and files of this server's processes, under the names that all programs have for them."""

    def collect(self) -> Iterator[Metric]:
        """Yield the families, each a sum; the start is that of the oldest."""
        sums: dict[str, Metric] = {}
        values: dict[str, list[float]] = {}
        for pid in _pids():
            for family in ProcessCollector(registry=None, pid=partial(str, pid)).collect():
                sums.setdefault(family.name, family)
                values.setdefault(family.name, []).append(family.samples[0].value)
        for name, family in sums.items():
            total = min(values[name]) if name == "process_start_time_seconds" else sum(values[name])
            family.samples = [family.samples[0]._replace(value=total)]
            yield family
        told = {name: _version(name) for name in ("rq-tailer", "rq", "redis")}
        yield InfoMetricFamily("tailer_build", "Versions.", {key.replace("-", "_"): told[key] for key in told})


def _pids() -> list[int | str]:
    """Return the processes that tell of themselves in the directory for several of them, else this one."""
    directory = metrics_directory()
    if directory is None:
        return ["self"]
    names = (re.fullmatch(r"gauge_livesum_([0-9]+)\.db", path.name) for path in Path(directory).iterdir())
    return [int(name[1]) for name in names if name and Path("/proc", name[1]).exists()]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
