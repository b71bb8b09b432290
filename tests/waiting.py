"""The one place where tests wait: for a condition, never for an amount of time."""

import inspect
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], timeout: float = 10, what: str = "") -> T:
    """Ask every 5 ms until the predicate's answer is true, and return that answer.

    Raises AssertionError after `timeout` seconds. It names what was awaited: `what`, or else the predicate's source.
    """
    deadline = time.monotonic() + timeout
    while True:
        if answer := predicate():
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or _source(predicate)} (last answer: {answer!r})")
        time.sleep(0.005)


def _source(predicate: Callable[[], object]) -> str:
    """The predicate as it is written in the test, or its name where there is no source."""
    try:
        return inspect.getsource(predicate).strip()
    except (OSError, TypeError):
        return repr(predicate)
