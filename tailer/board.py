"""The newest jobs, looked at once a second for all pages that show them, and told as what has changed."""

from __future__ import annotations

import threading
import time
from typing import Any

from tailer.hub import Hub
from tailer.listing import ListQuery, page

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
        self._jobs: dict[str, dict[str, Any]] = {}
        self._changed: list[dict[str, Any]] = []
        self._more = False
        self._version = 0

    def look(self) -> None:
        """Ask Redis, if nobody has within a second. Raises ``StoreUnavailable``."""
        with self._lock:
            if time.monotonic() - self._looked_at < LOOK_S * 0.9:
                return
            found = page(self._hub.store, self._hub.jobs, NEWEST)
            self._looked_at = time.monotonic()
            jobs = {job["job_id"]: job for job in found["jobs"]}
            changed = [job for job_id, job in jobs.items() if self._jobs.get(job_id) != job]
            if changed or list(jobs) != list(self._jobs) or not self._version:
                self._jobs, self._changed, self._more = jobs, changed, found["next"] is not None
                self._version += 1

    def since(self, version: int) -> tuple[int, dict[str, Any] | None]:
        """Return the newest version, and what is new for one who has that ``version`` (0: none).

        ``order`` are the ids of all jobs in the list, ``jobs`` those that are new in it or have changed.
        """
        with self._lock:
            if version == self._version:
                return version, None
            jobs = self._changed if version == self._version - 1 else list(self._jobs.values())
            return self._version, {"order": list(self._jobs), "jobs": jobs, "more": self._more}
