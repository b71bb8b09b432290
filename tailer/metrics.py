"""What Prometheus is told of a web process, or of all processes of one gunicorn.

With ``PROMETHEUS_MULTIPROC_DIR`` set, as ``gunicorn.conf.py`` does for several processes, each writes its figures into
that directory, and whichever is asked adds them up. What Redis knows, workers' figures among it, is gathered when
somebody asks: see ``tailer.gathered``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from tailer.errors import ServerStopping, Unauthorized
from tailer.settings import metrics_directory

CONTENT_TYPE = CONTENT_TYPE_LATEST
REGISTRY = CollectorRegistry()
FOLLOWERS = Gauge("tailer_followers", "Clients that follow a log now.", multiprocess_mode="livesum", registry=REGISTRY)
LOGS = Gauge("tailer_followed_logs", "Logs that are followed now.", multiprocess_mode="livesum", registry=REGISTRY)
OUTPUT = Counter("tailer_output_bytes", "Output of followed jobs, as it came from Redis.", registry=REGISTRY)
SENT = Counter("tailer_sent_bytes", "Bytes sent to followers, as they were encoded.", registry=REGISTRY)
BATCHES = Counter(
    "tailer_batches", "Pieces of output that were encoded once for a group of followers.", registry=REGISTRY
)
DELAY = Histogram(
    "tailer_delay_seconds",
    "From when a worker read output until it was sent to those who are up to date.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
REDIS_LOST = Counter("tailer_redis_lost", "Times that followers had to wait for Redis.", registry=REGISTRY)
ENDED = Counter("tailer_streams_ended", "Streams that ended, by why.", ["reason"], registry=REGISTRY)
STALLED = Counter(
    "tailer_stalled_clients", "Clients dropped because they took nothing, or were not there.", registry=REGISTRY
)
LOST = Counter("tailer_lost_jobs", "Jobs whose log was ended because their worker was lost.", registry=REGISTRY)
REQUESTS = Counter("tailer_requests", "Requests, by route and status.", ["route", "status"], registry=REGISTRY)
REQUEST_TIME = Histogram(
    "tailer_request_seconds",
    "From a request's arrival until the header of its answer, by route.",
    ["route"],
    buckets=(0.005, 0.025, 0.1, 0.5, 2.5, 10),
    registry=REGISTRY,
)
OVER, LEFT = "over", "left"
"""Reasons for the end of a stream: it had told all that there was, or its client had gone."""


for _reason in (OVER, LEFT, "stopping", "credential", "error"):
    ENDED.labels(_reason)  # told of before there is any, to be seen rising


def why(error: Exception) -> str:
    """Return the reason for the end of a stream that ends by this error."""
    match error:
        case ServerStopping():
            return "stopping"
        case Unauthorized():
            return "credential"
    return "error"


@dataclass(slots=True)
class Tally:
    """What a hub has counted since ``publish``: a Prometheus counter takes as long as half of a line's way."""

    output: int = 0
    sent: int = 0
    batches: int = 0
    delays: list[float] = field(default_factory=list)

    def publish(self) -> None:
        """Hand it on, and begin anew."""
        OUTPUT.inc(self.output)
        SENT.inc(self.sent)
        BATCHES.inc(self.batches)
        for delay in self.delays:
            DELAY.observe(delay)
        self.output = self.sent = self.batches = 0
        self.delays.clear()


def exposition(*gathered: Collector) -> bytes:
    """Return all figures, and those of the other collectors, in Prometheus' text format."""
    registry = CollectorRegistry()
    if metrics_directory():
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry.register(REGISTRY)
    for collector in gathered:
        registry.register(collector)
    return generate_latest(registry)
