"""What this process has counted and not told yet: see ``tailer.figures``."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Mapping

from tailer.figures import ERRORS, FigureStore
from tailer.logs import CURRENT


class Counts:
    """Figures by queue, that wait to be told. Any thread may add to them, which takes a microsecond."""

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
        self.add(CURRENT.get().get("queue", ""), {ERRORS: 1})

    def tell(self, store: FigureStore) -> None:
        """Add all to the sums in Redis. What cannot be told is kept for the next time.

        Raises:
            StoreUnavailable: Redis cannot be reached, or refuses.
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
os.register_at_fork(after_in_child=COUNTS.clear)
