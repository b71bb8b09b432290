"""Logs as a worker writes them, for tests of what reads them: through the store, and without a worker."""

from __future__ import annotations

import uuid
from typing import Any

import redis
import zstandard
from rq.job import Job

from tailer.records import MAX_CHUNK, STDOUT, Attempt, Chunk, End, Hole, encode
from tailer.store import Cursor, LogStore, now_ms


class Written:
    """A log that the test writes itself, attempt by attempt. `at` is where it ends, behind `lines` newlines."""

    queue = "a-queue"

    def __init__(
        self, store: LogStore, job_id: str | None = None, *, time: int | None = None, queue: str = queue
    ) -> None:
        self.store = store
        self.job_id = job_id or f"job-{uuid.uuid4().hex}"
        self.queue = queue
        self.start(time)

    def start(self, time: int | None = None, queue: str | None = None) -> None:
        """Begin the next attempt; at `time` in ms, or now; in a queue, or in that of the job."""
        self.execution = uuid.uuid4().hex
        about = Attempt(
            time or now_ms(), 0, self.execution, "a-worker", queue or self.queue, "a.job()", "separate", "a.job"
        )
        self.at, self.lines = self.store.start(self.job_id, about)
        self.midline = False

    def chunks(self, data: bytes, stream: str = STDOUT, time: int | None = None) -> list[Chunk]:
        """The chunks that these bytes make behind what is written."""
        made, offset, line, midline = [], self.at.offset, self.lines + 1, self.midline
        for start in range(0, len(data), MAX_CHUNK):
            piece = data[start : start + MAX_CHUNK]
            made.append(Chunk(stream, time or now_ms(), offset, line, piece.count(b"\n"), midline, piece))
            offset, line, midline = made[-1].end, line + made[-1].lines, not piece.endswith(b"\n")
        return made

    def write(self, data: bytes, stream: str = STDOUT, time: int | None = None) -> None:
        """Append bytes; `time` is when they were read, in ms."""
        chunks = self.chunks(data, stream, time)
        after = chunks[-1].line - 1 + chunks[-1].lines
        compressor = zstandard.ZstdCompressor(level=1)  # its own: threads cannot share one
        self._append([encode(chunk, compressor) for chunk in chunks], chunks[-1].end, after)
        self.midline = not data.endswith(b"\n")

    def corrupt(self, length: int, lines: int) -> None:
        """Append an element that nobody can read, in the place of so many bytes and newlines."""
        self._append([b"not a record at all"], self.at.offset + length, self.lines + lines)

    def hole(self, length: int, lines: int, cause: str) -> None:
        """Append a hole record."""
        hole = Hole(now_ms(), self.at.offset, self.lines + 1, lines, self.midline, length, cause)
        self._append([encode(hole)], hole.end, self.lines + lines)

    def _append(self, elements: list[bytes], end: int, lines: int) -> None:
        assert self.store.append(self.job_id, self.at, elements, end=end, lines=lines) == end
        self.at, self.lines = Cursor(self.at.attempt, end), lines

    def end(self, outcome: str = "finished", **fields: Any) -> None:
        """Write the end record of the attempt."""
        given = {"final": True, "status": outcome, "ended_at": now_ms() / 1000, "duration": 1.0, **fields}
        counts = {"attempt": self.at.attempt, "bytes": self.at.offset, "lines": self.lines}
        assert self.store.end(self.job_id, End(outcome=outcome, **given, **counts)) == self.at.offset

    def rq_job(self, connection: redis.Redis, status: str) -> Job:
        """Make RQ know the job, in this state."""
        job = Job.create("tests.jobs.hello", id=self.job_id, connection=connection, origin=self.queue, status=status)
        job.save()
        return job
