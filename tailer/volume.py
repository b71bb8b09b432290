r"""The file of one attempt in the archive: its records in zstd frames, and an index by which they are found.

::

    piece, piece, ...            see ``tailer.piece``: elements as ``tailer.records`` has them, without compression of
                                 their own
    "\x50\x2a\x4d\x18", SIZE     a skippable frame (RFC 8878, section 3.1.2); SIZE is 4 bytes, little-endian
        index                    a zstd frame: JSON, see ``Volume``
        LENGTH                   bytes of the index; 8 bytes, big-endian
        "TAILER1\n"

So the last bytes of the file lead to the index, the index to every piece, and ``zstd -dc`` shows all of the log.
"""

from __future__ import annotations

import json
import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import IO

import zstandard

from tailer import piece
from tailer.errors import CorruptRecord
from tailer.records import Header, attempt_from_json, end_from_json, header
from tailer.store import AttemptSummary

FULL = 256 << 10
"""Bytes of elements at which a piece is full: a tail reads one or two of them."""
MOST = 64 << 20
"""Bytes that neither a piece nor an index can have unpacked."""
LEVEL = 3
MAGIC = b"TAILER1\n"
SKIPPABLE = b"\x50\x2a\x4d\x18"
_FOOT = struct.Struct(">Q8s")
COLUMNS = ("size", "count", "time", "offset", "length", "line", "lines")
"""Of each piece: its bytes in the file, its elements, and the header of the last of these."""


class Writer:
    """Writes a volume to a file, record by record."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._compressor = zstandard.ZstdCompressor(level=LEVEL)
        self._piece = bytearray()
        self._count = 0
        self._last = Header(0, 0, 0, 1, 0)
        self._columns = {name: array("q") for name in COLUMNS}

    def add(self, element: bytes) -> None:
        """Go on with an element of the list."""
        self._piece += piece.framed([element])
        self._count += 1
        self._last = header(element)
        if len(self._piece) >= FULL:
            self._flush()

    def _flush(self) -> None:
        frame = self._compressor.compress(self._piece)
        self._file.write(frame)
        for name, value in zip(COLUMNS, (len(frame), self._count, *self._last), strict=True):
            self._columns[name].append(value)
        self._piece.clear()
        self._count = 0

    def close(self, attempt: AttemptSummary) -> None:
        """Write the index, which tells of ``attempt``, behind all."""
        if self._count:
            self._flush()
        told = {
            "attempt": attempt.number,
            "started": attempt.started,
            "bytes": attempt.bytes,
            "lines": attempt.lines,
            "about": asdict(attempt.about) if attempt.about else None,
            "end": attempt.end.as_dict() if attempt.end else None,
            "pieces": {name: list(column) for name, column in self._columns.items()},
        }
        index = self._compressor.compress(json.dumps(told, separators=(",", ":")).encode())
        self._file.write(SKIPPABLE + struct.pack("<I", len(index) + _FOOT.size) + index)
        self._file.write(_FOOT.pack(len(index), MAGIC))


@dataclass(frozen=True, slots=True)
class Volume:
    """The index of a volume: what is known of the attempt, and where its pieces are."""

    attempt: AttemptSummary
    starts: array[int]
    """Of each piece, and behind the last one: its first byte in the file."""
    firsts: array[int]
    """Of each piece, and behind the last one: the index of its first element."""
    lasts: Sequence[array[int]]
    """The numbers of ``Header``, each of the last element of each piece."""

    @property
    def end(self) -> int:
        """The offset behind the last element."""
        last = self.last(len(self) - 1) if len(self) else Header(0, 0, 0, 1, 0)
        return last.offset + last.length

    def piece_of(self, index: int) -> int:
        """Return the number of the piece that has the element; that of none if no piece has."""
        return bisect_right(self.firsts, index) - 1

    def piece_that_reaches(self, what: str, value: int) -> int | None:
        """Return the number of the first piece that holds an element that reaches ``value``."""
        number = bisect_left(range(len(self)), True, key=lambda one: self.last(one).reaches(what, value))
        return number if number < len(self) else None

    def last(self, piece: int) -> Header:
        """Return the header of the last element of a piece."""
        return Header(*(column[piece] for column in self.lasts))

    def __len__(self) -> int:
        return len(self.starts) - 1


def foot(data: bytes) -> int:
    """Return how many of the last bytes of a volume its index takes, given its end. Raises ``CorruptRecord``."""
    if len(data) >= _FOOT.size:
        length, magic = _FOOT.unpack(data[-_FOOT.size :])
        if magic == MAGIC and 0 < length <= MOST:
            return int(length) + _FOOT.size
    raise CorruptRecord("not a log of the archive: its last bytes are none that Tailer wrote")


def parse(data: bytes) -> Volume:
    """Read the index at the end of ``data``, which has all of it. Raises ``CorruptRecord``."""
    try:
        told = json.loads(piece.unpack(data[-foot(data) : -_FOOT.size], MOST))
        attempt = AttemptSummary(
            number=int(told["attempt"]),
            started=int(told["started"]),
            bytes=int(told["bytes"]),
            lines=int(told["lines"]),
            about=attempt_from_json(json.dumps(told["about"])),
            end=end_from_json(json.dumps(told["end"])),
            archived=True,
        )
        columns = [array("q", told["pieces"][name]) for name in COLUMNS]
        list(zip(*columns, strict=True))  # raises if one is shorter
        sizes, counts, *lasts = columns
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise CorruptRecord(f"not a log of the archive: its index cannot be read ({error})") from None
    return Volume(
        attempt,
        array("q", accumulate(sizes, initial=0)),
        array("q", accumulate(counts, initial=0)),
        lasts,
    )


def elements(frame: bytes) -> list[bytes]:
    """Return the elements of a piece. Raises ``CorruptRecord``."""
    try:
        return piece.elements(frame, MOST)
    except ValueError as error:
        raise CorruptRecord(f"not a piece of a log of the archive ({error})") from None
