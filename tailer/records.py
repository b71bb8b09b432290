r"""The records of a log and their bytes in Redis.

A log is a list of elements, one record each: one ASCII header line, then the payload::

    KIND TIME OFFSET LENGTH LINE LINES FLAGS\n<payload>

=========  ====================================================================================================
KIND       ``o`` stdout, ``e`` stderr (chunks of the job's output), ``s`` system (lines of Tailer's own among it);
           ``a`` attempt begins; ``h`` hole; ``x`` end; ``p`` several chunks in one: see ``tailer.sealed``
TIME       milliseconds since 1970 at which the worker read the bytes
OFFSET     bytes of the attempt's output before this record
LENGTH     bytes of the attempt's output that this record stands for (0 for ``a`` and ``x``)
LINE       number of the line in which the record begins; the first line is 1
LINES      newlines among these bytes
FLAGS      ``-`` none; ``z`` the payload is a zstd frame; ``m`` the record begins in the middle of a line
=========  ====================================================================================================

A chunk's payload is the output itself; that of the others is a JSON object. What a job prints is always inside
a chunk's payload, behind the header line, so output can never pass for a record.
"""

from __future__ import annotations

import json
import math
import re
from collections import deque
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple, TypeAlias, TypeVar

import zstandard

from tailer.errors import CorruptRecord

MAX_CHUNK = 64 * 1024
"""Most raw bytes in one chunk. Odd larger sizes waste memory in the server's allocator (size classes)."""
COMPRESS_FROM = 1024
"""Chunks of at least so many bytes are tried with zstd; below it a frame saves little."""
STDOUT, STDERR, SYSTEM = "stdout", "stderr", "system"
OVER_LIMIT = "over the log's limit, which keeps its beginning and its end"
"""Cause of the hole between head and tail of a long log."""
_HEADER = re.compile(rb"([oesahx]) ([0-9]{1,14}) " + rb"([0-9]{1,15}) " * 4 + rb"(-|mz?|z)")
"""Numbers so small that every later sum, and the year of every time, is one that Python and Redis can hold."""
_decompressors: deque[zstandard.ZstdDecompressor] = deque(maxlen=16)
"""Those that nobody uses just now: making one takes a quarter of the time of using it, and threads cannot share it."""
_KINDS = {STDOUT: b"o", STDERR: b"e", SYSTEM: b"s"}
_STREAMS = {kind: stream for stream, kind in _KINDS.items()}


@dataclass(slots=True)
class Chunk:
    """Consecutive bytes of one stream. Never changed, though not frozen: that would take thrice as long to make.

    ``frame`` is how they are stored, if that is as a zstd frame. ``more``: what comes next is in the same element.
    """

    stream: str
    time: int
    offset: int
    line: int
    lines: int
    midline: bool
    data: bytes
    frame: bytes | None = field(default=None, compare=False, repr=False)
    more: bool = field(default=False, compare=False, repr=False)

    @property
    def length(self) -> int:
        """Bytes of output."""
        return len(self.data)

    @property
    def end(self) -> int:
        """Offset behind the last byte."""
        return self.offset + len(self.data)

    def part(self, start: int, stop: int) -> Chunk:
        """Return the bytes from offset ``start`` up to ``stop`` as a chunk of its own, with its own line numbers."""
        start, stop = max(start, self.offset), min(stop, self.end)
        if (start, stop) == (self.offset, self.end):
            return self
        before = self.data[: start - self.offset]
        data = self.data[start - self.offset : max(start, stop) - self.offset]
        midline = self.midline if not before else not before.endswith(b"\n")
        skipped = before.count(b"\n")
        return Chunk(self.stream, self.time, start, self.line + skipped, data.count(b"\n"), midline, data)


@dataclass(frozen=True, slots=True)
class Hole:
    """Bytes that the job wrote and the log does not have, with the cause. Never silent, never guessed.

    ``next`` is the index of the element behind it, where the store made it in the place of elements that it removed.
    """

    time: int
    offset: int
    line: int
    lines: int
    midline: bool
    length: int
    cause: str
    next: int | None = field(default=None, compare=False, repr=False)

    @property
    def end(self) -> int:
        """Offset behind the last missing byte."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class Attempt:
    """An RQ execution of the job begins; always the first record of its list."""

    time: int
    number: int
    execution: str
    worker: str = ""
    queue: str = ""
    description: str = ""
    capture: str = ""
    function: str = ""

    offset = length = end = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The attempt is over. Written after its last byte was drained, so nothing comes behind it.

    ``outcome`` is one of ``OUTCOMES``; ``status`` is RQ's at that moment, ``None`` if RQ no longer knows the job.
    ``final`` is false where another attempt will follow (a retry, a repetition). ``duration`` is in seconds,
    ``max_rss`` in bytes. ``sha256`` is over all bytes of the log, in order, those in holes included; it is ``None``
    where the writer of the record did not see them all (a work horse that outlived its worker), or had to mask some
    of them after it had summed them up.
    """

    outcome: str
    attempt: int
    final: bool
    status: str | None = None
    exit: int | None = None
    signal: int | None = None
    reason: str | None = None
    duration: float | None = None
    bytes: int = 0
    lines: int = 0
    dropped: int = 0
    sha256: str | None = None
    max_rss: int | None = None
    worker: str | None = None
    ended_at: float = 0.0

    @property
    def offset(self) -> int:
        """Where the attempt's output ended."""
        return self.bytes

    @property
    def end(self) -> int:
        """Same as ``offset``: an end record stands for no bytes."""
        return self.bytes

    @property
    def length(self) -> int:
        """Always 0."""
        return 0

    @property
    def time(self) -> int:
        """``ended_at`` in milliseconds."""
        return round(self.ended_at * 1000)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON takes them."""
        return asdict(self)


OUTCOMES = ("finished", "failed", "killed", "timeout", "stopped", "canceled", "lost", "expired", "deleted")
Record: TypeAlias = Chunk | Hole | Attempt | End


class Header(NamedTuple):
    """The numbers in an element's header line."""

    time: int
    offset: int
    length: int
    line: int
    lines: int

    def reaches(self, what: str, value: int) -> bool:
        """Return whether the record reaches an ``offset``, a ``line`` or a ``time``: see ``LogStore.find``."""
        if what == "time":
            return self.time >= value
        if what == "line":
            return self.line + self.lines >= value
        return self.offset >= value or self.offset + self.length > value


def header(element: bytes) -> Header:
    """Read the header of an element that ``encode`` made."""
    return Header(*map(int, element.partition(b"\n")[0].split(b" ")[1:6]))


def encode(record: Record, compressor: zstandard.ZstdCompressor | None = None) -> bytes:
    """Return the list element for ``record``. With a compressor, chunks that shrink by it become zstd frames."""
    if isinstance(record, Chunk):
        return _encode_chunk(record, compressor)
    if isinstance(record, Hole):
        flags = b"m" if record.midline else b"-"
        payload = {"cause": record.cause}
        return _element(b"h", record.time, record.offset, record.length, record.line, record.lines, flags, payload)
    if isinstance(record, Attempt):
        return _element(b"a", record.time, 0, 0, 1, 0, b"-", asdict(record))
    return _element(b"x", record.time, record.bytes, 0, record.lines + 1, 0, b"-", asdict(record))


def _encode_chunk(chunk: Chunk, compressor: zstandard.ZstdCompressor | None) -> bytes:
    payload, flags = chunk.data, "m" if chunk.midline else ""
    if compressor and len(payload) >= COMPRESS_FROM:
        packed = compressor.compress(payload)
        if len(packed) < len(payload):
            payload, flags = packed, flags + "z"
    header = b"%b %d %d %d %d %d %b\n" % (
        _KINDS[chunk.stream],
        chunk.time,
        chunk.offset,
        chunk.length,
        chunk.line,
        chunk.lines,
        flags.encode() or b"-",
    )
    return header + payload


def _element(
    kind: bytes, time: int, offset: int, length: int, line: int, lines: int, flags: bytes, payload: object
) -> bytes:
    header = b"%b %d %d %d %d %d %b\n" % (kind, time, offset, length, line, lines, flags)
    return header + json.dumps(payload, separators=(",", ":")).encode()


def decode(element: bytes) -> Record:
    """Return the record in a list element.

    Raises:
        CorruptRecord: the element is not one that ``encode`` made.
    """
    header, _, payload = element.partition(b"\n")
    if match := _HEADER.fullmatch(header):
        time, offset, length, line, lines = map(int, match.groups()[1:6])
        kind, flags = match[1], match[7]
        try:
            if kind in _STREAMS:
                frame = payload if b"z" in flags else None
                data = payload if frame is None else _unpack(frame, length)
                if len(data) == length and data.count(b"\n") == lines:
                    return Chunk(_STREAMS[kind], time, offset, line, lines, b"m" in flags, data, frame)
            elif kind == b"h":
                told = json.loads(payload)
                cause, after = str(told["cause"]), told.get("next")
                if after is None or (type(after) is int and 0 < after < 1 << 53):
                    return Hole(time, offset, line, lines, b"m" in flags, length, cause, after)
            else:
                record: Record = _from_json(Attempt, payload) if kind == b"a" else _from_json(End, payload)
                if encode(record).startswith(header + b"\n"):
                    return record
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError, zstandard.ZstdError) as error:
            raise CorruptRecord(f"not a record: {element[:60]!r} ({error})") from None
    raise CorruptRecord(f"not a record: {element[:60]!r} (its header is none, or not that of its payload)")


def _unpack(frame: bytes, length: int) -> bytes:
    """Decompress, having checked the size that the frame claims: a forged frame must not fill the memory."""
    if not 0 < length <= MAX_CHUNK or zstandard.frame_content_size(frame) != length:
        raise ValueError("the frame's size differs from the header's")
    try:
        decompressor = _decompressors.pop()
    except IndexError:
        decompressor = zstandard.ZstdDecompressor()
    data = decompressor.decompress(frame)
    _decompressors.append(decompressor)
    return data


def attempt_from_json(text: str) -> Attempt | None:
    """Read an attempt record's JSON; ``None`` if it is none."""
    try:
        return _from_json(Attempt, text)
    except (ValueError, TypeError, RecursionError):
        return None


def end_from_json(text: str) -> End | None:
    """Read an end record's JSON; ``None`` if it is none."""
    try:
        return _from_json(End, text)
    except (ValueError, TypeError, RecursionError):
        return None


_Told = TypeVar("_Told", Attempt, End)
_TYPES: dict[str, type | tuple[type, ...]] = {"str": str, "int": int, "bool": bool, "float": (int, float)}


def _from_json(record: type[_Told], text: str | bytes) -> _Told:
    """Read the fields this version knows, so that an older reader can read a newer writer's records.

    Raises ``ValueError`` or ``TypeError`` if there is anything but such a record.
    """
    values = json.loads(text)
    if not isinstance(values, dict):
        raise TypeError("not an object")
    known = {field.name: field.type for field in fields(record) if field.name in values}
    for name, declared in known.items():
        kind, _, optional = str(declared).partition(" | ")
        value = values[name]
        if not isinstance(value, _TYPES[kind]) and not (optional and value is None):
            raise TypeError(f"{name} is not of type {declared}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} is not finite")
    return record(**{name: values[name] for name in known})
