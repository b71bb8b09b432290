"""Joins capture, pump and shipper for one execution, on whichever side of the fork the draining is done."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq.job import Job

from tailer.jobs import function_in
from tailer.records import Attempt, End
from tailer.settings import Settings
from tailer.store import LogStore, connect, now_ms
from worker.capture import Capture
from worker.console import Console
from worker.counts import COUNTS
from worker.pump import Pump, forward_rest, hung_up
from worker.redact import Masks, Redactor
from worker.ship import Shipper

logger = logging.getLogger("tailer.worker")

PATIENCE_S = 1.0
"""How long a worker waits at the end of a job for Redis to take the rest, before it takes the next job."""
DESCRIPTION = REASON = 500
"""Most characters of a job's description, and of its function's name and the reason for its end, in its records."""


def log_store(settings: Settings, rq_connection: redis.Redis) -> LogStore:
    """Return a store with a connection of its own: on RQ's, a call may wait for minutes and be repeated blindly."""
    if settings.log_url:
        return LogStore.of(connect(settings.log_url), settings)
    pool = rq_connection.connection_pool
    kwargs = {
        **pool.connection_kwargs,
        "socket_timeout": 5.0,
        "socket_connect_timeout": 5.0,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "decode_responses": False,
    }
    own = redis.ConnectionPool(connection_class=pool.connection_class, **kwargs)
    return LogStore.of(redis.Redis(connection_pool=own), settings)


class Recorder:
    """Drains a capture into the store until ``finish``. ``shipper`` is what sends it there."""

    def __init__(
        self,
        capture: Capture,
        store: LogStore,
        job_id: str,
        about: Attempt,
        settings: Settings,
        console: Console | None,
        masks: Masks,
        *,
        taking_over: bool = False,
    ) -> None:
        about = replace(about, description=masks.mask_text(about.description, DESCRIPTION))
        self._capture = capture
        self._console = console
        self.shipper = Shipper(
            LogStore.of(store.connection, settings),  # which are this job's
            job_id,
            about,
            capture.report,
            buffer=settings.buffer,
            spill=settings.spill,
            taking_over=taking_over,
        )
        self._redactor = Redactor(masks, capture.report, self.shipper, taking_over=taking_over)
        takers = [self.shipper.take, console.write] if console else [self.shipper.take]
        self._pump = Pump(capture.sources, takers, capture.report, self._redactor)
        self.shipper.start()
        if taking_over and (rescued := capture.report.rescue()):
            self._pump.hand_out(*rescued)
        self._pump.start()

    def finish(self, end: End, *, leave_rest: bool = False) -> None:
        """Take the job's last words, store the end record behind them, and close the pipes.

        What Redis does not take in time the shipper keeps trying in the background. ``leave_rest`` leaves what a daemon
        of the job still writes to another process, which has the pipes too.
        """
        self._pump.finish()
        if self._console:
            self._console.flush(0.2)
        if end.reason:
            end = replace(end, reason=self._redactor.masks.mask_text(end.reason, REASON))
        self.shipper.finish(end, PATIENCE_S)
        if leave_rest:
            self._capture.close()
        else:
            let_go(self._capture, self._console, self._redactor)

    def wait(self, timeout: float) -> bool:
        """Wait for what ``finish`` left in the background, at most ``timeout`` seconds; returns whether it is done."""
        self.shipper.join(timeout)
        return not self.shipper.is_alive()


def let_go(capture: Capture, console: Console | None, redactor: Redactor) -> None:
    """Close the pipes of a job that has ended, but for those that a daemon of it still writes to."""
    left = [source for source in capture.sources if not hung_up(source)]
    capture.sources = tuple(source for source in capture.sources if source not in left)
    capture.close()
    forward_rest(left, console.write if console else None, redactor)


def record(
    capture: Capture,
    open_store: Callable[[], LogStore],
    job_id: str,
    about: Attempt,
    settings: Settings,
    console: Console | None,
    open_masks: Callable[[], Masks],
    *,
    taking_over: bool = False,
) -> Recorder | None:
    """Start to record. Where that fails, the pipes are emptied all the same, or the job would stand still."""
    redactor = None
    try:
        masks = open_masks()
        redactor = Redactor(masks, capture.report)
        return Recorder(capture, open_store(), job_id, about, settings, console, masks, taking_over=taking_over)
    except Exception:
        logger.exception("job %s: its output cannot be recorded", job_id)
        COUNTS.fault()
        # What cannot be masked is shown nowhere.
        forward_rest(capture.sources, console.write if console and redactor else None, redactor)
        return None


def about(job: Job, execution: str, worker: str, capture: str) -> Attempt:
    """Return the attempt record of an execution that begins now."""
    description, function = (job.description or "")[:DESCRIPTION], (function_in(job.data) or "")[:DESCRIPTION]
    return Attempt(now_ms(), 0, execution, worker, job.origin, description, capture, function)
