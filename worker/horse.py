"""What happens inside the work horse: its output goes into the pipes, RQ's own lines stay on the worker's console."""

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

import rq

from worker.capture import Capture
from worker.console import write_all

RQ_LOGGERS = ("rq", "rq.worker", "rq.job", "rq.queue", "rq.registry", "rq.scheduler")
_RQ_CODE = str(Path(rq.__file__).parent) + os.sep
_OWN_CODE = str(Path(__file__).parent) + os.sep
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
        self.stdout = _keep(1)
        self.stderr = _keep(2)
        os.dup2(capture.stdout, 1)
        os.dup2(capture.stderr, 2)
        self._buffered = _line_buffer()
        self._filter = ConsoleFilter(self.stdout, self.stderr)
        for name in RQ_LOGGERS:
            logging.getLogger(name).addFilter(self._filter)

    def restore(self) -> None:
        """Put everything back as it was."""
        flush()
        for name in RQ_LOGGERS:
            logging.getLogger(name).removeFilter(self._filter)
        os.dup2(self.stdout, 1)
        os.dup2(self.stderr, 2)
        os.close(self.stdout)
        os.close(self.stderr)
        if self._buffered:
            self._buffered.reconfigure(line_buffering=False)


def _keep(fd: int) -> int:
    """Duplicate a console fd, private to this process; a closed one becomes the null device."""
    try:
        copy = os.dup(fd)
    except OSError:
        copy = os.open(os.devnull, os.O_WRONLY)
    os.set_inheritable(copy, False)
    return copy


def _line_buffer() -> io.TextIOWrapper | None:
    """Have ``print`` write whole lines at once; returns ``sys.stdout`` if that changed it.

    On a pipe Python would keep them in a buffer, and lose it when the horse is killed.
    """
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper) and not out.line_buffering:
        with contextlib.suppress(OSError, ValueError):
            out.reconfigure(line_buffering=True)
            return out
    return None


def flush() -> None:
    """Write out what Python and C keep in their buffers; RQ leaves the horse by ``os._exit``, which would lose it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # A job may close them, or put anything in their place.
            stream.flush()
    _LIBC.fflush(None)


def children_unbuffered() -> None:
    """Let Python programs that the job starts write at once. A variable the user has set, even to nothing, stays."""
    os.environ.setdefault("PYTHONUNBUFFERED", "1")


class ConsoleFilter(logging.Filter):
    """Sends records that RQ's own code makes to the console, and lets all others go their way into the job's log."""

    def __init__(self, stdout: int, stderr: int) -> None:
        super().__init__()
        self._fds = {1: stdout, 2: stderr}

    def filter(self, record: logging.LogRecord) -> bool:
        """Emit RQ's records here; anything else passes."""
        if not record.pathname.startswith(_RQ_CODE):
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
    """Write the job's traceback to fd 2, without the frames of RQ that called the job."""
    while tb and tb.tb_frame.f_code.co_filename.startswith((_RQ_CODE, _OWN_CODE)):
        tb = tb.tb_next
    text = "".join(traceback.format_exception(kind, value, tb))
    flush()
    with contextlib.suppress(OSError):
        write_all(2, text.encode(errors="backslashreplace"))


def when_orphaned(parent: int, take_over: Callable[[], None]) -> None:
    """Call ``take_over`` once if the worker, process ``parent``, dies before this process does.

    Linux sends a signal; its handler starts threads only then, so that a job forks from a single-threaded
    process as it does under plain RQ. Elsewhere a thread looks every half second.
    """
    if sys.platform == "linux":
        # The signal comes twice when the process has been re-parented twice; only the first one counts.
        def handler(_number: int, _frame: object) -> None:
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
