"""What `tailer doctor` reports: one finding a line."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARN, FAIL, SKIP = "ok", "warn", "fail", "skip"
"""All is well; it works, and something may be lost or late; it does not work; it could not be looked at."""


@dataclass(frozen=True, slots=True)
class Finding:
    """``level`` is OK, WARN, FAIL or SKIP; ``text`` says what is so and, if it is bad, what to do."""

    level: str
    subject: str
    text: str
