"""What a log must be, as plain lists: builds records for the store, and answers what reading them has to give."""

from collections.abc import Iterable, Sequence

import zstandard
from hypothesis import strategies as st

from tailer.records import STDERR, STDOUT, Attempt, Chunk, End, Hole, Record, encode
from tailer.store import Cursor, LogStore

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

    def __init__(self, written: Iterable[tuple[str, bytes, int]], *, began: int = 1000) -> None:
        self.began = began
        self.records: list[Chunk | Hole] = []
        self.bytes: list[tuple[str, int, int] | None] = []  # (stream, byte, number of its line), or not in the log
        self.starts = [0]  # of each line; where a newline is missing, the start of what is missing
        time, midline = began, False
        for stream, data, pause in written:
            time += pause
            self._add(stream, data, time, midline=midline)
            midline = not data.endswith(b"\n")

    def _add(self, stream: str, data: bytes, time: int, *, midline: bool) -> None:
        offset, line, lines = len(self.bytes), len(self.starts), data.count(b"\n")
        if stream == HOLE:
            self.records.append(Hole(time, offset, line, lines, midline, len(data), "a test"))
            self.bytes += [None] * len(data)
            self.starts += [offset] * lines
            return
        self.records.append(Chunk(stream, time, offset, line, lines, midline, data))
        for value in data:
            self.bytes.append((stream, value, len(self.starts)))
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
