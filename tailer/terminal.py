"""What the command line shows: a job's bytes on stdout; Tailer's own words on stderr; tables."""

from __future__ import annotations

import codecs
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from tailer.errors import ExitCode
from tailer.follow import Final, Placed
from tailer.formats import Options, Stripper, Text, plain, sentence
from tailer.records import SYSTEM, Chunk, End, Hole
from tailer.store import now_ms

WIDEST_LINE = 2000
"""Characters of a line of Tailer's own."""
WIDEST = 60
"""Characters of a description that a table shows."""
_HARMLESS = re.compile(
    # ECMA-48, SGR: colours and the like. And links (OSC 8), to the web or to a mailbox, or their end.
    rb"\x1b\[[0-9;:]*m|\x1b\]8;[!-:<-~]*;(?:(?:https?://|mailto:)[!-~]{1,2000})?(?:\x07|\x1b\\)"
)
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]")
"""All but tab, line feed, carriage return, and the ESC of what was kept as harmless."""
_RESET = b"\x1b[0m"
_LINK_END = b"\x1b]8;;\x1b\\"
_UNITS = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))


class Tame:
    """Makes a job's output harmless for a terminal: text, colours, links, tab, carriage return and line feed.

    What else steers a terminal is taken out: it can change the window's title, write to the clipboard, or have the
    terminal type something. Bytes that are not UTF-8 become U+FFFD, for some terminals take them for such controls.
    """

    def __init__(self) -> None:
        self._stripper = Stripper(_harmless)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._styled = self._linked = False

    def tame(self, data: bytes) -> bytes:
        """Return the next piece; what may be the beginning of something longer is held back."""
        kept = self._stripper.strip(data)
        self._styled = self._styled or b"\x1b[" in kept
        self._linked = self._linked or b"\x1b]" in kept
        return _CONTROLS.sub("", self._decoder.decode(kept)).encode()

    def end(self) -> bytes:
        """Return what gives the terminal back as it was."""
        return _RESET * self._styled + _LINK_END * self._linked


def _harmless(escape: re.Match[bytes]) -> bytes:
    """Return an escape sequence if it is harmless, with the one of its two ends that is no control by itself."""
    return escape[0].replace(b"\x07", b"\x1b\\") if _HARMLESS.fullmatch(escape[0]) else b""


class Screen:
    """Shows one log. A terminal is sent what is harmless only, unless it is to be ``raw``."""

    def __init__(self, options: Options, *, raw: bool = False) -> None:
        self._text = Text(options)
        self._midline = False
        streams = () if raw or not sys.stdout.isatty() else (*options.streams, SYSTEM)
        self._tamers = {stream: Tame() for stream in streams}

    def show(self, events: Iterable[Placed]) -> End | None:
        """Write the job's output to stdout as it comes, all else to stderr; returns how the job ended, if it did."""
        end = None
        try:
            for event, cursor in events:
                if isinstance(event, Chunk):
                    if data := self._text.encode(event, cursor):
                        self._write(self._tamers[event.stream].tame(data) if self._tamers else data)
                        self._midline = not data.endswith(b"\n")
                elif isinstance(event, Hole):
                    self.tell(f"{event.length} bytes are missing here: {event.cause}")
                elif isinstance(event, Final):
                    end = event.end
        finally:
            for tamer in self._tamers.values():
                self._write(tamer.end())
        if end and (end.outcome != "finished" or end.attempt == 0):
            self.tell(sentence(end))
        return end

    def _write(self, data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def tell(self, text: str) -> None:
        """Write a line of Tailer's own to stderr, whatever else is in it."""
        text = printable(text, widest=WIDEST_LINE)
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
    cells = (
        job["job_id"],
        status,
        _age(began),
        job["lines"],
        job["bytes"],
        job["outcome"] or "-",
        job["description"] or "",
    )
    # The server may be anybody's.
    return (*(printable(str(cell), widest=WIDEST_LINE) for cell in cells[:-1]), printable(str(cells[-1])))


def _age(time: str | None) -> str:
    """Return how long ago that was, in its largest unit."""
    if time is None:
        return "-"
    seconds = max(0, now_ms() // 1000 - int(datetime.fromisoformat(time).timestamp()))
    size, name = next(unit for unit in _UNITS if seconds >= unit[0] or unit[0] == 1)
    return f"{seconds // size}{name}"


def printable(text: str, *, widest: int = WIDEST) -> str:
    """Return ``text`` on one line of at most so many characters, without what a terminal would obey."""
    text = plain(" ".join(text.split()))
    return text if len(text) <= widest else text[: widest - 1] + "…"
