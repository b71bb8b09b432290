"""What RQ says of a job.

Reads RQ's hashes and queues only: its registries' methods clean up when they are read, which runs users' failure
callbacks in the web process, and unpickling a job runs users' code.
"""

from __future__ import annotations

import json
import pickletools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import redis
from rq.job import Job
from rq.queue import Queue
from rq.registry import StartedJobRegistry
from rq.utils import str_to_date

from tailer.store import check_job_id, now_ms, redis_errors

WAITING = frozenset({"created", "queued", "scheduled", "deferred", "rate_limited", "ready_to_enqueue"})
"""RQ's states of a job that has yet to run (again)."""
MOST_FUNCTIONS = 10_000
"""Names of functions kept: they are looked up once a job, and only for readers who are limited to some."""
_FUNCTION_IN = 1 << 16
"""Bytes of a job's data in which the name of its function must be; it is the first thing there."""
_FIELDS = (
    "status",
    "origin",
    "description",
    "created_at",
    "enqueued_at",
    "started_at",
    "ended_at",
    "worker_name",
)


@dataclass(frozen=True, slots=True)
class JobState:
    """RQ's view of a job. ``status`` is ``None`` if RQ does not know it (any more).

    ``position`` counts from 1 in the queue, for a queued job. Times are ms since 1970. ``expires_at`` is when RQ
    will forget the job, ``None`` if it will not, or not by itself.
    """

    job_id: str
    status: str | None = None
    queue: str | None = None
    position: int | None = None
    description: str | None = None
    created_at: int | None = None
    enqueued_at: int | None = None
    started_at: int | None = None
    ended_at: int | None = None
    worker: str | None = None
    expires_at: int | None = field(default=None, compare=False)

    @property
    def waiting(self) -> bool:
        """Whether the job has yet to run, or to run again."""
        return self.status in WAITING

    @property
    def over(self) -> bool:
        """Whether the job neither runs nor waits. One that RQ does not know is over, too."""
        return not self.waiting and self.status != "started"


class Jobs:
    """Reads the states of jobs from RQ's Redis. All methods raise ``StoreUnavailable`` when it cannot be reached."""

    def __init__(self, connection: redis.Redis) -> None:
        self.connection = connection
        self._functions: dict[tuple[str, int | None], str | None] = {}

    def state(self, job_id: str) -> JobState:
        """Return RQ's view of one job."""
        return self.states([job_id])[0]

    def states(self, job_ids: Sequence[str]) -> list[JobState]:
        """Return RQ's view of each job, in two round trips."""
        with redis_errors():
            with self.connection.pipeline(transaction=False) as pipe:
                for job_id in job_ids:
                    pipe.hmget(Job.key_for(check_job_id(job_id)), _FIELDS)
                    pipe.pttl(Job.key_for(job_id))
                # A key that somebody else has overwritten is that job's trouble, and no other's.
                answers = pipe.execute(raise_on_error=False)
            states = list(map(_fields, answers[::2], answers[1::2]))
            queued = [i for i, state in enumerate(states) if state.get("status") == "queued" and state["queue"]]
            with self.connection.pipeline(transaction=False) as pipe:
                for i in queued:
                    pipe.lpos(Queue.redis_queue_namespace_prefix + states[i]["queue"], job_ids[i])
                for i, position in zip(queued, pipe.execute(raise_on_error=False), strict=True):
                    states[i]["position"] = position + 1 if isinstance(position, int) else None
        return [JobState(job_id, **state) for job_id, state in zip(job_ids, states, strict=True)]

    def function(self, state: JobState) -> str | None:
        """Return the name of the function that a job calls; ``None`` if it cannot be known."""
        # An id may be used again, for another function.
        known = state.job_id, state.created_at
        if known not in self._functions:
            with redis_errors():
                data: Any = self.connection.hget(Job.key_for(check_job_id(state.job_id)), "data")
            if len(self._functions) >= MOST_FUNCTIONS:
                self._functions.clear()
            self._functions[known] = function_in(data) if data else None
        return self._functions[known]

    def queued(self, *, queue: str | None, limit: int) -> list[str]:
        """Return ids of jobs that wait in a queue, or in all of them, next to run first."""
        with redis_errors():
            if queue is not None:
                keys = [Queue.redis_queue_namespace_prefix + queue]
            else:
                names: Any = self.connection.smembers(Queue.redis_queues_keys)
                keys = sorted(name.decode() for name in names)
            with self.connection.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.lrange(key, 0, limit - 1)
                found = pipe.execute()
        return [job_id.decode(errors="replace") for ids in found for job_id in ids][:limit]

    def running(self, queue: str, *, limit: int) -> list[str]:
        """Return ids of jobs of a queue that run, as RQ has it, those that may run longest last."""
        with redis_errors():
            found: Any = self.connection.zrange(StartedJobRegistry.key_template.format(queue), 0, limit - 1)
        # An entry is that of an execution: JOB:EXECUTION.
        return list(dict.fromkeys(entry.decode(errors="replace").partition(":")[0] for entry in found))


def function_in(data: bytes) -> str | None:
    """Return the name of the function in a job's data as RQ stores it; ``None`` if it is not found.

    The data is a tuple that begins with the name, pickled or as JSON, and perhaps compressed. It is looked at and
    never unpickled, which would run what is in there.
    """
    try:
        data = zlib.decompressobj().decompress(data, _FUNCTION_IN)
    except zlib.error:
        data = data[:_FUNCTION_IN]
    try:
        if data.startswith(b"["):
            # What a long list of arguments was cut to is no JSON any more, but its first member is.
            name, _ = json.JSONDecoder().raw_decode(data[1:].decode(errors="replace"))
            return name if isinstance(name, str) else None
        opened = False
        for code, value, _ in pickletools.genops(data):
            if opened and isinstance(value, str) and "UNICODE" in code.name:
                return value
            if code.name not in {"PROTO", "FRAME", "MARK"}:
                return None
            opened = code.name == "MARK"
    except ValueError:
        return None
    return None


def _fields(values: Sequence[bytes | None] | Exception, ttl: int) -> dict[str, Any]:
    if isinstance(values, Exception):
        return {}
    text = [value.decode(errors="replace") if value else None for value in values]
    status, origin, description, created, enqueued, started, ended, worker = text
    if not any(text):
        return {}
    return {
        # RQ before 2.4.1 saved jobs without a status; it reads them as created.
        "status": status or "created",
        "queue": origin,
        "description": description,
        "created_at": _ms(created),
        "enqueued_at": _ms(enqueued),
        "started_at": _ms(started),
        "ended_at": _ms(ended),
        "worker": worker,
        "expires_at": now_ms() + ttl if ttl > 0 else None,
    }


def _ms(text: str | None) -> int | None:
    if not text:
        return None
    try:
        date: datetime = str_to_date(text.encode())
    except ValueError:
        return None
    return int(date.timestamp() * 1000)
