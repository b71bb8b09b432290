"""Which jobs have begun or ended lately, in all queues: looked at once a second for all who follow queues."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from tailer.hub import Hub
from tailer.listing import Known, known

LOOK_S = 1.0
"""How often Redis is asked while somebody follows a queue."""
MARGIN_MS = 5000
"""How much later than its time an entry may get into the index: workers' clocks differ, and Redis may be slow."""
FORGOTTEN_S = 10.0
"""When nobody has asked for so long, nobody follows a queue: what came meanwhile is no news for anybody."""
PAGE = 100
MAX_SCAN = 5000
"""Most entries of the index looked at in one go, and arrivals kept."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A job whose log has begun or ended at ``time`` (ms, as the index has it), with what is known of the job."""

    number: int
    time: int
    known: Known

    @property
    def queue(self) -> str | None:
        """The queue that it is in, or was when it ran last."""
        state, summary = self.known
        about = summary.last.about if summary else None
        return state.queue or (about.queue if about else None)


class Arrivals:
    """The newest arrivals, numbered from 0. ``top`` is the time of the newest one that was ever seen."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._kept: deque[Arrival] = deque(maxlen=MAX_SCAN)
        self._seen: dict[str, int] = {}
        self._next = 0
        self._primed = False
        self.top = 0

    def look(self) -> int:
        """Ask Redis, if nobody has within a second; returns the number of the next arrival.

        Raises ``StoreUnavailable``.
        """
        with self._lock:
            now = time.monotonic()
            if now - self._looked_at < LOOK_S * 0.9:
                return self._next
            forgotten = not self._primed or now - self._looked_at > FORGOTTEN_S
            self._looked_at, self._primed = now, not forgotten
            entries = list(self._entries(None if forgotten else self.top - MARGIN_MS))
            if not forgotten:
                self._take([entry for entry in entries if self._seen.get(entry[1]) != entry[0]])
                # Where more has come than was looked at, a number is missing.
                self._next += len(entries) >= MAX_SCAN
            self.top = max([self.top, *(place for place, _ in entries[:1])])
            self._seen = {job_id: place for place, job_id in entries if place >= self.top - MARGIN_MS}
            self._primed = True
            return self._next

    def _take(self, entries: list[tuple[int, str]]) -> None:
        for place, about in self._described(entries):
            self._kept.append(Arrival(self._next, place, about))
            self._next += 1

    def behind(self, number: int) -> list[Arrival]:
        """Return what there is from ``number`` on, oldest first."""
        with self._lock:
            return [arrival for arrival in self._kept if arrival.number >= number]

    def since(self, floor: int) -> tuple[list[Arrival], bool]:
        """Ask Redis for what has arrived at ``floor`` (ms) or later, oldest first; and whether that is all of it.

        Raises ``StoreUnavailable``.
        """
        entries = list(self._entries(floor))
        return [Arrival(0, place, about) for place, about in self._described(entries)], len(entries) < MAX_SCAN

    def _entries(self, floor: int | None) -> Iterator[tuple[int, str]]:
        """Yield time and id of what is in the index, newest first, down to ``floor``; or the margin of the newest."""
        before = None
        for _ in range(MAX_SCAN // PAGE):
            page = self._hub.store.jobs(limit=PAGE, before=before)
            for entry in page:
                floor = entry[0] - MARGIN_MS if floor is None else floor
                if entry[0] < floor:
                    return
                yield entry
            if len(page) < PAGE:
                return
            before = page[-1]

    def _described(self, entries: list[tuple[int, str]]) -> Iterator[tuple[int, Known]]:
        """Yield time and what is known of each, oldest first."""
        entries.reverse()
        for start in range(0, len(entries), PAGE):
            part = entries[start : start + PAGE]
            about = known(self._hub.store, self._hub.jobs, [job_id for _, job_id in part])
            for (place, _), one in zip(part, about, strict=True):
                if one[1]:  # else its log is gone again, or cannot be read
                    yield place, one
