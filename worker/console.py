"""The worker's own stdout and stderr, where jobs' output still appears as it does with plain RQ."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque

from tailer.records import STDERR

LIMIT = 4 << 20
"""Bytes kept for a console that does not take them (a paused terminal); what comes on top is dropped."""


class Console:
    """Copies output to fds 1 and 2 from a thread of its own, because a console may block for as long as it likes."""

    def __init__(self, stdout: int = 1, stderr: int = 2) -> None:
        self._fds = {False: stdout, True: stderr}
        self._queue: deque[tuple[int, bytes]] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def write(self, stream: str, data: bytes) -> None:
        """Queue ``data``; never waits."""
        with self._changed:
            if self._size >= LIMIT:
                return
            self._queue.append((self._fds[stream == STDERR], data))
            self._size += len(data)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tailer-console", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, timeout: float) -> None:
        """Wait until all is written, at most ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while self._size and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue:
                    self._changed.wait()
                fd, data = self._queue.popleft()
            with contextlib.suppress(OSError):  # The console is closed or gone: there is nobody left to tell.
                write_all(fd, data)
            with self._changed:
                self._size -= len(data)
                self._changed.notify_all()


def write_all(fd: int, data: bytes) -> None:
    """Write every byte; raises ``OSError``."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
