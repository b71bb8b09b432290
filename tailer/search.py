"""Searches a log line by line, in bounded steps, with the lines around each match. Knows no format.

A line is one of the log as text: what stands between two newlines, whichever stream it came from. It is looked at as
a terminal shows it: without escape sequences, behind its last carriage return, and with U+FFFD where it is not UTF-8.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple, TypeAlias

from tailer.channel import Pause
from tailer.errors import TooManySearches
from tailer.follow import Event, Final, Placed, Selection
from tailer.formats import stripped
from tailer.limits import Limits
from tailer.pattern import Pattern, Span
from tailer.records import MAX_CHUNK, SYSTEM, Attempt, Chunk, End, Hole
from tailer.store import Cursor, LogSummary

LONGEST = MAX_CHUNK
"""Bytes of a line that are looked at together. Of a longer one, pieces of that size are, each as if it were a line."""
OVERLAP = 4096
"""Bytes with which a piece of a long line repeats the one before: matches of up to so many are found across borders."""
MAX_CONTEXT = 100
MAX_LIMIT = 1_000_000
BATCH = 256 << 10
"""Bytes of lines that are handed on at once, at least."""
FIRST = Cursor()
READ = 256 << 10
"""Bytes that a search reads at once."""
STEP_S = 0.002
"""How long a search works before it lets others work: by then it has to have read something at least."""
LONGEST_REST_S = 0.25
PROGRESS_S = 0.25
PLACES = Limits(each=4, total=8, doing="search", setting=None, error=TooManySearches)
"""Of the searches that run in this process. Together they work half of the time at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is searched: lines that match ``pattern``, ``context`` lines around each, ``limit`` of those that match."""

    pattern: Pattern
    context: int = 0
    limit: int | None = None


class Found(NamedTuple):
    """A line that matches, or with no ``spans`` one beside it. ``spans`` are where in ``text``, in characters.

    ``apart``: there are to be lines around, and some before it were left out. ``partial``: it is a piece of a line,
    which was longer or has no end.
    """

    cursor: Cursor
    time: int
    stream: str
    number: int
    text: str
    spans: tuple[Span, ...]
    apart: bool
    partial: bool


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines that were found, in order."""

    lines: list[Found]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a search is: all before ``cursor``, which is in line ``line``, need not be looked at again.

    ``bytes`` of ``total`` are searched, ``matches`` lines of them match, ``missing`` bytes were in holes. ``more`` is
    whether the limit has ended the search.
    """

    cursor: Cursor
    line: int | None
    bytes: int
    total: int
    matches: int
    missing: int
    more: bool


Told: TypeAlias = tuple[Event | Lines | Progress, Cursor]


def shown(lines: bytes) -> bytes:
    """Return lines as they are looked at, as many as there were."""
    if b"\r" in lines:
        lines = b"\n".join(line.rstrip(b"\r").rpartition(b"\r")[2] for line in lines.split(b"\n"))
    if b"\x1b" in lines or b"\xc2" in lines:
        lines = stripped(lines)
    return lines if lines.isascii() else lines.decode(errors="replace").encode()


class _Block:
    """Whole lines: ``data``, the newlines between them included, from ``start`` to behind the last newline, ``stop``.

    Of the first line, ``seen`` bytes were looked at before. One that is not in one piece is alone in its block.
    """

    def __init__(self, chunk: Chunk, number: int, start: int, stop: int, data: bytes, *, partial: bool = False) -> None:
        self.chunk = chunk
        self.number = number
        self.start = start
        self.stop = stop
        self.data = data
        self.partial = partial
        self.shown = shown(data)
        self.size = data.count(b"\n") + 1

    @cached_property
    def lines(self) -> list[bytes]:
        """As they are looked at."""
        return self.shown.split(b"\n")

    @cached_property
    def starts(self) -> list[int]:
        """Where each line begins, and the end."""
        lengths = [len(line) + 1 for line in self.data.split(b"\n")]
        return [*accumulate(lengths[:-1], initial=self.start), self.stop]


class Finder:
    """Takes an attempt's chunks, and gives what is found in them. ``full`` once it has found as many as are wanted."""

    def __init__(self, wanted: Wanted, at: Cursor = FIRST) -> None:
        self._pattern = wanted.pattern
        self._context = wanted.context
        self._limit = wanted.limit
        self._open: Chunk | None = None  # the one in which a line begins that has no end yet
        self._data, self._start, self._number = b"", 0, 0  # that line, where it begins, and its number
        self._seen = 0  # bytes of it that were looked at before
        self._before: deque[tuple[_Block, int]] = deque(maxlen=wanted.context)
        self._after = 0
        self._apart = False
        self._at, self._line = at, None if at.offset else 1  # behind all that was taken, and the number of the line
        self._given = at, 0  # behind the last line that was given
        self.matches = 0
        self.full = False

    @property
    def place(self) -> tuple[Cursor, int | None]:
        """The place before which nothing needs to be looked at again, and the number of the line there, if known."""
        if self.full:
            return self._given
        if self._before:
            block, index = self._before[0]
            return Cursor(self._at.attempt, block.starts[index]), block.number + index
        if self._open:
            return Cursor(self._at.attempt, self._start), self._number
        return self._at, self._line

    def take(self, chunk: Chunk, attempt: int) -> Iterator[Found]:
        """Go on with the next chunk."""
        self._at, self._line = Cursor(attempt, chunk.end), chunk.line + chunk.lines
        data, done, number = chunk.data, 0, chunk.line
        if self._open:
            done = data.find(b"\n") + 1
            yield from self._grow(chunk, data[: done - 1] if done else data, 0)
            if not done:
                return
            yield from self._close(chunk.offset + done)
            number += 1
        stop = data.rfind(b"\n") + 1
        if stop > done and not self.full:
            body = data[done : stop - 1]
            yield from self._walk(_Block(chunk, number, chunk.offset + done, chunk.offset + stop, body))
        if stop < len(data) and not self.full:
            yield from self._grow(chunk, data[max(stop, done) :], max(stop, done))

    def pass_by(self, cursor: Cursor, line: int) -> None:
        """Note that there is nothing to look at up to here."""
        self._at, self._line = cursor, line

    def interrupt(self) -> Iterator[Found]:
        """Nothing goes on behind this place: an unfinished line ends, and lines behind are not beside those before."""
        if self._open:
            yield from self._close(self._at.offset, partial=True)
        if not self.full:
            self._after = 0
            self._apart = self._apart or bool(self._before)
            self._before.clear()

    def _grow(self, chunk: Chunk, data: bytes, at: int) -> Iterator[Found]:
        if not self._open:
            self._open, self._start, self._seen = chunk, chunk.offset + at, 0
            self._number = chunk.line + chunk.data.count(b"\n", 0, at)
        self._data += data
        if len(self._data) > LONGEST:
            overwritten = self._data.rstrip(b"\r").rfind(b"\r") + 1
            self._data, self._seen = self._data[overwritten:], max(0, self._seen - overwritten)
        while len(self._data) > LONGEST and not self.full:
            rest = self._data[LONGEST - OVERLAP :]
            stop = chunk.offset + at + len(data) - len(self._data) + LONGEST
            yield from self._walk(self._piece(self._data[:LONGEST], stop, partial=True))
            self._data, self._start, self._seen = rest, stop - OVERLAP, OVERLAP

    def _close(self, stop: int, *, partial: bool = False) -> Iterator[Found]:
        if not self.full:
            yield from self._walk(self._piece(self._data, stop, partial=partial))
        self._open, self._data, self._seen = None, b"", 0

    def _piece(self, data: bytes, stop: int, *, partial: bool) -> _Block:
        assert self._open  # noqa: S101 (for mypy)
        return _Block(self._open, self._number, self._start, stop, data, partial=partial or self._seen > 0)

    def _walk(self, block: _Block) -> Iterator[Found]:
        """Give what is found in a block, and hold what may be beside the next match."""
        done = 0
        seen = len(shown(block.data[: self._seen])) if self._seen else 0
        for index, spans in self._pattern.hits(block.shown):
            if seen and not (spans := [span for span in spans if span[1] > seen]):
                continue
            if done < index:
                yield from self._between(block, done, index)
            if self.matches == self._limit:
                self.full = True
            if self.full:
                return
            while self._before:
                yield self._give(*self._before.popleft())
            self.matches += 1
            self._after = self._context
            self.full = self.matches == self._limit and not self._context
            yield self._give(block, index, spans)
            if self.full:
                return
            done = index + 1
        yield from self._between(block, done, block.size)

    def _between(self, block: _Block, start: int, stop: int) -> Iterator[Found]:
        """Pass lines that do not match: give those that are beside the last match, hold those beside the next one."""
        told = min(stop, start + self._after)
        for index in range(start, told):
            self._after -= 1
            self.full = self.matches == self._limit and not self._after
            yield self._give(block, index)
            if self.full:
                return
        if self._context and len(self._before) + stop - told > self._context:
            self._apart = True
        self._before.extend((block, index) for index in range(max(told, stop - self._context), stop))

    def _give(self, block: _Block, index: int, spans: list[Span] | None = None) -> Found:
        line = block.lines[index]
        text = line.decode()
        places = tuple(spans or ())
        if places and len(text) < len(line):
            places = tuple((len(line[:start].decode()), len(line[:end].decode())) for start, end in places)
        cursor, number = Cursor(self._at.attempt, block.starts[index + 1]), block.number + index
        self._given = cursor, number + (not block.partial)
        apart, self._apart = self._apart, False
        chunk = block.chunk
        return Found(cursor, chunk.time, chunk.stream, number, text, places, apart, block.partial)


class _Clock:
    """Says when a search has to let others work, and when it has to tell how far it is."""

    def __init__(self) -> None:
        self._began = self._told = time.monotonic()

    def begin(self) -> None:
        """Note that others have worked."""
        self._began = time.monotonic()

    def is_over(self) -> bool:
        """Return whether the search has worked long enough."""
        return time.monotonic() - self._began >= STEP_S

    def rest(self) -> Pause:
        """Return a pause as long as all searches together may have worked since the last one."""
        return Pause(min(LONGEST_REST_S, (time.monotonic() - self._began) * max(1, PLACES.count)))

    def tells(self) -> bool:
        """Return whether it is time to tell."""
        now = time.monotonic()
        if now - self._told < PROGRESS_S:
            return False
        self._told = now
        return True


def search(
    events: Generator[Placed | Pause], wanted: Wanted, streams: frozenset[str], start: Cursor, total: int
) -> Generator[Told | Pause]:
    """Yield what is found in a log, and how far the search is.

    ``events`` are those of ``follow`` or ``snapshot`` from ``start`` on, where ``total`` bytes of output are expected;
    ``streams`` are those that are looked through. Holes, attempts and
    the end come as in ``events``: each of them ends a line that is unfinished. The pauses are those of ``events``, and
    others that let other followers work.
    """
    return _Search(Finder(wanted, start), streams, total).run(events)


class _Search:
    def __init__(self, finder: Finder, streams: frozenset[str], total: int) -> None:
        self._finder = finder
        self._streams = streams | {SYSTEM}
        self._total = total
        self._bytes = self._missing = 0
        self._is_told = self._is_live = False
        self._clock = _Clock()

    def run(self, events: Generator[Placed | Pause]) -> Generator[Told | Pause]:
        with closing(events):
            for item in events:
                if isinstance(item, Pause):
                    if not self._is_told and (not self._is_live or self._clock.tells()):
                        yield self._progress()
                    self._is_live = True
                    item.reader = None  # What is found for one client is of no use to another.
                    yield item
                    self._clock.begin()
                    continue
                event, cursor = item
                yield from self._look(event, cursor)
                if self._finder.full:
                    break
                if isinstance(event, Final):
                    yield self._progress()
                if not isinstance(event, Chunk):
                    yield event, cursor
                if isinstance(event, Final):
                    return
        place = None
        if not self._finder.full:
            place = self._finder.place  # An unfinished line has to be looked at again when there is more of it.
            yield from self._tell(self._finder.interrupt())
        yield self._progress(None if self._finder.full else place)

    def _look(self, event: Event, cursor: Cursor) -> Generator[Told | Pause]:
        if isinstance(event, Chunk):
            self._is_told = False
            self._bytes += event.length
            if event.stream in self._streams:
                yield from self._tell(self._finder.take(event, cursor.attempt))
            else:
                self._finder.pass_by(cursor, event.line + event.lines)
            if self._clock.is_over():
                yield from self._rest()
        elif isinstance(event, Hole | Attempt | End | Final):
            yield from self._tell(self._finder.interrupt())
            if isinstance(event, Hole):
                self._bytes += event.length
                self._missing += event.length
                self._finder.pass_by(cursor, event.line + event.lines)
            elif isinstance(event, Attempt):
                self._finder.pass_by(cursor, 1)

    def _tell(self, found: Iterator[Found]) -> Generator[Told | Pause]:
        lines, size = list[Found](), 0
        for line in found:
            lines.append(line)
            size += len(line.text)
            if size > BATCH or self._clock.is_over():
                yield Lines(lines), line.cursor
                lines, size = [], 0
                yield from self._rest()
        if lines:
            yield Lines(lines), lines[-1].cursor

    def _rest(self) -> Generator[Told | Pause]:
        if self._clock.tells():
            yield self._progress()
        yield self._clock.rest()
        self._clock.begin()

    def _progress(self, place: tuple[Cursor, int | None] | None = None) -> Told:
        finder = self._finder
        cursor, line = place or finder.place
        self._is_told = True
        total = max(self._total, self._bytes)
        return Progress(cursor, line, self._bytes, total, finder.matches, self._missing, finder.full), cursor


def total_of(selection: Selection, summary: LogSummary | None) -> int:
    """Return how many bytes of output there are from the selection's start on, as far as is known."""
    start = selection.start
    attempts = summary.attempts if summary else []
    wanted = [one for one in attempts if one.number >= start.attempt and selection.only in {None, one.number}]
    return sum(one.bytes - (start.offset if one.number == start.attempt else 0) for one in wanted)
