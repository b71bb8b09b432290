"""Waits for many sockets at once, in a thread or, under gevent, in a greenlet that lets others run meanwhile."""

from __future__ import annotations

import os
import select
import sys
from typing import Any

GONE = 0x2000 | 0x10 | 0x8
"""``EPOLLRDHUP | EPOLLHUP | EPOLLERR``: the other side has closed, or at least sends nothing more."""
OUT = 0x4
ONE_SHOT = 1 << 30
AT_ONCE = 1024


def _epoll() -> Any:
    """Return ``select.epoll``, which gevent hides, or ``None`` where there is none."""
    monkey = sys.modules.get("gevent.monkey")
    try:
        return monkey.get_original("select", "epoll") if monkey else select.epoll
    except AttributeError:
        return None


def can_watch() -> bool:
    """Return whether this system has what ``Poller.watch`` needs."""
    return _epoll() is not None


class Poller:
    """Some file descriptors to be read, and any number of others that are watched; any thread may ``wake`` it.

    Linux's epoll does the work. Its own descriptor can be waited for with ``select.poll``, which gevent makes
    cooperative. Elsewhere nothing can be watched.
    """

    def __init__(self) -> None:
        self._waiter = select.poll()
        epoll = _epoll()
        self._epoll = epoll() if epoll else None
        if self._epoll:
            self._waiter.register(self._epoll.fileno(), select.POLLIN)
        self._bell, self._rope = os.pipe()
        os.set_blocking(self._bell, False)
        os.set_blocking(self._rope, False)
        self.add(self._bell)

    def add(self, fd: int) -> None:
        """Have ``wait`` return ``fd`` when there is something to read."""
        (self._epoll or self._waiter).register(fd, select.POLLIN)

    def watch(self, fd: int, events: int, *, new: bool = False) -> None:
        """Have ``wait`` return ``fd`` once, when one of ``events`` has happened."""
        if self._epoll:
            (self._epoll.register if new else self._epoll.modify)(fd, events | ONE_SHOT)

    def remove(self, fd: int) -> None:
        """Forget ``fd``."""
        (self._epoll or self._waiter).unregister(fd)

    def wake(self) -> None:
        """Have ``wait`` return soon."""
        try:
            os.write(self._rope, b"!")
        except BlockingIOError:
            return  # It has been rung often enough.

    def wait(self, timeout: float) -> list[tuple[int, int]]:
        """Return what happened, as pairs of a file descriptor and events, after at most ``timeout`` seconds."""
        found = self._waiter.poll(max(0.0, timeout) * 1000)
        if self._epoll:
            found = self._epoll.poll(0, AT_ONCE)
        if any(fd == self._bell for fd, _ in found):
            os.read(self._bell, 1 << 16)
            found = [pair for pair in found if pair[0] != self._bell]
        return found

    def close(self) -> None:
        """Free all."""
        os.close(self._bell)
        os.close(self._rope)
        if self._epoll:
            self._epoll.close()
