"""What the suite's job writes: lines with a number and a checksum, and an account of how many it has written."""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tailer.records import STDERR, STDOUT

STREAMS = (STDOUT, STDERR)
HEAD = 22
"""Bytes of a line before its filling: stream, number and checksum."""
FILLING = hashlib.sha512(b"filling").hexdigest().encode() * 64
FOREVER = 1 << 62


@dataclass(frozen=True)
class Shape:
    """The streams and sizes of a job's lines, over and over again. A line is one write, of at most PIPE_BUF bytes."""

    period: tuple[tuple[str, int], ...]

    def line(self, number: int) -> tuple[str, bytes]:
        """The stream of the line with this number, from 0, and its bytes; some are no UTF-8."""
        stream, size = self.period[number % len(self.period)]
        name = b"%b %010d " % (stream[3:4].encode(), number)
        start = number * 31 % 4000
        filling = FILLING[start : start + size - HEAD - 2] + (b"\xff" if number % 16 == 5 else b";")
        return stream, b"%b%08x %b\n" % (name, zlib.crc32(name + filling), filling)

    def size(self, stream: str, lines: int) -> int:
        """The bytes of this stream among so many lines."""
        rounds, rest = divmod(lines, len(self.period))
        return rounds * self._bytes(stream, len(self.period)) + self._bytes(stream, rest)

    def total(self, lines: int) -> int:
        """The bytes of so many lines."""
        return sum(self.size(stream, lines) for stream in STREAMS)

    def part(self, stream: str, start: int, stop: int) -> bytes:
        """The bytes of the stream from `start` up to `stop`."""
        number = start // self._bytes(stream, len(self.period)) * len(self.period)
        skipped, made = start - self.size(stream, number), bytearray()
        while len(made) < skipped + stop - start:
            if self.period[number % len(self.period)][0] == stream:
                made += self.line(number)[1]
            number += 1
        return bytes(made[skipped : skipped + stop - start])

    def _bytes(self, stream: str, lines: int) -> int:
        return sum(size for name, size in self.period[:lines] if name == stream)


SHAPES = {
    "lines": Shape(
        (
            (STDOUT, 40),
            (STDOUT, 120),
            (STDERR, 80),
            (STDOUT, 1000),
            (STDOUT, 30),
            (STDERR, 300),
            (STDOUT, 60),
            (STDERR, 4000),
        )
    ),
    "blocks": Shape(((STDOUT, 4096), (STDOUT, 4096), (STDOUT, 4096), (STDERR, 4096))),
    "short": Shape(((STDOUT, 80), (STDOUT, 60), (STDERR, 70))),
}


class Account(ctypes.Structure):
    """How many lines a job has begun to write and has written. It is a mapped file, which outlives any death.

    The test sets `go` and `until`: the job writes from then on, and up to that many lines. Times are those of the
    monotonic clock, in seconds; `longest` is how long one write took at most.
    """

    _fields_ = (
        ("go", ctypes.c_int64),
        ("until", ctypes.c_int64),
        ("begun", ctypes.c_int64),
        ("done", ctypes.c_int64),
        ("began", ctypes.c_double),
        ("ended", ctypes.c_double),
        ("longest", ctypes.c_double),
    )

    @classmethod
    def made(cls, path: Path) -> Self:
        """Make the file of a job that has not begun."""
        path.write_bytes(bytes(ctypes.sizeof(cls)))
        account = cls.at(path)
        account.until = FOREVER
        return account

    @classmethod
    def at(cls, path: Path) -> Self:
        """Look into such a file, and share it with whoever else does."""
        with path.open("r+b") as file:
            return cls.from_buffer(mmap.mmap(file.fileno(), ctypes.sizeof(cls)))

    @property
    def duration(self) -> float | None:
        """Seconds from the first line to behind the last one, or None if the job did not come so far."""
        return self.ended - self.began if self.ended else None
