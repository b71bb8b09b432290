r"""Sealed elements: chunks of a finished log that lie behind one another, packed together to take less room.

A job that writes now and then has a log of small elements, most of which is headers. A sealed element takes the place
of many of them::

    p TIME OFFSET LENGTH LINE LINES FLAGS\n<zstd frame: the chunks' elements as they were, uncompressed, in their order>

OFFSET, LINE and FLAGS but for ``z`` are those of the first chunk, LENGTH and LINES their sums, TIME the latest of
theirs. So whatever finds an element by its header finds the sealed one that holds it, and chunks keep all that they
tell: stream, time and place. ``tailer.records`` has the meaning of each.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator
from itertools import pairwise
from typing import Any

import redis
import zstandard

from tailer.errors import CorruptRecord
from tailer.records import MAX_CHUNK, Chunk, Record, decode, encode

FIRST = 1 << 40
"""Index of the first element of a list that is sealed. None of a list as it was written has one so high."""
FULL = MAX_CHUNK
"""Bytes of elements at which a sealed one is full. One of 1 MiB would be 2 % smaller, and a tail would unpack all."""
LEVEL = 3
"""Of zstd. Level 9 makes 10 % less of it, and takes four times as long."""
MOST = 32 << 20
"""Bytes of output up to which a log is sealed: all of it is read and written once more for that."""
STEP = 128
"""Elements that are read and packed at once: it should not take 0.1 s, for which a worker would wait."""
FEWEST, LARGEST = 8, 8 << 10
"""It takes so many elements, of so many bytes of output at most on average: larger ones are compressed well enough."""
GAIN = 0.2
"""Part of a list that must be saved."""
_MOST = 2 * FULL + 100
"""Bytes that a sealed element can have unpacked."""
_HEADER = re.compile(rb"p ([0-9]{1,14}) " + rb"([0-9]{1,15}) " * 4 + rb"(mz|z)")
_CHUNK_HEADER = re.compile(rb"[oes] [0-9]+ [0-9]+ ([0-9]{1,15}) [0-9 ]+ (?:-|m)\n")


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
            if last and not (chunk and (chunk.offset, chunk.line) == (last.end, last.line + last.lines)):
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
            first, last = chunks[0], chunks[-1]
            header = b"p %d %d %d %d %d %b\n" % (
                max(chunk.time for chunk in chunks),
                first.offset,
                last.end - first.offset,
                first.line,
                last.line + last.lines - first.line,
                b"mz" if first.midline else b"z",
            )
            self._put(header + self._compressor.compress(b"".join(map(encode, chunks))))
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
    header, _, frame = element.partition(b"\n")
    if not _HEADER.fullmatch(header):
        raise CorruptRecord(f"not a record: {element[:60]!r} (its header is none)")
    try:
        if not 0 < zstandard.frame_content_size(frame) <= _MOST:
            raise CorruptRecord(f"not a record: {element[:60]!r} (of no size that it can have)")
        return list(_split(zstandard.ZstdDecompressor().decompress(frame)))
    except zstandard.ZstdError as error:
        raise CorruptRecord(f"not a record: {element[:60]!r} ({error})") from None


def _split(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        match = _CHUNK_HEADER.match(data, at)
        end = match.end() + int(match[1]) if match else 0
        if not at < end <= len(data):
            raise CorruptRecord(f"not a record in a sealed one: {data[at : at + 60]!r}")
        yield data[at:end]
        at = end


def records(element: bytes) -> list[Record]:
    """Return the record of an element, or all of a sealed one, each but the last with ``more`` set.

    Raises:
        CorruptRecord: it is not one that ``encode`` or a ``Sealer`` made.
    """
    if not element.startswith(b"p "):
        return [decode(element)]
    chunks = [record for one in elements(element) if isinstance(record := decode(one), Chunk)]
    header = _HEADER.match(element)
    told = tuple(map(int, header.groups()[1:5])) if header else ()
    first, last = chunks[0], chunks[-1]
    joined = all(
        (after.offset, after.line) == (before.end, before.line + before.lines) for before, after in pairwise(chunks)
    )
    found = first.offset, last.end - first.offset, first.line, last.line + last.lines - first.line
    if not joined or told != found:
        raise CorruptRecord(f"not a record: {element[:60]!r} (its header is not that of its chunks)")
    for chunk in chunks[:-1]:
        chunk.more = True
    return list(chunks)
