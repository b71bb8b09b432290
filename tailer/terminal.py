"""What the command line shows: a job's bytes on stdout, as they are; Tailer's own words on stderr; tables."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from tailer.errors import ExitCode
from tailer.follow import Final, Placed
from tailer.formats import Options, Text, sentence
from tailer.records import Chunk, End, Hole
from tailer.store import now_ms

WIDEST = 60
"""Characters of a description that a table shows."""
_UNITS = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))


class Screen:
    """Shows one log."""

    def __init__(self, options: Options) -> None:
        self._text = Text(options)
        self._midline = False

    def show(self, events: Iterable[Placed]) -> End | None:
        """Write the job's output to stdout as it comes, all else to stderr; returns how the job ended, if it did."""
        end = None
        for event, cursor in events:
            if isinstance(event, Chunk):
                if data := self._text.encode(event, cursor):
                    sys.stdout.buffer.write(data)
                    sys.stdout.buffer.flush()
                    self._midline = not data.endswith(b"\n")
            elif isinstance(event, Hole):
                self.tell(f"{event.length} bytes are missing here: {event.cause}")
            elif isinstance(event, Final):
                end = event.end
        if end and (end.outcome != "finished" or end.attempt == 0):
            self.tell(sentence(end))
        return end

    def tell(self, text: str) -> None:
        """Write a line of Tailer's own to stderr."""
        # Where both go to one terminal, an unfinished line of the job would run into ours.
        start = "\n" if self._midline and sys.stderr.isatty() and sys.stdout.isatty() else ""
        sys.stderr.write(f"{start}[tailer] {text}\n")
        sys.stderr.flush()


def exit_code(end: End | None) -> int:
    """Return what the command leaves with for a job's end; ``None`` is a log that goes on."""
    if end is None or end.outcome == "finished":
        return ExitCode.FINISHED
    if end.outcome in {"stopped", "canceled"}:
        return ExitCode.STOPPED
    if end.outcome == "killed" and end.signal:
        return ExitCode.SIGNALLED + end.signal
    return ExitCode.FAILED


def jobs_table(jobs: Sequence[Mapping[str, Any]]) -> str:
    """Return a line for each job, as ``listing.describe`` tells of it, under a line of headings."""
    heads = ("JOB", "STATUS", "AGE", "LINES", "BYTES", "OUTCOME", "DESCRIPTION")
    rows = [heads, *map(_row, jobs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = {2, 3, 4}
    lines = [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _row(job: Mapping[str, Any]) -> tuple[str, ...]:
    status = job["status"] or "-"
    if job["position"]:
        status += f" ({job['position']})"
    began = job["created_at"] or next((attempt["started_at"] for attempt in job["attempts"]), None)
    return (
        job["job_id"],
        status,
        _age(began),
        str(job["lines"]),
        str(job["bytes"]),
        job["outcome"] or "-",
        printable(job["description"] or ""),
    )


def _age(time: str | None) -> str:
    """Return how long ago that was, in its largest unit."""
    if time is None:
        return "-"
    seconds = max(0, now_ms() // 1000 - int(datetime.fromisoformat(time).timestamp()))
    size, name = next(unit for unit in _UNITS if seconds >= unit[0] or unit[0] == 1)
    return f"{seconds // size}{name}"


def printable(text: str, *, widest: int = WIDEST) -> str:
    """Return ``text`` on one line of at most so many characters, without what a terminal would obey."""
    text = "".join(char if char.isprintable() else "\ufffd" for char in " ".join(text.split()))
    return text if len(text) <= widest else text[: widest - 1] + "…"
