"""Reads a job's log straight from Redis, for the command line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from tailer.channel import Beat
from tailer.errors import StoreUnavailable
from tailer.follow import Placed, follow, snapshot, waiting
from tailer.hub import Hub
from tailer.listing import look_up
from tailer.query import LogQuery
from tailer.store import Cursor, redis_errors

LOOK_S = 1.0
"""Seconds of silence after which is looked whether Redis is still there."""


class DirectLog:
    """A job's log in Redis, for one reader. ``cursor`` is behind what was yielded so far.

    ``notice`` is called with a line for a person when Redis goes away.
    """

    def __init__(
        self, hub: Hub, job_id: str, query: LogQuery, *, patience: float, notice: Callable[[str], None]
    ) -> None:
        self._hub = hub
        self._job_id = job_id
        self._query = query
        self._patience = patience
        self._notice = notice
        self._away_since: float | None = None
        self.cursor: Cursor | None = query.offset

    def events(self) -> Iterator[Placed]:
        """Yield what ``follow`` does, or ``snapshot``.

        Raises:
            UnknownJob, LogExpired, UnknownAttempt, InvalidParameter: there is no such log.
            StoreUnavailable: Redis cannot be reached at first, or not since ``patience`` seconds.
        """
        _, summary = look_up(self._hub.store, self._hub.jobs, self._job_id)
        selection = self._query.select(self._job_id, self._hub.store, summary)
        follows = selection.wait
        events = waiting(follow(self._hub, selection, LOOK_S)) if follows else snapshot(self._hub, selection)
        for event, self.cursor in events:
            if isinstance(event, Beat):
                self._look()
            yield event, self.cursor

    def _look(self) -> None:
        """See whether it is the job that is silent, or Redis."""
        try:
            with redis_errors():
                self._hub.store.connection.ping()
                self._hub.jobs.connection.ping()
            self._away_since = None
        except StoreUnavailable as error:
            now = time.monotonic()
            if self._away_since is None:
                self._away_since = now
                self._notice(f"waiting for Redis ({error})")
            elif now - self._away_since > self._patience:
                resume = f"; resume with --offset {self.cursor}"
                raise StoreUnavailable(f"{error}: gave up after {self._patience:.0f} s{resume}") from None
