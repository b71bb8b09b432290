"""How many may follow, or search, at once: of one credential, and in all."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Generator
from contextlib import closing

from tailer.channel import Pause
from tailer.errors import TooManyForReader
from tailer.readers import Reader


class Limits:
    """Counts the followers of this process: at most ``each`` of a name, and ``total``.

    Who is one too many gets ``error``, with what they are ``doing``, and the ``setting`` that allows no more.
    """

    def __init__(
        self,
        *,
        each: int,
        total: int,
        doing: str = "follow",
        setting: str | None = "TAILER_MAX_FOLLOWERS",
        error: type[TooManyForReader] = TooManyForReader,
    ) -> None:
        self._each = each
        self._total = total
        self._doing = doing
        self._setting = setting
        self._error = error
        self._counts: Counter[str] = Counter()
        self._all = 0
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """How many there are."""
        return self._all

    def hold(self, items: Generator[bytes | Pause], reader: Reader, weight: int = 1) -> Generator[bytes | Pause]:
        """Return ``items``, counted as ``weight`` followers for as long as they are neither over nor closed.

        That is never more than there may be.

        Raises:
            TooManyForReader: there are as many as there may be.
        """
        weight = min(weight, self._total, self._each if reader.limited else weight)
        with self._lock:
            if self._all + weight > self._total:
                raise self._too_many(f"{self._total} {self._doing} already", "")
            if reader.limited and self._counts[reader.name] + weight > self._each:
                raise self._too_many(f"{self._each} {self._doing} with this credential already", "_EACH")
            self._counts[reader.name] += weight
            self._all += weight
        held = self._held(items, reader.name, weight)
        next(held)  # A generator that was not begun would not notice that it is closed.
        return held

    def _too_many(self, told: str, suffix: str) -> TooManyForReader:
        why = f"{self._setting}{suffix} allows no more" if self._setting else "ask again when one of them is done"
        return self._error(f"{told}; {why}")

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
