"""What this process has counted and not told yet: see ``tailer.figures``."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress

from tailer import figures
from tailer.errors import CorruptRecord, StoreUnavailable
from tailer.figures import FigureStore
from tailer.logs import CURRENT


class Counts:
    """Figures by queue, that wait to be told. Any thread may add to them, and waits for no Redis."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew: what a process had when it was forked is for its parent to tell."""
        self._lock = threading.Lock()
        self._waiting: dict[str, Counter[str]] = {}

    def add(self, queue: str, amounts: Mapping[str, int]) -> None:
        """Count for jobs of that queue, under names of ``tailer.figures``."""
        with self._lock:
            self._waiting.setdefault(queue, Counter()).update(amounts)

    def fault(self) -> None:
        """Count a fault of Tailer's own, for the queue that this thread is at."""
        self.add(CURRENT.get().get("queue", ""), {figures.ERRORS: 1})

    def tell(self, store: FigureStore) -> None:
        """Add all to the sums in Redis. What cannot be told is kept for the next time.

        Raises:
            StoreUnavailable: Redis cannot be reached, or refuses.
            CorruptRecord: somebody has put something else where the sums are.
        """
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        while waiting:
            queue, amounts = next(iter(waiting.items()))
            try:
                store.add(queue, amounts)
            except BaseException:
                for kept in waiting.items():
                    self.add(*kept)
                raise
            del waiting[queue]


COUNTS = Counts()
"""Of this process."""
os.register_at_fork(after_in_child=COUNTS.clear)


class LogCounts:
    """Counts what happens to one log."""

    def __init__(self, queue: str, store: FigureStore) -> None:
        self._queue = queue
        self._store = store
        self._spilled = 0

    def add(self, name: str, amount: int = 1) -> None:
        """Count under a name of ``tailer.figures``."""
        COUNTS.add(self._queue, {name: amount})

    def appended(self, seconds: float, size: int) -> None:
        """Redis took so many bytes, and that long for it."""
        told = {figures.STORED: size, figures.append_bucket(seconds): 1, figures.APPEND_US: round(seconds * 1e6)}
        COUNTS.add(self._queue, told)

    def missing(self, cause: str, size: int, *, new: bool = True) -> None:
        """There is a hole of so many bytes, or one that was there grew by them."""
        COUNTS.add(self._queue, {f"{figures.HOLES}.{cause}": int(new), f"{figures.HOLE_BYTES}.{cause}": size})

    def waited(self, since: float | None) -> None:
        """The log has waited for Redis since then, as of ``time.monotonic()``, if it has."""
        if since is not None:
            self.add(figures.OUTAGE_MS, round((time.monotonic() - since) * 1000))

    def tell(self, spilled: int) -> None:
        """Tell what this process has counted; what Redis does not take now is told another time.

        ``spilled`` is how many bytes of this log have gone into its file so far.
        """
        if spilled > self._spilled:
            self.add(figures.SPILLED, spilled - self._spilled)
            self._spilled = spilled
        with suppress(StoreUnavailable, CorruptRecord):
            COUNTS.tell(self._store)
