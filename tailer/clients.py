"""Clients whose connections a web server has lent: who can take more, who has left, and when each goes on."""

from __future__ import annotations

import heapq
import itertools
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tailer.channel import Pause
from tailer.follower import Follower
from tailer.poller import GONE, OUT, Poller

DEADLINE_STEP_S = 60.0
"""How often is looked whether a follower whose stream has to end at a given time is still there."""
FOREVER = float("inf")
DRIVERS = 8
"""Threads that bring followers up to date."""


class Clients:
    """The followers that a hub serves. All is for the hub's thread, but ``len``.

    ``poller`` tells what happens to their sockets. ``do`` has the hub's thread call a function.
    """

    def __init__(self, poller: Poller, do: Callable[..., None]) -> None:
        self._poller = poller
        self._do = do
        self._followers: dict[int, Follower] = {}
        self._timers: list[tuple[float, int, Follower, Pause]] = []
        self._numbers = itertools.count()
        self._drivers = ThreadPoolExecutor(DRIVERS, thread_name_prefix="tailer-follower")

    def __len__(self) -> int:
        return len(self._followers)

    def add(self, follower: Follower) -> None:
        """Serve one more."""
        fd = follower.socket.fileno()
        self._followers[fd] = follower
        self._poller.watch(fd, GONE, new=True)
        self._settle(follower)

    def stir(self, fd: int, events: int) -> None:
        """Deal with what has happened to a client's socket."""
        follower = self._followers.get(fd)
        if follower is None:
            return
        if events & GONE:
            follower.leave(follower.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            if not follower.busy:
                self._drop(follower)
        elif not follower.busy:
            self._resume(follower)

    def let_go(self, follower: Follower) -> None:
        """Have a follower go on by itself that its channel no longer serves, as soon as it takes more."""
        if follower.unsent and not follower.left:
            self._watch(follower, GONE | OUT)
        else:
            self._resume(follower)

    def until_timer(self) -> float:
        """Return the seconds until ``expire_timers`` has something to do."""
        return self._timers[0][0] - time.monotonic() if self._timers else FOREVER

    def expire_timers(self) -> None:
        """Have those go on whose pause is over."""
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, _, follower, pause = heapq.heappop(self._timers)
            if follower.pause is not pause or follower.busy or follower.left:
                continue
            if not follower.feed:
                self._resume(follower)
            elif pause.channel and now >= pause.deadline:
                pause.channel.release(follower)
            else:
                self._set_deadline(follower, pause)

    def close(self) -> None:
        """Let go of timers and threads, when nobody is left."""
        self._timers.clear()
        self._drivers.shutdown(wait=False)

    def _settle(self, follower: Follower) -> None:
        """A follower has been driven as far as it got: see what it waits for."""
        follower.busy = False
        if follower.left or (follower.over and not follower.unsent):
            self._drop(follower)
        elif follower.unsent:
            self._watch(follower, GONE | OUT)
        elif follower.pause is None:
            self._resume(follower)
        else:
            self._watch(follower, GONE)
            self._rest(follower, follower.pause)

    def _watch(self, follower: Follower, events: int) -> None:
        self._poller.watch(follower.socket.fileno(), events)

    def _rest(self, follower: Follower, pause: Pause) -> None:
        if pause.has_news():
            self._resume(follower)
            return
        if pause.channel and pause.channel.park(follower, pause):
            self._set_deadline(follower, pause)
            return
        for channel in pause.channels:
            channel.waiting.add(follower)
        self._set_timer(time.monotonic() + pause.timeout, follower, pause)

    def _set_deadline(self, follower: Follower, pause: Pause) -> None:
        """See to it that a served follower goes on by itself at its deadline."""
        if pause.deadline < FOREVER:
            # In steps: a timer holds the follower, which may have left long before.
            self._set_timer(min(pause.deadline, time.monotonic() + DEADLINE_STEP_S), follower, pause)

    def _set_timer(self, when: float, follower: Follower, pause: Pause) -> None:
        heapq.heappush(self._timers, (when, next(self._numbers), follower, pause))

    def _resume(self, follower: Follower) -> None:
        """Have a follower driven by a thread."""
        if follower.busy:
            return
        for channel in follower.pause.channels if follower.pause else ():
            channel.waiting.discard(follower)
        follower.busy = True
        try:
            self._drivers.submit(self._drive, follower)
        except RuntimeError:  # The interpreter is shutting down.
            follower.busy = False
            self._drop(follower)

    def _drive(self, follower: Follower) -> None:
        follower.drive()
        self._do(self._settle, follower)

    def _drop(self, follower: Follower) -> None:
        for channel in follower.pause.channels if follower.pause else ():
            channel.leave(follower)
        self._followers.pop(follower.socket.fileno(), None)
        follower.left = True
        follower.close()
