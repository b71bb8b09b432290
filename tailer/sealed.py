r"""Sealed elements: chunks of a finished log that lie behind one another, packed together to take less room.

A job that writes now and then has a log of small elements, most of which is headers. A sealed element takes the place
of many of them::

    p TIME OFFSET LENGTH LINE LINES FLAGS\n<the chunks' elements, uncompressed by themselves: see ``tailer.piece``>

OFFSET, LINE and FLAGS but for ``z`` are those of the first chunk, LENGTH and LINES their sums, TIME the latest of
theirs. So whatever finds an element by its header finds the sealed one that holds it, and chunks keep all that they
tell: stream, time and place. ``tailer.records`` has the meaning of each.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable
from typing import Any

import redis
import zstandard

from tailer import piece
from tailer.errors import CorruptRecord
from tailer.records import MAX_CHUNK, Chunk, Record, decode, encode, header

FIRST = 1 << 40
"""Index of the first element of a list that is sealed. None of a list as it was written has one so high."""
FULL = MAX_CHUNK
"""Bytes of elements at which a sealed one is full. A larger one saves nothing, and a tail would have to unpack it."""
LEVEL = 3
"""Of zstd: as in the archive. A worker has other things to do."""
MOST = 32 << 20
"""Bytes of output up to which a log is sealed: all of it is read and written once more for that."""
STEP = 128
"""Elements that are read and packed at once: it should not take 0.1 s, for which a worker would wait."""
FEWEST, LARGEST = 8, 8 << 10
"""It takes so many elements, of so many bytes of output at most on average: larger ones are compressed well enough."""
GAIN = 0.2
"""Part of a list that must be saved."""
_MOST = 4 * FULL
"""Bytes that a sealed element can have unpacked."""
_HEADER = re.compile(rb"p ([0-9]{1,14}) " + rb"([0-9]{1,15}) " * 4 + rb"(mz|z)")


def places(first: int, last: int) -> tuple[int, int]:
    """Return where in a list the elements of these indexes are; a ``last`` of -1 is for all of them."""
    base = FIRST if first >= FIRST else 0
    return first - base, last - base if last >= 0 else last


def worthwhile(size: int, count: int) -> bool:
    """Return whether packing ``size`` bytes of output in ``count`` elements should save something."""
    return size <= MOST and count >= FEWEST and size <= count * LARGEST


def pack(connection: redis.Redis, key: str, count: int, *, gain: float) -> Generator[None, None, list[bytes]]:
    """Return what is to take the place of a list's ``count`` elements; nothing if it would save less than ``gain``.

    In steps, between which it yields. Raises redis-py's errors.
    """
    sealer = Sealer()
    for first in range(0, count, STEP):
        found: Any = connection.lrange(key, first, first + STEP - 1)
        sealer.add(found)
        yield
    sealer.close()
    return sealer.packed if sealer.made < (1 - gain) * sealer.taken else []


class Sealer:
    """Packs a list's elements, one after the other; ``packed`` is what takes their place.

    What is no chunk, or does not join the one before, stays as it is. So does a chunk with nothing to be packed with.
    """

    def __init__(self) -> None:
        self.packed: list[bytes] = []
        self.taken = 0  # bytes of elements
        self.made = 0  # bytes of what takes their place, without what is still held
        self._compressor = zstandard.ZstdCompressor(level=LEVEL)
        self._held: list[tuple[bytes, Chunk]] = []
        self._size = 0

    def add(self, elements: Iterable[bytes]) -> None:
        """Go on with these."""
        for element in elements:
            self.taken += len(element)
            chunk = _chunk(element)
            last = self._held[-1][1] if self._held else None
            if last and not (chunk and _joins(last, chunk)):
                self.close()
            if chunk is None:
                self._put(element)
                continue
            self._held.append((element, chunk))
            self._size += len(element) if chunk.frame is None else chunk.length
            if self._size >= FULL:
                self.close()

    def close(self) -> None:
        """Pack what is held."""
        if len(self._held) == 1:
            self._put(self._held[0][0])
        elif self._held:
            chunks = [chunk for _, chunk in self._held]
            time, flags = max(chunk.time for chunk in chunks), b"mz" if chunks[0].midline else b"z"
            told = b"p %d %d %d %d %d %b\n" % (time, *_sums(chunks), flags)
            self._put(told + self._compressor.compress(piece.framed(map(encode, chunks))))
        self._held.clear()
        self._size = 0

    def _put(self, element: bytes) -> None:
        self.packed.append(element)
        self.made += len(element)


def _chunk(element: bytes) -> Chunk | None:
    try:
        record = decode(element)
    except CorruptRecord:
        return None
    return record if isinstance(record, Chunk) else None


def elements(element: bytes) -> list[bytes]:
    """Return the elements that are packed in one, or just it if it is not sealed.

    Raises:
        CorruptRecord: it is not one that a ``Sealer`` made. The elements themselves are not looked at.
    """
    if not element.startswith(b"p "):
        return [element]
    told, _, frame = element.partition(b"\n")
    try:
        if _HEADER.fullmatch(told) and (found := piece.elements(frame, _MOST)):
            return found
    except ValueError as error:
        raise CorruptRecord(f"not a record: {element[:60]!r} ({error})") from None
    raise CorruptRecord(f"not a record: {element[:60]!r} (its header is none, or it is empty)")


def records(element: bytes) -> list[Record]:
    """Return the record of an element, or all of a sealed one, each but the last with ``more`` set.

    Raises:
        CorruptRecord: it is not one that ``encode`` or a ``Sealer`` made.
    """
    found = [decode(one) for one in elements(element)]
    if element.startswith(b"p "):
        chunks = [record for record in found if isinstance(record, Chunk)]
        joined = len(chunks) == len(found) and all(map(_joins, chunks, chunks[1:]))
        if not joined or header(element)[1:] != _sums(chunks):
            raise CorruptRecord(f"not a record: {element[:60]!r} (its header is not that of its chunks)")
        for chunk in chunks[:-1]:
            chunk.more = True
    return found


def _sums(chunks: list[Chunk]) -> tuple[int, int, int, int]:
    """Return OFFSET, LENGTH, LINE and LINES of chunks that join."""
    first, last = chunks[0], chunks[-1]
    return first.offset, last.end - first.offset, first.line, last.line + last.lines - first.line


def _joins(before: Chunk, after: Chunk) -> bool:
    return (after.offset, after.line) == (before.end, before.line + before.lines)
