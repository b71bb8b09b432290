"""Reads an attempt's list of records from a cursor on: in bounded pieces, in order, each byte once."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from tailer import sealed
from tailer.errors import CorruptRecord
from tailer.records import Attempt, Chunk, End, Hole, Record

if TYPE_CHECKING:
    from tailer.store import LogStore

logger = logging.getLogger(__name__)

PIECE = 1 << 20
"""Bytes of list elements, packed and unpacked, that one read aims at. Huge replies are slow for both sides."""
MAX_RECORDS = 128
"""Most elements of one read: when small ones are followed by large ones, it is still at most 8 MiB."""

UNREADABLE, MISSING = "unreadable in the store", "missing from the store"
"""Causes of holes that a reader finds, and no worker has told."""


class Cursor(NamedTuple):
    """A place in a job's log: behind ``offset`` bytes of attempt ``attempt``. Written ``attempt:offset``."""

    attempt: int = 1
    offset: int = 0

    def __str__(self) -> str:
        return f"{self.attempt}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read ``attempt:offset``; raises ``ValueError``."""
        match = re.fullmatch(r"([1-9][0-9]{0,8}):([0-9]{1,15})", text)
        if not match:
            raise ValueError("use ATTEMPT:OFFSET, such as 1:0")
        return cls(int(match[1]), int(match[2]))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reader stands: behind ``offset`` bytes of an attempt, before the element ``index`` of its list.

    ``line`` is the number of the line in which the next byte is, ``None`` if that is not known yet; ``midline`` tells
    whether that line has begun before.
    """

    attempt: int
    index: int
    offset: int
    line: int | None
    midline: bool


class LogReader:
    """Reads one attempt's log from a cursor on, in bounded pieces, each byte once and in order.

    ``cursor`` is behind what was read so far. What is missing in the list (an element that cannot be
    read, or was removed by somebody) comes as a ``Hole``, so that offsets always join.
    """

    def __init__(self, store: LogStore, job_id: str, at: Cursor) -> None:
        self._store = store
        self.piece = PIECE  # bytes that a read aims at
        self.count = 16  # elements that the next read asks for
        self.full = False  # whether the last one got all that it had asked for
        self.job_id = job_id
        self.index: int | None = None if at.offset else 0
        self.attempt = at.attempt
        self.offset = at.offset
        self.line: int | None = None if at.offset else 1
        self._midline = False
        self._unreadable = False
        # They take no place, so they would come again from another list. A tuple, for a reader is copied.
        self._told: tuple[Attempt | End, ...] = ()

    @property
    def cursor(self) -> Cursor:
        """The place behind all that was returned."""
        return Cursor(self.attempt, self.offset)

    @property
    def place(self) -> Place | None:
        """Where the reader stands; ``None`` as long as its index in the list is not known."""
        if self.index is None or self._unreadable:
            return None
        return Place(self.attempt, self.index, self.offset, self.line, self._midline)

    def move(self, place: Place) -> None:
        """Go to a place that another reader of the same attempt has reached."""
        self.index, self.offset = place.index, place.offset
        self.line, self._midline, self._unreadable = place.line, place.midline, False

    def span(self) -> tuple[int, int]:
        """Return the indexes of the first and last element that a read asks for."""
        first = self.index or 0
        return first, first + self.count - 1

    def fetch(self, elements: list[bytes] | None = None) -> list[Record | None]:
        """Return the next records of the list as they are, about ``piece`` bytes of them; empty if there are none yet.

        ``None`` stands for an element that cannot be read. Does not move: see ``join``. ``elements`` are those of
        ``span``, if they are there already.
        """
        records = self._fetch(elements)
        if records and self.leaves_gap(records[0]):
            # Either that is so, or the list was rebuilt after a loss and our place in it is elsewhere now.
            self.index = None
            records = self._fetch()
        return records

    def leaves_gap(self, record: Record | None) -> bool:
        """Return whether bytes are missing between ``offset`` and ``record``, for no reason that is known."""
        return record is not None and record.offset > self.offset and not self._unreadable

    def _fetch(self, elements: list[bytes] | None = None) -> list[Record | None]:
        if elements is None and self.index is not None:
            elements = self._store.elements(self.job_id, self.attempt, *self.span())
        while elements is None:
            self.index = self._store.find(self.job_id, self.attempt, "offset", self.offset)[0]
            elements = self._store.elements(self.job_id, self.attempt, *self.span())
        records = [record for element in elements for record in self.decode(element)]
        self.full = len(elements) >= self.count
        if elements:
            # What counts is the size unpacked: that is what a reader holds, and a frame may be a hundredth of it.
            size = sum(map(len, elements)) + sum(record.length for record in records if isinstance(record, Chunk))
            self.count = max(1, min(MAX_RECORDS, self.piece * len(elements) // (size + 1)))
        return records

    def join(self, fetched: Sequence[Record | None]) -> list[Record]:
        """Move over ``fetched``, the records at ``index`` and behind it; returns what is new of them, without gaps."""
        index = self.index or 0
        for record in fetched:
            if isinstance(record, Hole) and record.next:
                index = record.next
            elif not (isinstance(record, Chunk) and record.more):
                index += 1
        self.index = index
        return [new for record in fetched for new in self._join(record)]

    def step(self, chunk: Chunk) -> None:
        """Move over the next element, whose record is a chunk that begins at ``offset``: ``join``, made short."""
        self.index = (self.index or 0) + 1
        self.offset += len(chunk.data)
        self.line = chunk.line + chunk.lines
        self._midline = not chunk.data.endswith(b"\n")
        self._unreadable = False

    def read(self) -> list[Record]:
        """Return the next records; empty if there are none yet."""
        while fetched := self.fetch():
            if records := self.join(fetched):
                return records
        return []

    def relocate(self) -> None:
        """Look the place up anew at the next read: the list is not the one it was (rebuilt after a loss)."""
        self.index = None

    def decode(self, element: bytes) -> Sequence[Record | None]:
        """Return the records in an element of this list; ``None`` alone if it cannot be read."""
        try:
            return sealed.records(element)
        except CorruptRecord as error:
            logger.warning("job %s, attempt %d, behind byte %d: %s", self.job_id, self.attempt, self.offset, error)
            return [None]

    def _join(self, record: Record | None) -> Iterator[Record]:
        if record is None:
            self._unreadable = True
            return
        if isinstance(record, Attempt | End):
            if record in self._told:
                return
            self._told += (record,)
        if record.offset > self.offset:
            yield self._hole(record)
        if isinstance(record, Chunk | Hole):
            if record.end <= self.offset:
                return
            if isinstance(record, Chunk):
                record = record.part(self.offset, record.end)
                self._midline = not record.data.endswith(b"\n")
            elif record.offset < self.offset:
                record = self._rest(record)
            self.offset, self.line = record.end, record.line + record.lines
        yield record

    def _rest(self, hole: Hole) -> Hole:
        """Return the part of a hole that is not read yet. Where its lines are is known to who has read up to it."""
        length = hole.end - self.offset
        if self.line is None:
            return replace(hole, offset=self.offset, length=length, midline=True)
        lines = hole.line + hole.lines - self.line
        return replace(hole, offset=self.offset, length=length, line=self.line, lines=lines, midline=self._midline)

    def _hole(self, record: Record) -> Hole:
        """Make the hole between what was read so far and ``record``."""
        line = record.line if isinstance(record, Chunk | Hole) else record.lines + 1 if isinstance(record, End) else 1
        first = line if self.line is None else self.line
        cause = UNREADABLE if self._unreadable else MISSING
        hole = Hole(record.time, self.offset, first, line - first, self._midline, record.offset - self.offset, cause)
        self.offset, self.line, self._unreadable = record.offset, line, False
        return hole
