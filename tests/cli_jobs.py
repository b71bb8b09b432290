"""Jobs for the tests of the command line. To an RQ queue they are `tests.cli_jobs.NAME`."""

import itertools
import os
import sys
import time
from pathlib import Path

from tests.jobs import PATIENCE_S

ODD = b"caf\xe9 \x00\x1b[31mred\x1b[0m\r 10%\r100%\n\n\xff\xfe\xe2\x82"


def numbered(stop: str) -> None:
    """Print numbered lines, in pieces and with a byte that is no UTF-8, until there is such a file."""
    deadline = time.monotonic() + PATIENCE_S
    for number in itertools.count(1):
        sys.stdout.buffer.write(b"line ")
        sys.stdout.buffer.flush()
        sys.stdout.buffer.write(b"%d \xff %s\n" % (number, b"x" * (number % 300)))
        sys.stdout.buffer.flush()
        if Path(stop).exists() or time.monotonic() > deadline:
            return
        time.sleep(0.002)


def odd_bytes() -> None:
    """Write bytes that no text has, and end in the middle of a line and of a character."""
    os.write(1, ODD)


def both_streams() -> None:
    """Write to stdout and stderr in turn."""
    for number in range(5):
        os.write(1, b"out %d\n" % number)
        time.sleep(0.06)  # longer than the worker collects: the order of two pipes is that of arrival
        os.write(2, b"err %d\n" % number)
        time.sleep(0.06)


def step_by_step(folder: str) -> None:
    """Print a line each time that a file of the next number appears in the folder, and end with the third."""
    print("ready")
    for number in range(1, 4):
        deadline = time.monotonic() + PATIENCE_S
        while not (Path(folder) / str(number)).exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"nobody made {number}")
            time.sleep(0.005)
        print("step", number)


def show(*args: object, **kwargs: object) -> None:
    """Print what it was called with."""
    print(args, sorted(kwargs.items()))
