"""What is told of jobs in lists and on their own: RQ's view and the log's, in one dictionary for JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rq.job import JobStatus

from tailer.errors import InvalidParameter, LogExpired, UnknownJob
from tailer.formats import rfc3339, state_of
from tailer.jobs import Jobs, JobState
from tailer.records import OUTCOMES
from tailer.settings import whole_number
from tailer.store import JOB_ID, AttemptSummary, LogStore, LogSummary, check_job_id

MAX_LIMIT = 500
MAX_SCAN = 5000
"""Most jobs looked at for one page; a filter that finds nothing must not read the whole index."""
STATUSES = tuple(status.value for status in JobStatus)
_BEFORE = re.compile(r"([0-9]{1,15}):([A-Za-z0-9_-]{1,200})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """The parameters of ``GET /jobs``. ``status`` is one of RQ's or an outcome."""

    limit: int = 50
    before: tuple[int, str] | None = None
    queue: str | None = None
    status: str | None = None

    @classmethod
    def parse(cls, args: Mapping[str, str]) -> ListQuery:
        """Read the query string; raises ``InvalidParameter``."""
        for name in args:
            if name not in {"limit", "before", "queue", "status"}:
                raise InvalidParameter(name[:80], args[name][:80], "the parameters are before, limit, queue, status")
        limit = _limit(args.get("limit", "50"))
        before = None
        if text := args.get("before"):
            match = _BEFORE.fullmatch(text)
            if not match:
                raise InvalidParameter("before", text[:200], 'use the "next" of the page before')
            before = int(match[1]), match[2]
        status = args.get("status") or None
        allowed = tuple(dict.fromkeys((*STATUSES, *OUTCOMES)))
        if status is not None and status not in allowed:
            raise InvalidParameter("status", status[:200], "use one of " + ", ".join(allowed))
        return cls(limit=limit, before=before, queue=args.get("queue") or None, status=status)


def _limit(value: str) -> int:
    allowed = f"use a whole number from 1 to {MAX_LIMIT}"
    try:
        limit = whole_number(value)
    except ValueError:
        limit = 0
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidParameter("limit", value[:200], allowed)
    return limit


def look_up(store: LogStore, jobs: Jobs, job_id: str) -> tuple[JobState, LogSummary | None]:
    """Return what RQ and the store know of a job.

    Raises:
        UnknownJob: neither of them knows it.
        LogExpired: it had a log.
    """
    check_job_id(job_id)
    state, summary = jobs.state(job_id), store.summary(job_id)
    if state.status is None and summary is None:
        raise LogExpired(job_id) if store.expired(job_id) else UnknownJob(job_id)
    return state, summary


def page(store: LogStore, jobs: Jobs, query: ListQuery) -> dict[str, Any]:
    """Return a page of jobs: those that wait in a queue first (on the first page), then those with a log, newest first.

    ``next`` is what ``before`` of the next page is, ``None`` on the last one.
    """
    found: list[dict[str, Any]] = []
    if query.before is None:
        ids = [job_id for job_id in jobs.queued(queue=query.queue, limit=query.limit) if JOB_ID.fullmatch(job_id)]
        for state, summary in _both(store, jobs, ids):
            # One that waits for another attempt has a log, and is found by that; a queue may name jobs that are gone.
            if summary is None and state.status and _matches(state, summary, query):
                found.append(describe(state, summary))
    last, scanned = query.before, 0
    while scanned < MAX_SCAN:
        entries = store.jobs(limit=query.limit, before=last)
        for entry, (state, summary) in zip(entries, _both(store, jobs, [job_id for _, job_id in entries]), strict=True):
            if len(found) >= query.limit:
                # Where those in queues fill the first page, the second one begins with the newest log.
                time, job_id = last or (entry[0] + 1, "-")
                return {"jobs": found, "next": f"{time}:{job_id}"}
            last = entry
            if summary and _matches(state, summary, query):
                found.append(describe(state, summary))
        scanned += len(entries)
        if len(entries) < query.limit:
            return {"jobs": found, "next": None}
    return {"jobs": found, "next": f"{last[0]}:{last[1]}" if last else None}


def _both(store: LogStore, jobs: Jobs, ids: list[str]) -> list[tuple[JobState, LogSummary | None]]:
    return list(zip(jobs.states(ids), store.summaries(ids), strict=True)) if ids else []


def _matches(state: JobState, summary: LogSummary | None, query: ListQuery) -> bool:
    told = describe(state, summary)
    return query.queue in {None, told["queue"]} and query.status in {None, told["status"], told["outcome"]}


def describe(state: JobState, summary: LogSummary | None) -> dict[str, Any]:
    """Return what clients are told of a job: RQ's fields, and totals and attempts of its log."""
    told = state_of(state)
    attempts = summary.attempts if summary else []
    about = attempts[-1].about if attempts else None
    end = attempts[-1].end if attempts else None
    if about and state.status is None:
        # RQ has forgotten the job; the log has not.
        told |= {"queue": about.queue, "description": about.description, "worker": about.worker}
    return {
        **told,
        "outcome": end.outcome if end else None,
        "bytes": sum(attempt.bytes for attempt in attempts),
        "lines": sum(attempt.lines for attempt in attempts),
        "attempts": [_attempt(attempt) for attempt in attempts],
    }


def _attempt(attempt: AttemptSummary) -> dict[str, Any]:
    return {
        "attempt": attempt.number,
        "started_at": rfc3339(attempt.started),
        "worker": attempt.about.worker if attempt.about else None,
        "bytes": attempt.bytes,
        "lines": attempt.lines,
        "end": attempt.end.as_dict() if attempt.end else None,
    }
