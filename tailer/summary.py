"""What is known of a job's log without reading it, as it stands in the job's hash."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from tailer.records import OVER_LIMIT, Attempt, End, Hole, attempt_from_json, end_from_json


@dataclass(frozen=True, slots=True)
class AttemptSummary:
    """What is known of an attempt without reading its log. ``gap`` is what it lacks because it is over its limit."""

    number: int
    started: int
    bytes: int
    lines: int
    about: Attempt | None
    end: End | None
    gap: Hole | None = None
    archived: bool = False
    """Whether the archive has all of it."""


@dataclass(frozen=True, slots=True)
class LogSummary:
    """What is known of a job's log without reading it. ``attempts`` are in order; there is at least one."""

    job_id: str
    attempts: Sequence[AttemptSummary] = field(default_factory=list)

    @property
    def last(self) -> AttemptSummary:
        """The newest attempt."""
        return self.attempts[-1]

    def attempt(self, number: int) -> AttemptSummary | None:
        """Return that attempt, ``None`` if the store does not have it."""
        return next((attempt for attempt in self.attempts if attempt.number == number), None)

    def after(self, number: int) -> AttemptSummary | None:
        """Return the attempt that follows ``number``, if there is one."""
        return next((attempt for attempt in self.attempts if attempt.number > number), None)


def parse_summary(job_id: str, values: dict[bytes, bytes]) -> LogSummary | None:
    """Read a job's hash; ``None`` if there is no attempt in it. Passes over what somebody else may have written."""
    text = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in values.items()}
    numbers = sorted(int(name[:-4]) for name in text if re.fullmatch(r"[1-9][0-9]*\.end", name))
    if not numbers:
        return None
    return LogSummary(job_id, [_attempt_summary(number, text) for number in numbers])


def _attempt_summary(number: int, text: dict[str, str]) -> AttemptSummary:
    end = end_from_json(text.get(f"{number}.ended", ""))
    return AttemptSummary(
        number=number,
        started=_count(text.get(f"{number}.started")),
        bytes=_count(text.get(f"{number}.end")),
        lines=_count(text.get(f"{number}.lines")),
        about=attempt_from_json(text.get(f"{number}.about", "")),
        end=end,
        gap=_gap(text.get(f"{number}.gap", "")),
        archived=end is not None and text.get(f"{number}.archived") == str(end.time),
    )


def _gap(text: str) -> Hole | None:
    match = re.fullmatch("([0-9]{1,15}) ([0-9]{1,15}) ([m-])" + " ([0-9]{1,15})" * 5, text)
    if not match or match[4] == "0":
        return None
    start, line, stop, stop_line, time = (int(match[number]) for number in (1, 2, 5, 6, 7))
    return Hole(time, start, line, stop_line - line, match[3] == "m", stop - start, OVER_LIMIT)


def _count(text: str | None) -> int:
    """Read a number that somebody else may have overwritten."""
    return int(text) if text and re.fullmatch("[0-9]{1,18}", text) else 0
