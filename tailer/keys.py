"""Names of a job's keys in Redis; the docstring of ``tailer.store`` says what they hold."""

from __future__ import annotations

import re
import time

import redis

from tailer.errors import UnknownJob

JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")
"""RQ's own rule for job ids (``rq.job.JOB_ID_PATTERN``), with an upper bound: an id becomes part of a key."""


def check_job_id(job_id: str) -> str:
    """Return ``job_id`` if RQ would accept it; raises ``UnknownJob`` otherwise, so that it never becomes a key."""
    if not JOB_ID.fullmatch(job_id):
        raise UnknownJob(job_id)
    return job_id


def meta_key(job_id: str) -> str:
    """Name of the hash of a job, and the start of its other keys."""
    return f"tailer:{{{check_job_id(job_id)}}}"


def list_key(job_id: str, attempt: int) -> str:
    """Name of the list that holds an attempt's log."""
    return f"{meta_key(job_id)}:{attempt}"


def tail_key(job_id: str, attempt: int) -> str:
    """Name of the list that holds the end of an attempt's log, once that is over its limit."""
    return f"{list_key(job_id, attempt)}:tail"


def alive_key(job_id: str, attempt: int) -> str:
    """Name of the key that is there while a worker writes the attempt."""
    return f"{list_key(job_id, attempt)}:alive"


def written_keys(job_id: str, attempt: int) -> list[str]:
    """Keys that a script may touch: a cluster that moves a slot looks whether it has those that are declared."""
    before = [name(job_id, number) for number in range(1, attempt) for name in (list_key, tail_key)]
    own = [name(job_id, attempt) for name in (list_key, alive_key, tail_key)]
    return [meta_key(job_id), *own, *before]


def wake_channel(job_id: str) -> str:
    """Name of the channel on which changes of a job's log are told."""
    return f"{meta_key(job_id)}:wake"


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def all_keys(connection: redis.Redis, job_id: str) -> tuple[int, list[str]]:
    """Return the number of attempts that a job has, and all its keys. Raises redis-py's errors."""
    attempts = int(connection.hget(meta_key(job_id), "attempts") or 0)
    names = [name(job_id, n) for n in range(1, attempts + 1) for name in (list_key, tail_key, alive_key)]
    return attempts, [meta_key(job_id), *names]
