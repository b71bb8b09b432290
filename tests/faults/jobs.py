"""The job of the fault suite. To an RQ queue it is `tests.faults.jobs.numbered`."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tailer.records import STDOUT
from tests import jobs
from tests.faults.account import SHAPES, Account

PATIENCE_S = 240
"""How long a job goes on without being told how far, so that one which was forgotten ends by itself."""


def numbered(path: str, shape: str, rate: float, then: str = "") -> int:
    """Write `rate` lines a second, or as fast as it can if that is 0, from `go` up to `until` of its account.

    At the end it returns how many these were, or calls that function of `tests.jobs`.
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
        stream, line = lines.line(number)
        account.begun = number + 1
        before = time.monotonic()
        os.write(1 if stream == STDOUT else 2, line)
        now = time.monotonic()
        account.done = number = number + 1
        account.longest = max(account.longest, now - before)
    account.ended = now
    if then:
        name, _, argument = then.partition(" ")
        getattr(jobs, name)(*map(int, argument.split()))
    return number
