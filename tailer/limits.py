"""How many may follow at once: of one credential, and in all."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Generator
from contextlib import closing

from tailer.channel import Pause
from tailer.errors import TooManyForReader
from tailer.readers import Reader


class Limits:
    """Counts the followers of this process: at most ``each`` of a name, and ``total``."""

    def __init__(self, *, each: int, total: int) -> None:
        self._each = each
        self._total = total
        self._counts: Counter[str] = Counter()
        self._all = 0
        self._lock = threading.Lock()

    def hold(self, items: Generator[bytes | Pause], reader: Reader, weight: int = 1) -> Generator[bytes | Pause]:
        """Return ``items``, counted as ``weight`` followers for as long as they are neither over nor closed.

        That is never more than there may be.

        Raises:
            TooManyForReader: there are as many as there may be.
        """
        weight = min(weight, self._total, self._each if reader.limited else weight)
        with self._lock:
            if self._all + weight > self._total:
                raise TooManyForReader(f"{self._total} follow already; TAILER_MAX_FOLLOWERS allows no more")
            if reader.limited and self._counts[reader.name] + weight > self._each:
                told = f"{self._each} follow with this credential already; TAILER_MAX_FOLLOWERS_EACH allows no more"
                raise TooManyForReader(told)
            self._counts[reader.name] += weight
            self._all += weight
        held = self._held(items, reader.name, weight)
        next(held)  # A generator that was not begun would not notice that it is closed.
        return held

    def _held(self, items: Generator[bytes | Pause], name: str, weight: int) -> Generator[bytes | Pause]:
        try:
            with closing(items):
                yield b""
                yield from items
        finally:
            with self._lock:
                self._all -= weight
                self._counts[name] -= weight
                if not self._counts[name]:
                    del self._counts[name]
