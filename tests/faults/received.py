"""Accounts for what a follower receives: each byte in its place, each hole, and the end."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from tailer.records import Chunk, End, Hole, Record
from tests.faults.account import HEAD, STREAMS, Shape

TRACEBACK = b"Traceback (most recent call last):\n"
_NUMBER = re.compile(rb"[oe] (\d{10}) [0-9a-f]{8} ")


class Received:
    """What one follower has got of a log. `at` is where it stands, holes counted; `end` is the end record, if any.

    `lost` and `doubled` are bytes that its positions show to be missing without a record, or to have come twice;
    `wrong` says what was not what the job wrote.
    """

    def __init__(self, shape: Shape) -> None:
        self.at = self.length = self.lost = self.doubled = 0
        self.holes: list[tuple[int, str]] = []
        self.end: End | None = None
        self.streams = {stream: _Stream(shape, stream) for stream in STREAMS}
        self._digest = hashlib.sha256()

    def data(self, data: bytes, stream: str | None = None, position: int | None = None) -> None:
        """Some of the job's output came; of which stream and from which position, where the format tells."""
        self._join(position)
        self.at += len(data)
        self.length += len(data)
        self._digest.update(data)
        if stream:
            self.streams[stream].feed(data)

    def hole(self, length: int, cause: str, position: int | None = None) -> None:
        """So many bytes are missing here, and it is said why."""
        self._join(position)
        self.at += length
        self.holes.append((length, cause))
        for stream in self.streams.values():
            stream.tear()

    def records(self, records: Sequence[Record]) -> None:
        """Elements of a log, as the store has them."""
        for record in records:
            if isinstance(record, Chunk):
                self.data(record.data, record.stream, record.offset)
            elif isinstance(record, Hole):
                self.hole(record.length, record.cause, record.offset)
            elif isinstance(record, End):
                self.end = record

    @property
    def sha256(self) -> str:
        """Of all the output that came."""
        return self._digest.hexdigest()

    @property
    def missing(self) -> int:
        """Bytes in holes."""
        return sum(length for length, _ in self.holes)

    @property
    def causes(self) -> set[str]:
        """Why bytes are missing."""
        return {cause for _, cause in self.holes}

    @property
    def wrong(self) -> list[str]:
        """What was not what the job wrote, if anything."""
        return [words for stream in self.streams.values() for words in stream.wrong]

    @property
    def afterwards(self) -> int:
        """Bytes that came behind the job's lines: how it failed."""
        return sum(stream.afterwards for stream in self.streams.values())

    def skipped(self, lines: int) -> int:
        """The bytes that are missing of both streams together, of a job that wrote so many lines."""
        return sum(stream.finish(lines) for stream in self.streams.values())

    def _join(self, position: int | None) -> None:
        if position is None or position == self.at:
            return
        if position > self.at:
            self.lost += position - self.at
        else:
            self.doubled += self.at - position
        self.at = position


class _Stream:
    """One stream of a log: compares it with what the job wrote, and finds its place again behind each hole.

    Behind the job's lines there may be the traceback of how it failed, of `afterwards` bytes.
    """

    def __init__(self, shape: Shape, name: str) -> None:
        self._shape = shape
        self._name = name
        self._at = 0
        self._torn = False
        self._held = b""
        self._skipped = 0
        self.afterwards = 0
        self.wrong: list[str] = []

    def feed(self, data: bytes) -> None:
        """Bytes of the stream, behind the last ones or the last hole."""
        traceback = 0 if self.afterwards else data.find(TRACEBACK)
        if traceback >= 0:
            self.afterwards += len(data) - traceback
            data = data[:traceback]
        if not data:
            return
        if self._torn:
            data = self._held + data
            line = data.find(b"\n") + 1
            number = _NUMBER.match(data, line) if line else None
            if len(data) < line + HEAD or not line:
                self._held = data
                return
            if not number:
                self.wrong.append(f"{self._name}: no line behind a hole: {data[line : line + HEAD]!r}")
                return
            self._go_on(self._shape.size(self._name, int(number[1])) - line, data)
        else:
            self._compare(data)

    def tear(self) -> None:
        """Bytes of any stream are missing here."""
        self._skipped -= len(self._held)  # too short to find its place, but it was here
        self._torn, self._held = True, b""

    def finish(self, lines: int) -> int:
        """The job has ended after so many lines; returns how many bytes of this stream are missing in all."""
        size = self._shape.size(self._name, lines)
        if self._torn:
            self._go_on(size - len(self._held), self._held)
        missing = self._skipped + size - self._at
        self._at, self._skipped = size, missing
        return missing

    def _go_on(self, place: int, data: bytes) -> None:
        if place < self._at:
            self.wrong.append(f"{self._name}: {self._at - place} bytes came twice around a hole")
        self._skipped += place - self._at
        self._at, self._torn, self._held = place, False, b""
        self._compare(data)

    def _compare(self, data: bytes) -> None:
        expected = self._shape.part(self._name, self._at, self._at + len(data))
        if data != expected and not self.wrong:
            first = next(place for place, pair in enumerate(zip(data, expected, strict=True)) if len(set(pair)) > 1)
            near = slice(max(0, first - 30), first + 30)
            self.wrong.append(f"{self._name}, byte {self._at + first}: {data[near]!r} instead of {expected[near]!r}")
        self._at += len(data)
