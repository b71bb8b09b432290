"""Reads logs straight from Redis, for the command line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from tailer.arrivals import Arrivals
from tailer.channel import Beat
from tailer.errors import StoreUnavailable
from tailer.follow import Placed, follow, snapshot, waiting
from tailer.hub import Hub
from tailer.listing import look_up
from tailer.many import Many
from tailer.many_lines import by_lines
from tailer.many_logs import Told
from tailer.many_query import ManyQuery
from tailer.query import LogQuery
from tailer.readers import ALL
from tailer.store import Cursor, redis_errors

LOOK_S = 1.0
"""Seconds of silence after which is looked whether Redis is still there."""


class Redis:
    """Looks whether Redis is there. ``notice`` is called with a line for a person when it goes away."""

    def __init__(self, hub: Hub, *, patience: float, notice: Callable[[str], None]) -> None:
        self._hub = hub
        self._patience = patience
        self._notice = notice
        self._away_since: float | None = None

    def look(self, hint: str = "") -> None:
        """See whether it is the job that is silent, or Redis.

        Raises:
            StoreUnavailable: it has been away for ``patience`` seconds. ``hint`` says how to go on.
        """
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
                raise StoreUnavailable(f"{error}: gave up after {self._patience:.0f} s{hint}") from None


class DirectLog:
    """A job's log in Redis, for one reader. ``cursor`` is behind what was yielded so far."""

    def __init__(
        self, hub: Hub, job_id: str, query: LogQuery, *, patience: float, notice: Callable[[str], None]
    ) -> None:
        self._hub = hub
        self._job_id = job_id
        self._query = query
        self._redis = Redis(hub, patience=patience, notice=notice)
        self.cursor: Cursor | None = query.offset

    def events(self) -> Iterator[Placed]:
        """Yield what ``follow`` does, or ``snapshot``.

        Raises:
            UnknownJob, LogExpired, UnknownAttempt, InvalidParameter: there is no such log.
            StoreUnavailable: Redis cannot be reached at first, or not since ``patience`` seconds.
        """
        state, summary = look_up(self._hub.store, self._hub.jobs, self._job_id)
        selection = self._query.select(self._hub.store, state, summary)
        follows = selection.wait
        events = waiting(follow(self._hub, selection, LOOK_S)) if follows else snapshot(self._hub, selection)
        for event, self.cursor in events:
            if isinstance(event, Beat):
                self._redis.look(f"; resume with --offset {self.cursor}")
            yield event, self.cursor


class DirectLogs:
    """Many logs in Redis, for one reader, by lines."""

    def __init__(self, hub: Hub, query: ManyQuery, *, patience: float, notice: Callable[[str], None]) -> None:
        self._many = Many(hub, Arrivals(hub), ALL, query, heartbeat=LOOK_S)
        self._streams = query.each.options.streams
        self._redis = Redis(hub, patience=patience, notice=notice)

    def events(self) -> Iterator[Told]:
        """Yield what ``Many`` tells; raises ``StoreUnavailable`` as ``DirectLog``."""
        self._many.begin()
        for told in waiting(by_lines(self._many.events(), self._streams)):
            if isinstance(told.event, Beat):
                self._redis.look()
            told.accept()
            yield told
