"""What workers count, summed up in Redis: each adds what it has counted since it last did, web processes read the sums.

So a worker needs no port, no server and no thread for it, and the sums do not fall when workers come and go.

=============================  ======  =========================================================================
key                            type    what
=============================  ======  =========================================================================
``tailer:{.figures}``          zset    queues by the time (ms) at which a worker last told of them
``tailer:{.figures}:QUEUE``    hash    whole numbers by the names below
=============================  ======  =========================================================================

No job's id has a dot in it, so that these are no job's keys. The newest ``QUEUES`` queues are kept, and each for
``LIFE_MS`` after its last figures.

A figure is ``NAME`` or ``NAME.LABEL``, such as ``jobs.finished``. One whose answer was lost is told again: it may count
twice.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from typing import Any

import redis

from tailer.store import now_ms, redis_errors

INDEX = "tailer:{.figures}"
QUEUES = 100
"""Most queues of which figures are told: applications that make queues as they go have no end of them."""
LIFE_MS = 30 * 24 * 3600 * 1000

JOBS = "jobs"
"""Executions whose log has got its end, by outcome."""
OUTPUT = "output"
"""Bytes taken from jobs, as they go into the log."""
STORED = "stored"
"""Bytes that Redis took for them."""
APPENDS = "appends"
"""Batches that Redis took, by the number of the first of ``APPEND_BOUNDS`` that is no smaller than their time."""
APPEND_US = "append_us"
"""Microseconds that they took."""
APPEND_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds."""
RESENDS = "resends"
"""Times that a worker had to go on from another place than it thought."""
HOLES = "holes"
"""Holes in logs, by cause."""
HOLE_BYTES = "hole_bytes"
"""Bytes in them, by cause."""
BUFFERS_FULL, REDIS_LOST, WORKER_KILLED = CAUSES = ("buffers_full", "redis_lost", "worker_killed")
SPILLED = "spilled"
"""Bytes that went into temporary files."""
OUTAGES = "outages"
"""Times that a log had to wait for Redis."""
OUTAGE_MS = "outage_ms"
"""Milliseconds of waiting."""
ABANDONED = "abandoned"
"""Logs that were given up while Redis was away."""
ERRORS = "errors"
"""Faults of Tailer's own in workers."""

_ADD = """
-- KEYS hash, index; ARGV queue, now ms, ttl ms, most queues, name, amount...
for i = 5, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
"""


def append_bucket(seconds: float) -> str:
    """Return the name under which an append that took so long is counted."""
    return f"{APPENDS}.{bisect.bisect_left(APPEND_BOUNDS, seconds)}"


class FigureStore:
    """Adds to the figures and reads them. All methods raise ``StoreUnavailable``."""

    def __init__(self, connection: redis.Redis) -> None:
        self._connection = connection
        self._add = connection.register_script(_ADD)

    def add(self, queue: str, amounts: Mapping[str, int]) -> None:
        """Add to a queue's figures, in one round trip."""
        pairs = [word for pair in amounts.items() for word in pair]
        with redis_errors():
            self._add(keys=[_key(queue), INDEX], args=[queue, now_ms(), LIFE_MS, QUEUES, *pairs])

    def read(self) -> dict[str, dict[str, int]]:
        """Return the figures of each queue; empty where there are none."""
        with redis_errors():
            names: Any = self._connection.zrevrange(INDEX, 0, QUEUES - 1)
            with self._connection.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.hgetall(_key(name.decode(errors="replace")))
                found = pipe.execute() if names else []
        return {
            name.decode(errors="replace"): {key.decode(errors="replace"): int(value) for key, value in values.items()}
            for name, values in zip(names, found, strict=True)
        }


def _key(queue: str) -> str:
    return f"{INDEX}:{queue}"
