"""Who reads: what is asked about each job before anything of it is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass

from tailer.channel import Pause
from tailer.errors import Unauthorized
from tailer.follow import Placed
from tailer.jobs import Jobs, JobState
from tailer.store import LogSummary

EXPIRED = "the credential with which this stream was opened has expired"


@dataclass(frozen=True, slots=True)
class Subject:
    """A job as access to it is decided: ``queue`` and ``function`` are ``None`` where nobody knows them (any more)."""

    job_id: str
    queue: str | None = None
    function: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Whom a request comes from.

    ``name`` is for the count of followers and for the server's log. ``may_read`` is called for each job, also while a
    stream is sent: it must not need the request; ``None`` is for all jobs. ``only`` is the one job that is read where
    the credential is a link. ``expires_at`` (seconds since 1970) ends its streams. ``admin`` may read figures, and make
    links for longer. ``limited`` is whether there may be only so many followers of that name.
    """

    name: str
    may_read: Callable[[Subject], bool] | None = None
    only: str | None = None
    admin: bool = False
    expires_at: float | None = None
    limited: bool = True

    @property
    def restricted(self) -> bool:
        """Whether there may be jobs that it may not read."""
        return self.may_read is not None or self.only is not None

    def reads(self, jobs: Jobs, state: JobState, summary: LogSummary | None) -> bool:
        """Return whether it may read a job, of which RQ and the store know this. Raises ``StoreUnavailable``."""
        if self.only or self.may_read is None:
            return self.only in {None, state.job_id}
        return all(map(self.may_read, subjects(jobs, state, summary)))

    def check(self) -> None:
        """Raise ``Unauthorized`` if the credential is no longer valid."""
        if self.expires_at is not None and time.time() >= self.expires_at:
            raise Unauthorized(EXPIRED)

    def bounded(self, events: Generator[Placed | Pause]) -> Generator[Placed | Pause]:
        """Return the events of a log, for as long as the credential is valid; raises ``Unauthorized`` behind that."""
        return events if self.expires_at is None else _until(events, self.expires_at)


def _until(events: Generator[Placed | Pause], expires_at: float) -> Generator[Placed | Pause]:
    deadline = time.monotonic() + expires_at - time.time()
    with closing(events):
        for event in events:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Unauthorized(EXPIRED)
            if isinstance(event, Pause):
                event.timeout, event.deadline = min(event.timeout, left), deadline
            yield event


ALL = Reader(name="all")
"""Whoever has Redis itself."""


def subjects(jobs: Jobs, state: JobState, summary: LogSummary | None) -> Iterable[Subject]:
    """Yield the job as RQ knows it, and as it was at each attempt: it may have been in several queues."""
    attempts = summary.attempts if summary else []
    abouts = [attempt.about for attempt in attempts if attempt.about]
    known = [Subject(state.job_id, about.queue or None, about.function or None) for about in abouts]
    if state.status is not None:
        function = known[-1].function if known else jobs.function(state)
        known.append(Subject(state.job_id, state.queue, function))
    # Of an attempt without its record, or a job that is gone, nothing is known.
    if len(abouts) < len(attempts) or not known:
        known.append(Subject(state.job_id))
    return known
