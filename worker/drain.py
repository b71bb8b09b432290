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
        for ended in [pid for pid in _unreaped if os.waitpid(pid, os.WNOHANG) != (0, 0)]:
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
            os.write(self._control, json.dumps(end.as_dict()).encode())
        os.close(self._control)
        deadline = time.monotonic() + PATIENCE_S
        process = _process_fd(self._pid)
        while os.waitpid(self._pid, os.WNOHANG) == (0, 0):
            left = deadline - time.monotonic()
            if left <= 0:
                _unreaped.append(self._pid)
                if len(_unreaped) > MAX_UNFINISHED:
                    os.kill(_unreaped[0], signal.SIGKILL)
                break
            select.select([process] if process is not None else [], [], [], left if process is not None else 0.002)
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
        word = _last_word(control)
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


def _last_word(control: int) -> bytes:
    """Wait for what the worker says at the end of the job; empty if it died instead."""
    word = b""
    while data := os.read(control, 1 << 16):
        word += data
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
