"""The job of the fault suite, which may end in many ways. To an RQ queue it is `tests.faults.jobs.numbered`."""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

from tailer.records import STDOUT
from tests.faults.account import SHAPES, Account

PATIENCE_S = 240
"""How long a job goes on without being told how far, so that one which was forgotten ends by itself."""


def numbered(path: str, shape: str, rate: float, then: str = "") -> int:
    """Write `rate` lines a second, or as fast as it can if that is 0, from `go` up to `until` of its account.

    Then it returns how many these were, or ends in one of the `WAYS`.
    """
    account, lines = Account.at(Path(path)), SHAPES[shape]
    deadline = time.monotonic() + PATIENCE_S
    while not account.go and time.monotonic() < deadline:
        time.sleep(0.002)
    account.began = now = time.monotonic()
    number = 0
    while number < account.until and now < deadline:
        if rate and (early := account.began + number / rate - now) > 0:
            time.sleep(early)
            if number >= account.until:
                break
        stream, line = lines.line(number)
        account.begun = number + 1
        before = time.monotonic()
        os.write(1 if stream == STDOUT else 2, line)
        now = time.monotonic()
        account.done = number = number + 1
        account.longest = max(account.longest, now - before)
    account.ended = now
    if then:
        WAYS[then]()
    return number


def fill_memory() -> None:
    """Use memory without end; only for a process that is limited."""
    eaten = []
    while True:
        eaten.append(b"x" * (8 << 20))


def limit_and_fill_memory() -> None:
    """Take 64 MiB more than the process has, and not get all of it."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
    fill_memory()


WAYS: dict[str, Callable[[], object]] = {
    "segmentation fault": lambda: ctypes.string_at(0),
    "exit": lambda: os._exit(3),
    "out of memory": fill_memory,
    "memory error": limit_and_fill_memory,
}
