"""Puts the output of many logs together by whole lines, so that none is torn by another log's."""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tailer.channel import Beat, Pause
from tailer.jobs import JobState
from tailer.many_logs import Log, Told
from tailer.reader import Cursor
from tailer.records import MAX_CHUNK, SYSTEM, Chunk

HOLD_S = 1.0
"""How long a line that has not ended is held back."""
HOLD = MAX_CHUNK
"""Bytes of a line that has not ended that are held back at most, for each log."""


class Line(NamedTuple):
    """A line of a log, without its newline, or a piece of one.

    ``begun`` says that it goes on from the piece before, ``partial`` that it has no end yet. ``end`` is the place
    behind it.
    """

    data: bytes
    time: int
    stream: str
    number: int
    begun: bool
    partial: bool
    end: Cursor


@dataclass(frozen=True, slots=True)
class Lines:
    """What comes next in a log."""

    lines: list[Line]


class Holder:
    """Makes lines of one log's chunks. All of it stays in order, so that the end of each line is a place in the log.

    A line is therefore cut also where the log's other stream goes on before it has ended.
    """

    def __init__(self, streams: Collection[str], at: Cursor) -> None:
        self._streams = {*streams, SYSTEM}
        self._held: Chunk | None = None
        self._begun: dict[str, bool] = {}
        self._attempt = at.attempt
        self.due = float("inf")

    def add(self, chunk: Chunk, cursor: Cursor) -> Iterator[Line]:
        """Yield the lines that end in this chunk."""
        if chunk.stream not in self._streams:
            return
        self._attempt = cursor.attempt
        if self._held and self._held.stream != chunk.stream:
            yield from self.flush()
        held, self._held = self._held, None
        # Between the two there may be output that is not wanted.
        offset = chunk.offset - (len(held.data) if held else 0)
        *whole, rest = (held.data + chunk.data if held else chunk.data).split(b"\n")
        for number, data in enumerate(whole, chunk.line):
            offset += len(data) + 1
            first = held.line if held and number == chunk.line else number
            yield self._line(chunk, data, first, offset, partial=False)
        if not rest:
            self.due = float("inf")
            return
        line = held.line if held and not whole else chunk.line + len(whole)
        self._held = Chunk(chunk.stream, chunk.time, offset, line, 0, False, rest)
        if not held or whole:
            self.due = time.monotonic() + HOLD_S
        if len(rest) > HOLD:
            yield from self.flush()

    def flush(self) -> Iterator[Line]:
        """Yield what is held back."""
        held, self._held = self._held, None
        self.due = float("inf")
        if held:
            yield self._line(held, held.data, held.line, held.end, partial=True)

    def _line(self, chunk: Chunk, data: bytes, number: int, offset: int, *, partial: bool) -> Line:
        begun = self._begun.get(chunk.stream, False)
        self._begun[chunk.stream] = partial
        return Line(data, chunk.time, chunk.stream, number, begun, partial, Cursor(self._attempt, offset))


def by_lines(items: Generator[Told | Pause], streams: Collection[str]) -> Generator[Told | Pause]:
    """Yield ``items`` with ``Lines`` instead of chunks. What waits for the end of a line waits ``HOLD_S`` at most."""
    holders: dict[Log, Holder] = {}

    def flushed(log: Log) -> Iterator[Told]:
        if log in holders and (lines := list(holders[log].flush())):
            yield Told(log, Lines(lines), lines[-1].end)

    for item in items:
        now = time.monotonic()
        due = [log for log, holder in holders.items() if holder.due <= now]
        for log in due:
            yield from flushed(log)
        if isinstance(item, Pause):
            first = min((holder.due for holder in holders.values()), default=float("inf"))
            item.timeout = min(item.timeout, max(0.01, first - now))
            yield item
        elif item.log and isinstance(item.event, Chunk):
            holder = holders.setdefault(item.log, Holder(streams, item.cursor))
            if lines := list(holder.add(item.event, item.cursor)):
                yield Told(item.log, Lines(lines), lines[-1].end)
        else:
            if item.log and not isinstance(item.event, JobState | Beat):
                yield from flushed(item.log)
            yield item
        for log in [log for log in holders if log.over]:
            yield from flushed(log)
            del holders[log]
    for log in holders:
        yield from flushed(log)
