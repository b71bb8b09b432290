"""What a log must be, as plain lists: builds records for the store, and answers what reading them has to give."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import zstandard
from hypothesis import strategies as st

from tailer.errors import AttemptMissing, LogClosed
from tailer.records import OVER_LIMIT, STDERR, STDOUT, Attempt, Chunk, End, Hole, Record, decode, encode
from tailer.store import AttemptSummary, Cursor, LogStore, LogSummary

HOLE = "hole"
COMPRESSOR = zstandard.ZstdCompressor(level=1)

# What a job writes, piece by piece: where it goes (or that it is lost), the bytes, and ms since the last piece.
# Mostly newlines, so that few bytes make many lines; now and then enough for a compressed chunk.
pieces = st.lists(
    st.tuples(
        st.sampled_from([STDOUT, STDOUT, STDERR, HOLE]),
        st.text("ab\n\n\r", min_size=1, max_size=6).map(str.encode) | st.sampled_from([b"\n", b"row\n" * 300]),
        st.integers(0, 2),
    ),
    max_size=10,
)


class WrittenLog:
    """One attempt's log as it was written: its records, and what each byte of it is."""

    def __init__(self, written: Iterable[tuple[str, bytes, int]] = (), *, began: int = 1000) -> None:
        self.began = self.time = began
        self.records: list[Chunk | Hole] = []
        self.bytes: list[tuple[str, int, int] | None] = []  # (stream, byte, number of its line), or not in the log
        self.starts = [
            0
        ]  # of each line; where a newline is missing, the start of what is missing, if that does not end with it
        self._midline = False
        for stream, data, pause in written:
            self.write(stream, data, pause)

    def write(self, stream: str, data: bytes, pause: int = 0) -> None:
        """Go on with a piece, ``pause`` ms after the last one."""
        offset, line, lines, time = len(self.bytes), len(self.starts), data.count(b"\n"), self.time + pause
        if stream == HOLE:
            self.add(Hole(time, offset, line, lines, self._midline, len(data), "a test"))
        else:
            self.add(Chunk(stream, time, offset, line, lines, self._midline, data))
        self._midline = not data.endswith(b"\n")

    def add(self, record: Chunk | Hole) -> None:
        """Go on with a record that begins where this log ends."""
        assert record.offset == len(self.bytes)
        if self.records and isinstance(self.records[-1], Hole) and self.records[-1].lines and not record.midline:
            self.starts[-1] = record.offset
        self.records.append(record)
        self.time = record.time
        if isinstance(record, Hole):
            self.starts += [record.offset] * record.lines
            self.bytes += [None] * record.length
            return
        for value in record.data:
            self.bytes.append((record.stream, value, len(self.starts)))
            if value == 10:
                self.starts.append(len(self.bytes))

    @property
    def lines(self) -> int:
        """Newlines, the lost ones included."""
        return len(self.starts) - 1

    @property
    def all_lines(self) -> int:
        """Lines that can be asked for: an unfinished one at the end counts, if its end is in the log."""
        last = self.bytes[-1] if self.bytes else None
        return self.lines + (last is not None and last[1] != 10)

    def line(self, number: int) -> int:
        """Where a line begins, or the end."""
        return self.starts[max(number, 1) - 1] if number <= len(self.starts) else len(self.bytes)

    def since(self, time: int) -> int | None:
        """Where what was read from ``time`` on begins, ``None`` if nothing was."""
        if time <= self.began:
            return 0
        return next((record.offset for record in self.records if record.time >= time), None)

    def end_record(self, number: int = 1) -> End:
        """Its end record, with true counts."""
        ended = self.records[-1].time if self.records else self.began
        return End(
            outcome="finished",
            attempt=number,
            final=True,
            bytes=len(self.bytes),
            lines=self.lines,
            ended_at=ended / 1000,
        )

    def store(
        self, store: LogStore, job_id: str, *, execution: str = "e1", batches: Sequence[int] = (), end: bool
    ) -> int:
        """Write it all, as many records at a time as ``batches`` says and then the rest; returns the attempt."""
        at, lines = store.start(job_id, Attempt(self.began, 0, execution))
        left = list(self.records)
        for size in (*batches, len(left)):
            batch, left = left[:size], left[size:]
            if batch:
                lines += sum(record.lines for record in batch)
                elements = [encode(record, COMPRESSOR) for record in batch]
                stored = store.append(job_id, at, elements, end=batch[-1].end, lines=lines)
                assert stored == batch[-1].end
                at = Cursor(at.attempt, stored)
        if end:
            assert store.end(job_id, self.end_record(at.attempt)) == len(self.bytes)
        return at.attempt


def flat(records: Iterable[Record]) -> list[tuple[str, int, int] | None]:
    """What each byte of these records is, in the form of ``WrittenLog.bytes``."""
    found: list[tuple[str, int, int] | None] = []
    for record in records:
        if isinstance(record, Hole):
            found += [None] * record.length
        elif isinstance(record, Chunk):
            line = record.line
            for value in record.data:
                found.append((record.stream, value, line))
                line += value == 10
    return found


def read_all(store: LogStore, at: Cursor, job_id: str) -> list[Record]:
    """All that a reader gives from ``at`` to the end of the attempt as it is now; each piece must join the last one."""
    reader = store.reader(job_id, at)
    records: list[Record] = []
    end = at.offset
    while piece := reader.read():
        for record in piece:
            if isinstance(record, Chunk | Hole):
                assert record.length > 0
                assert record.offset == end
                end = record.end
        records += piece
        assert reader.cursor == Cursor(at.attempt, end)
    return records


class PlainLog:
    """What a `LogStore` must answer for one job: its methods without Redis, on plain lists."""

    def __init__(self, head: int, tail: int) -> None:
        self.limits = head, tail
        self.attempts: dict[int, PlainAttempt] = {}

    @property
    def highest(self) -> int:
        """The newest attempt's number, 0 without any."""
        return max(self.attempts, default=0)

    def start(self, about: Attempt) -> tuple[Cursor, int]:
        """An execution has one attempt; a number is taken once, and none below it behind that."""
        known = (one for one in self.attempts.values() if one.about.execution == about.execution)
        one = next(known, None)
        if one is None:
            number = about.number or self.highest + 1
            if number <= self.highest:
                raise LogClosed(f"attempt {number}")
            one = self.attempts[number] = PlainAttempt(replace(about, number=number), *self.limits)
        one.alive = True
        return Cursor(one.about.number, one.size), one.written.lines

    def append(self, at: Cursor, elements: Sequence[bytes], *, end: int, lines: int) -> int:
        """What joins the log's end is added, all else refused; a lost end is taken back."""
        one = self._attempt(at.attempt)
        if one.end and one.end.outcome != "lost":
            raise LogClosed(f"attempt {at.attempt}")
        if at.offset == one.size:
            one.end = None
            one.trim()
            for element in elements:
                one.add(decode(element))
            assert (end, lines) == (one.size, one.written.lines)
        return one.size

    def end(self, end: End) -> int:
        """One end, at the end, the same if it is said again; only a lost one gives way to another."""
        one = self._attempt(end.attempt)
        if one.end in {end, replace(end, final=False)}:
            return one.size
        if one.end and (one.end.outcome != "lost" or end.outcome == "lost"):
            raise LogClosed(f"attempt {end.attempt}")
        if end.bytes == one.size:
            one.end = end if self.highest == end.attempt else replace(end, final=False)
            one.kept.append(one.end)
            one.alive = False
        return one.size

    def keep_alive(self, attempt: int) -> None:
        """A worker writes it."""
        self._attempt(attempt).alive = True

    def delete(self) -> None:
        """Nothing is left."""
        self.attempts.clear()

    def alive(self, attempt: int) -> bool:
        """Whether a worker writes it."""
        return attempt in self.attempts and self.attempts[attempt].alive

    def line(self, attempt: int, line: int) -> Cursor:
        """Where a line begins."""
        here = self.attempts.get(attempt)
        return Cursor(attempt, here.written.line(line) if here else 0)

    def tail(self, lines: int) -> Cursor:
        """Where the last lines of all attempts begin."""
        for number in sorted(self.attempts, reverse=True):
            log = self.attempts[number].written
            if lines <= log.all_lines:
                return Cursor(number, log.line(log.all_lines - lines + 1))
            lines -= log.all_lines
        return Cursor(min(self.attempts, default=1), 0)

    def since(self, time: int) -> Cursor:
        """Where the first record that is not older begins, in the first attempt that has one."""
        for number, one in sorted(self.attempts.items()):
            for record in one.records:
                if record.time >= time:
                    return Cursor(number, record.offset)
        return self.end_of(max(self.attempts, default=1))

    def end_of(self, attempt: int) -> Cursor:
        """The cursor behind all of it."""
        return Cursor(attempt, self.attempts[attempt].size if attempt in self.attempts else 0)

    def read(self, at: Cursor) -> list[Record]:
        """All records from a cursor on, the first one cut where it says."""
        records = self.attempts[at.attempt].records if at.attempt in self.attempts else []
        reached = [record for record in records if record.offset >= at.offset or record.end > at.offset]
        return [cut(record, at.offset) for record in reached]

    def summary(self) -> LogSummary | None:
        """What is known of the attempts."""
        told = [
            AttemptSummary(number, one.about.time, one.size, one.written.lines, one.about, one.end, one.gap)
            for number, one in sorted(self.attempts.items())
        ]
        return LogSummary("", told) if told else None

    def _attempt(self, number: int) -> PlainAttempt:
        if number not in self.attempts:
            raise AttemptMissing(f"attempt {number}")
        return self.attempts[number]


class PlainAttempt:
    """One attempt: all its records, and what its output is made of.

    What begins behind the first ``head`` bytes of output is its tail, which is trimmed to ``tail`` bytes and more.
    """

    def __init__(self, about: Attempt, head: int, tail: int) -> None:
        self.about = about
        self.limits = head, tail
        self.head: list[Record] = [about]
        self.tail: list[Record] = []
        self.gap: Hole | None = None
        self.written = WrittenLog(began=about.time)
        self.end: End | None = None
        self.alive = False

    @property
    def size(self) -> int:
        """Bytes of output."""
        return len(self.written.bytes)

    @property
    def split(self) -> bool:
        """Whether there is a tail, or was one."""
        return bool(self.tail or self.gap)

    @property
    def kept(self) -> list[Record]:
        """The records to which the next one is added."""
        return self.tail if self.split else self.head

    @property
    def records(self) -> list[Record]:
        """All that can be read: in the place of what was removed is a hole."""
        return [*self.head, *([self.gap] if self.gap else []), *self.tail]

    def add(self, record: Record) -> None:
        """Go on with a record of output."""
        assert isinstance(record, Chunk | Hole)
        (self.tail if self.split or record.offset >= self.limits[0] else self.head).append(record)
        self.written.add(record)

    def trim(self) -> None:
        """Remove the oldest records of the tail, as long as those that stay have enough output."""
        while self.tail and sum(r.length for r in self.tail[1:] if isinstance(r, Chunk)) >= self.limits[1]:
            oldest = self.tail.pop(0)
            line = oldest.line if isinstance(oldest, Chunk | Hole) else self.line_behind
            lines = oldest.lines if isinstance(oldest, Chunk | Hole) else 0
            if self.gap is None:
                assert isinstance(oldest, Chunk | Hole)
                self.gap = Hole(oldest.time, oldest.offset, line, 0, oldest.midline, 0, OVER_LIMIT)
            length = oldest.end - self.gap.offset
            self.gap = replace(self.gap, time=oldest.time, length=length, lines=line + lines - self.gap.line)
            for number in range(oldest.offset, oldest.end):
                self.written.bytes[number] = None
            # A line that begins in what is not there any more is found where that begins.
            behind = self.tail[0] if self.tail else None
            joins = isinstance(behind, Chunk | Hole) and not behind.midline
            starts = self.written.starts
            for number, start in enumerate(starts):
                if self.gap.offset < start < self.gap.end + (not joins):
                    starts[number] = self.gap.offset

    @property
    def line_behind(self) -> int:
        """The line that goes on where the gap ends."""
        assert self.gap
        return self.gap.line + self.gap.lines


def cut(record: Record, start: int) -> Record:
    """The part of a record from an offset on."""
    if isinstance(record, Chunk):
        return record.part(start, record.end)
    if isinstance(record, Hole) and record.offset < start:
        return replace(record, offset=start, length=record.end - start, midline=True)
    return record
