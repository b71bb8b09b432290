"""What is told of jobs in lists and on their own: RQ's view and the log's, in one dictionary for JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rq.job import JobStatus

from tailer.errors import InvalidParameter, LogExpired, UnknownJob
from tailer.formats import rfc3339, state_of
from tailer.jobs import WAITING, Jobs, JobState
from tailer.readers import ALL, Reader
from tailer.records import OUTCOMES
from tailer.settings import whole_number
from tailer.store import JOB_ID, AttemptSummary, LogStore, LogSummary, check_job_id

MAX_LIMIT = 500
MAX_SCAN = 5000
"""Most jobs looked at for one page; a filter that finds nothing must not read the whole index."""
LEAST_READ = 100
"""Jobs read at a time, however few are wanted: a filter may find one in thousands."""
LAST_ID = "z" * 200
"""Behind every id of a job."""
STATUSES = tuple(dict.fromkeys([*(status.value for status in JobStatus), *sorted(WAITING)]))
"""RQ's, also those that the RQ of this process is too old to know: workers may have another one."""
Known = tuple[JobState, LogSummary | None]
"""What RQ knows of a job, and the store."""
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


def look_up(store: LogStore, jobs: Jobs, job_id: str, reader: Reader = ALL) -> Known:
    """Return what RQ and the store know of a job.

    Raises:
        UnknownJob: neither of them knows it, or the reader may not read it.
        LogExpired: it had a log.
    """
    check_job_id(job_id)
    if reader.only not in {None, job_id}:
        raise UnknownJob(job_id, restricted=True)
    state = jobs.state(job_id)
    # One that is to run has no log yet, or one in Redis: it must not need the archive.
    summary = (store.near if state.waiting else store).summary(job_id)
    if state.status is None and summary is None:
        # Nobody knows any more whose it was: who may not read all is not told that there was one.
        if (reader.only or not reader.restricted) and store.expired(job_id):
            raise LogExpired(job_id)
        raise UnknownJob(job_id, restricted=reader.restricted)
    if not reader.reads(jobs, state, summary):
        raise UnknownJob(job_id, restricted=True)
    return state, summary


def page(store: LogStore, jobs: Jobs, query: ListQuery, reader: Reader = ALL) -> dict[str, Any]:
    """Return a page of jobs: those that wait in a queue first (on the first page), then those with a log, newest first.

    Only those that ``reader`` may read. ``next`` is what ``before`` of the next page is, ``None`` on the last one.
    """
    found, following = find(store, jobs, query, reader)
    return {"jobs": [describe(*known) for known in found], "next": following}


def find(store: LogStore, jobs: Jobs, query: ListQuery, reader: Reader = ALL) -> tuple[list[Known], str | None]:
    """Return the jobs of a page, and what ``before`` of the next one is: see ``page``."""
    found = _waiting(store, jobs, query, reader) if query.before is None else []
    place, told, scanned, size = query.before, query.before, 0, max(query.limit, LEAST_READ)
    while scanned < MAX_SCAN:
        entries = store.jobs(limit=size, before=place)
        for entry, (state, summary) in zip(entries, known(store, jobs, [job_id for _, job_id in entries]), strict=True):
            if len(found) >= query.limit:
                # Where those in queues fill the first page, the second one begins with the newest log.
                return found, _next(told or (entry[0] + 1, "-"))
            place = entry
            if reader.reads(jobs, state, summary):
                told = entry
                if summary and _matches(state, summary, query):
                    found.append((state, summary))
        scanned += len(entries)
        if len(entries) < size:
            return found, None
    # The id of a job that is not for this reader must not be in what it gets; so those of the same time come again.
    return found, _next(place if place == told else (place[0], LAST_ID)) if place else None


def _waiting(store: LogStore, jobs: Jobs, query: ListQuery, reader: Reader) -> list[Known]:
    """Return the jobs that wait in a queue and have no log yet."""
    # With others' jobs before its own, a reader must find those all the same.
    limit = MAX_SCAN if reader.restricted else query.limit
    ids = [job_id for job_id in jobs.queued(queue=query.queue, limit=limit) if JOB_ID.fullmatch(job_id)]
    found: list[Known] = []
    size = max(query.limit, LEAST_READ)
    for start in range(0, len(ids), size):
        for state, summary in known(store, jobs, ids[start : start + size]):
            # One that waits for another attempt has a log, and is found by that; a queue may name jobs that are gone.
            wanted = summary is None and state.status and _matches(state, summary, query)
            if wanted and len(found) < query.limit and reader.reads(jobs, state, summary):
                found.append((state, summary))
        if len(found) >= query.limit:
            break
    return found


def _next(place: tuple[int, str]) -> str:
    return f"{place[0]}:{place[1]}"


def known(store: LogStore, jobs: Jobs, ids: list[str]) -> list[Known]:
    """Return what is known of each of these jobs."""
    if not ids:
        return []
    # A log whose key somebody has overwritten counts as none.
    summaries = (one if isinstance(one, LogSummary) else None for one in store.summaries(ids))
    return list(zip(jobs.states(ids), summaries, strict=True))


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
