"""Aftercare: what a log may still need when its job is over and the worker has gone on.

Redis may not have taken its end yet. Or it has, and loses it again: one that is killed forgets what its append-only
file does not hold yet (with ``everysec`` up to two seconds of it, by Redis's documentation), one that fails over what
its replica had not got. So whatever was sent is kept for a moment longer, and then looked for. A log that is there is
sealed then, so that it takes less room for as long as it lives.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import cache, partial

from tailer.errors import TailerError
from worker.ship import Shipper

logger = logging.getLogger("tailer.worker")

EXIT_PATIENCE_S = 5.0
"""How long a worker that exits waits for output that Redis has not taken yet."""
MAX_UNFINISHED = 4
"""Ended jobs whose output may still wait for Redis; the oldest is given up for a new one, so memory is bounded."""
KEPT_S = 3.0
"""How long after its end a log is looked for."""
MAX_KEPT = 100
"""Logs that wait for that look; and bytes of what was sent of them. The oldest are let go for new ones."""
MAX_KEPT_BYTES = 8 << 20
LOOK_S = 0.5


class Aftercare:
    """Looks after the ended logs of a worker, from a thread that is there only while the worker does not fork."""

    def __init__(self) -> None:
        self._unfinished: deque[Shipper] = deque()
        self._kept: deque[tuple[float, Shipper]] = deque()
        self._in_hand: Shipper | None = None
        self._sealing: deque[Iterator[None]] = deque(maxlen=MAX_KEPT)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._resting = False

    def add(self, shipper: Shipper) -> None:
        """Look after this one, whose ``finish`` was called."""
        with self._changed:
            self._unfinished.append(shipper)
            self._sort()
            if len(self._unfinished) > MAX_UNFINISHED:
                self._unfinished.popleft().abandon()
        _finish_at_exit(self, os.getpid())
        self.go_on()

    def rest(self, patience: float = 0.1) -> bool:
        """End the thread, as RQ forks now and should have one thread only; it may be talking to Redis, though.

        Returns whether it has ended within ``patience`` seconds.
        """
        with self._changed:
            self._resting = True
            self._changed.notify()
            thread = self._thread
        if thread:
            thread.join(patience)
        return not (thread and thread.is_alive())

    def go_on(self) -> None:
        """Start the thread again, if there is anything to do."""
        with self._changed:
            self._resting = False
            if (self._kept or self._unfinished or self._sealing) and not (self._thread and self._thread.is_alive()):
                self._thread = threading.Thread(target=self._run, name="tailer-aftercare", daemon=True)
                self._thread.start()

    def finish(self) -> None:
        """Have Redis take all, and look for what it has taken: now, or when it is back, but not for long.

        RQ's worker quits, for one, if Redis is away when its job has just ended.
        """
        deadline = time.monotonic() + EXIT_PATIENCE_S
        resting = self.rest(EXIT_PATIENCE_S)
        for shipper in list(self._unfinished):
            shipper.join(max(0.0, deadline - time.monotonic()))
        self._sort()
        while resting and self._kept and (left := deadline - time.monotonic()) > 0:
            self._look_after(self._kept[0][1], left)
        while resting and self._sealing and time.monotonic() < deadline:
            self._seal()

    def _sort(self) -> None:
        """Keep those whose end is stored now, within limits; forget those that have given up."""
        for shipper in [shipper for shipper in self._unfinished if not shipper.is_alive()]:
            self._unfinished.remove(shipper)
            if shipper.stored:
                self._kept.append((time.monotonic() + KEPT_S, shipper))
        held = sum(shipper.held for _, shipper in self._kept)
        while len(self._kept) > MAX_KEPT or held > MAX_KEPT_BYTES:
            oldest = next((kept for kept in self._kept if kept[1] is not self._in_hand), None)
            if oldest is None:
                break
            self._kept.remove(oldest)
            held -= oldest[1].held
            oldest[1].let_go()

    def _run(self) -> None:
        while work := self._next():
            work()

    def _look_after(self, shipper: Shipper, patience: float | None = None) -> None:
        self._in_hand = shipper
        try:
            if not shipper.look_after(patience):
                return
            self._sealing.append(shipper.seal())
        except TailerError:  # Redis is away just now
            with self._changed:
                self._changed.wait_for(lambda: self._resting and patience is None, LOOK_S)
            return
        except Exception:
            logger.exception("looking after a log failed")
        finally:
            self._in_hand = None
        with self._changed:
            if self._kept and self._kept[0][1] is shipper:
                self._kept.popleft()
        shipper.let_go()

    def _seal(self) -> None:
        """Do a step of sealing the oldest of the logs that wait for that. One that cannot be stays as it is."""
        try:
            next(self._sealing[0])
        except StopIteration:
            self._sealing.popleft()
        except Exception as error:  # noqa: BLE001 (no log is lost, and no job waits)
            logger.warning("a log stays as it was written: %s", error)
            self._sealing.popleft()

    def _next(self) -> Callable[[], None] | None:
        """Wait for what is to be done next; ``None`` if there is nothing, or it is time to rest."""
        with self._changed:
            while not self._resting:
                self._sort()
                wait = self._kept[0][0] - time.monotonic() if self._kept else LOOK_S
                if self._kept and wait <= 0:
                    return partial(self._look_after, self._kept[0][1])
                if self._sealing:
                    return self._seal
                if not self._kept and not self._unfinished:
                    break
                self._changed.wait(min(wait, LOOK_S) if self._unfinished else wait)
            self._thread = None
            return None


@cache
def _finish_at_exit(aftercare: Aftercare, _pid: int) -> None:
    """Have this process finish at its exit.

    ``atexit`` would do nothing in the workers of RQ's pool: processes of multiprocessing leave by ``os._exit``, behind
    finalizers of its own, and forget those that were there before their fork.
    """
    from multiprocessing.util import Finalize  # noqa: PLC0415 (every job's process imports this module)

    Finalize(None, aftercare.finish, exitpriority=1)
