"""The most memory that the processes of a trial have had, watched while they live, for some of them are killed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Self

from bench.usage import peak_memory

LOOK_S = 0.1

Pids = Callable[[], Sequence[int]]


class Peaks:
    """Looks at processes by what they are, for as long as the block lasts. `bytes` is the peak of each kind."""

    def __init__(self, kinds: dict[str, Pids]) -> None:
        self.bytes = dict.fromkeys(kinds, 0)
        self._kinds = kinds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)

    def look(self) -> None:
        """Take notice of how much each has had so far (proc(5): VmHWM)."""
        for kind, pids in self._kinds.items():
            for pid in pids():
                # A process that has ended has no such line any more, or no file.
                with contextlib.suppress(OSError, StopIteration):
                    self.bytes[kind] = max(self.bytes[kind], peak_memory(pid))

    def _run(self) -> None:
        while not self._over.wait(LOOK_S):
            self.look()
