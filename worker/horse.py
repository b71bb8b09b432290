"""What happens inside the work horse: its output goes into the pipes, the worker's lines stay on its console."""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TextIO

import rq

import tailer
from worker.capture import Capture
from worker.console import write_all

WORKERS_LOGGERS = (
    "rq",
    "rq.job",
    "rq.queue",
    "rq.registry",
    "rq.scheduler",
    "rq.utils",
    "rq.webhook",
    "rq.worker",
    "tailer.store",
    "tailer.worker",
)
"""Loggers whose records are for the worker's console, if it is RQ's code or ours that makes them."""
_CALLERS_CODE = tuple(str(Path(file).parent) + os.sep for file in (rq.__file__, __file__))
_WORKERS_CODE = (*_CALLERS_CODE, str(Path(tailer.__file__).parent) + os.sep)
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
ORPHANED = signal.SIGURG
"""Sent by Linux to a horse whose worker died. Ignored by default, so one that comes too early does no harm."""


class Redirection:
    """This process's fds 1 and 2 lead into a capture's pipes until ``restore``.

    ``stdout`` and ``stderr`` are fds of the console as it was before.
    """

    def __init__(self, capture: Capture) -> None:
        flush()
        self.stdout = keep(1)
        self.stderr = keep(2)
        os.dup2(capture.stdout, 1)
        os.dup2(capture.stderr, 2)
        self._buffered = _line_buffer()
        self._filter = ConsoleFilter(self.stdout, self.stderr)
        for name in WORKERS_LOGGERS:
            logging.getLogger(name).addFilter(self._filter)

    def restore(self) -> None:
        """Put everything back as it was."""
        flush()
        for name in WORKERS_LOGGERS:
            logging.getLogger(name).removeFilter(self._filter)
        os.dup2(self.stdout, 1)
        os.dup2(self.stderr, 2)
        os.close(self.stdout)
        os.close(self.stderr)
        for stream in self._buffered:
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(line_buffering=False)


def keep(fd: int) -> int:
    """Duplicate a console fd, private to this process; a closed one becomes the null device."""
    try:
        copy = os.dup(fd)
    except OSError:
        copy = os.open(os.devnull, os.O_WRONLY)
    os.set_inheritable(copy, False)
    return copy


def _line_buffer() -> list[io.TextIOWrapper]:
    """Have ``print`` write whole lines at once; returns the files for which that is a change.

    On a pipe Python would keep them in a buffer, and lose it when the horse is killed.
    """
    changed = []
    for stream in _streams():
        if isinstance(stream, io.TextIOWrapper) and not stream.line_buffering:
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(line_buffering=True)
                changed.append(stream)
    return changed


def _streams() -> list[TextIO]:
    """Python's standard streams, and what somebody may have put in their place."""
    names = ("stdout", "stderr", "__stdout__", "__stderr__")
    return [stream for name in names if (stream := getattr(sys, name, None)) is not None]


def flush() -> None:
    """Write out what Python and C keep in their buffers; RQ leaves the horse by ``os._exit``, which would lose it."""
    for stream in _streams():
        with contextlib.suppress(Exception):  # A job may close them, or put anything in their place.
            stream.flush()
    _LIBC.fflush(None)


def children_unbuffered() -> None:
    """Let Python programs that the job starts write at once. A variable the user has set, even to nothing, stays."""
    os.environ.setdefault("PYTHONUNBUFFERED", "1")


class ConsoleFilter(logging.Filter):
    """Sends records of RQ's code and ours to the console, and lets all others go their way into the job's log."""

    def __init__(self, stdout: int, stderr: int) -> None:
        super().__init__()
        self._fds = {1: stdout, 2: stderr}

    def filter(self, record: logging.LogRecord) -> bool:
        """Emit the worker's records here; anything else passes."""
        if not record.pathname.startswith(_WORKERS_CODE):
            return True
        for handler in _handlers(logging.getLogger(record.name)):
            if record.levelno < handler.level:
                continue
            fd = self._console(handler)
            if fd is None:
                handler.handle(record)
            elif handler.filter(record):
                with contextlib.suppress(OSError):
                    write_all(fd, (handler.format(record) + "\n").encode(errors="backslashreplace"))
        return False

    def _console(self, handler: logging.Handler) -> int | None:
        """Return the console fd in whose place the handler would write into the job's log, if it would."""
        if not isinstance(handler, logging.StreamHandler) or isinstance(handler, logging.FileHandler):
            return None
        try:
            return self._fds.get(handler.stream.fileno())
        except (AttributeError, OSError, ValueError):
            return None


def _handlers(logger: logging.Logger) -> Iterator[logging.Handler]:
    """Yield the handlers that a record of ``logger`` would reach, as ``Logger.callHandlers`` does."""
    current: logging.Logger | None = logger
    found = False
    while current:
        for handler in current.handlers:
            found = True
            yield handler
        current = current.parent if current.propagate else None
    if not found and logging.lastResort:
        yield logging.lastResort


def print_traceback(kind: type[BaseException], value: BaseException, tb: TracebackType | None) -> None:
    """Write the job's traceback to fd 2, without the frames of RQ that called the job or its callback."""
    report = traceback.TracebackException(kind, value, tb)
    _leave_rq_out(report)
    text = "".join(report.format())
    flush()
    with contextlib.suppress(OSError):
        write_all(2, text.encode(errors="backslashreplace"))


def _leave_rq_out(report: traceback.TracebackException) -> None:
    while report.stack and report.stack[0].filename.startswith(_CALLERS_CODE):
        del report.stack[0]
    for other in (report.__cause__, report.__context__):
        if other:
            _leave_rq_out(other)


def when_orphaned(parent: int, take_over: Callable[[], None]) -> None:
    """Call ``take_over`` once if the worker, process ``parent``, dies before this process does.

    Linux sends a signal; its handler starts threads only then, so that a job forks from a single-threaded
    process as it does under plain RQ. Elsewhere a thread looks every half second.
    """
    if sys.platform == "linux":
        # The signal comes when the worker's main thread has gone, and again with each thread that follows it. Until
        # the last one has, the pump may still be reading.
        def handler(_number: int, _frame: object) -> None:
            if os.getppid() != parent:
                signal.signal(ORPHANED, signal.SIG_IGN)
                take_over()

        signal.signal(ORPHANED, handler)
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(ORPHANED), 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), ORPHANED)
    else:

        def watch() -> None:
            while os.getppid() == parent:
                time.sleep(0.5)
            take_over()

        threading.Thread(target=watch, name="tailer-orphan-watch", daemon=True).start()
