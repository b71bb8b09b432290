"""A process that drains the pipes of a job which runs in its worker's own process (``SimpleWorker``)."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import time
from functools import partial
from typing import NoReturn

import redis

from tailer.records import Attempt, End
from tailer.settings import Settings
from worker.aftercare import EXIT_PATIENCE_S, MAX_UNFINISHED
from worker.capture import Capture
from worker.console import Console
from worker.recorder import PATIENCE_S, log_store, record
from worker.redact import Masks

logger = logging.getLogger("tailer.worker")

WORD_END = b"\n"
"""Behind the last word: JSON has no newline."""
LOOK_MS = 1000
"""How often the draining process looks whether its worker is there."""
_unreaped: list[int] = []
"""Processes that still waited for Redis when their worker went on."""


class Drain:
    """The draining process, as its worker sees it."""

    def __init__(self, pid: int, control: int) -> None:
        self._pid = pid
        self._control = control

    @classmethod
    def start(
        cls,
        capture: Capture,
        job_id: str,
        about: Attempt,
        settings: Settings,
        connection: redis.Redis,
        masks: Masks,
    ) -> Drain:
        """Fork it. To be called before fds 1 and 2 are redirected: they are its console."""
        for ended in [pid for pid in _unreaped if _has_ended(pid)]:
            _unreaped.remove(ended)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(write)
            _run(capture, read, job_id, about, settings, connection, masks)
        os.close(read)
        return cls(pid, write)

    def finish(self, end: End) -> None:
        """Have it take the last words and write ``end``; waits for it, but not for a Redis that is away."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._control, json.dumps(end.as_dict()).encode() + WORD_END)
        os.close(self._control)
        if not _ends_within(self._pid, PATIENCE_S):
            _unreaped.append(self._pid)
            if len(_unreaped) > MAX_UNFINISHED:
                os.kill(_unreaped[0], signal.SIGKILL)


def _has_ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG) != (0, 0)
    except ChildProcessError:  # A job may wait for all children, or have the system forget them.
        return True


def _ends_within(pid: int, seconds: float) -> bool:
    """Wait for the process; returns whether it has ended."""
    deadline = time.monotonic() + seconds
    process = _process_fd(pid)
    poller = select.poll()
    if process is not None:
        poller.register(process, select.POLLIN)
    try:
        while not (ended := _has_ended(pid)) and (left := deadline - time.monotonic()) > 0:
            poller.poll(1000 * left if process is not None else 2)
        return ended
    finally:
        if process is not None:
            os.close(process)


def _process_fd(pid: int) -> int | None:
    """Return an fd that becomes readable when ``pid`` ends, where the system has such a thing (Linux)."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def _run(
    capture: Capture,
    control: int,
    job_id: str,
    about: Attempt,
    settings: Settings,
    connection: redis.Redis,
    masks: Masks,
) -> NoReturn:
    """Drain until the worker says how the job ended, or is gone."""
    worker = os.getppid()
    try:
        # Ctrl-C at a terminal and a dyno's SIGTERM are for the job; its last words still come through here.
        os.setpgrp()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        capture.close_write_ends()
        console = Console() if settings.console else None
        open_store = partial(log_store, settings, connection)
        recorder = record(capture, open_store, job_id, about, settings, console, lambda: masks)
        word = _last_word(control, worker)
        if recorder:
            # A worker that lives reads what comes later: this process would take it along when it exits.
            recorder.finish(End(**json.loads(word)) if word else _worker_died(about), leave_rest=bool(word))
            while os.getppid() == worker and not recorder.wait(1.0):
                pass
            recorder.wait(EXIT_PATIENCE_S)
    except Exception:
        logger.exception("job %s: ending its log failed", job_id)
    finally:
        os._exit(0)


def _last_word(control: int, worker: int) -> bytes:
    """Wait for what the worker says at the end of the job; empty if it died instead.

    The pipe's end is no sign of that: a process that the job has forked may hold it open.
    """
    word = b""
    poller = select.poll()
    poller.register(control, select.POLLIN)
    while not word.endswith(WORD_END):
        if poller.poll(LOOK_MS):
            data = os.read(control, 1 << 16)
            if not data:
                return b""
            word += data
        elif os.getppid() != worker:
            return b""
    return word


def _worker_died(about: Attempt) -> End:
    return End(
        outcome="lost",
        attempt=0,
        final=True,
        reason="the worker died",
        worker=about.worker,
        duration=round(time.time() - about.time / 1000, 3),
        ended_at=round(time.time(), 3),
    )
