"""The newest jobs, looked at once a second for all pages that show them, and told as what has changed."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

from tailer.errors import StoreUnavailable
from tailer.hub import Hub
from tailer.listing import Known, ListQuery, describe, find
from tailer.readers import Reader

LOOK_S = 1.0
"""How often Redis is asked while somebody looks."""
NEWEST = ListQuery(limit=200)
"""What is shown live; what is older is asked for by pages of ``GET /jobs``."""


class Board:
    """What ``GET /jobs`` would say now, in versions that are counted from 1."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._known: dict[str, Known] = {}
        self._jobs: dict[str, dict[str, Any]] = {}
        self._more = False
        self._version = 0

    def look(self) -> None:
        """Ask Redis, if nobody has within a second. Raises ``StoreUnavailable``, for the one who asked."""
        with self._lock:
            if time.monotonic() - self._looked_at < LOOK_S * 0.9:
                return
            try:
                found, following = find(self._hub.store, self._hub.jobs, NEWEST)
            finally:
                self._looked_at = time.monotonic()
            jobs: dict[str, dict[str, Any]] = {}
            for known in found:
                told, before = describe(*known), self._jobs.get(known[0].job_id)
                # What has not changed stays the same object, so that views need not compare it.
                jobs[known[0].job_id] = before if before == told else told
            if jobs != self._jobs or list(jobs) != list(self._jobs) or not self._version:
                self._known = {known[0].job_id: known for known in found}
                self._jobs, self._more = jobs, following is not None
                self._version += 1

    def at(self, version: int) -> tuple[int, dict[str, Known], dict[str, dict[str, Any]], bool]:
        """Return the newest version: its number, what is known of its jobs and told of them, and if there are more.

        Both are empty if it is ``version`` still.
        """
        with self._lock:
            if version == self._version:
                return version, {}, {}, self._more
            return self._version, self._known, self._jobs, self._more


class View:
    """The board as one reader sees it."""

    def __init__(self, board: Board, hub: Hub, reader: Reader) -> None:
        self._board = board
        self._jobs = hub.jobs
        self._reader = reader
        self._version = 0
        self._told: dict[str, dict[str, Any]] | None = None

    def news(self) -> dict[str, Any] | None:
        """Return what is new since the last call, ``None`` if nothing is or can be known just now.

        Raises ``Unauthorized`` if the reader's credential has ended.

        ``order`` are the ids of all jobs in the list, ``jobs`` those that are new in it or have changed, ``more`` tells
        whether there are older ones.
        """
        self._reader.check()
        # While Redis is away the list stays as it was, as the logs do.
        with suppress(StoreUnavailable):
            self._board.look()
        version, known, jobs, more = self._board.at(self._version)
        if version == self._version:
            return None
        try:
            shown = {job_id: job for job_id, job in jobs.items() if self._reader.reads(self._jobs, *known[job_id])}
        except StoreUnavailable:
            return None
        self._version = version
        before, self._told = self._told, shown
        changed = [job for job_id, job in shown.items() if before is None or before.get(job_id) is not job]
        if before is not None and not changed and list(shown) == list(before):
            return None
        return {"order": list(shown), "jobs": changed, "more": more}
