"""Turns events of a log into the bytes of a response: plain text, server-sent events or NDJSON. Pure functions."""

from __future__ import annotations

import base64
import json
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii
from typing import Any, Literal, Protocol, Self, TypeVar

from tailer import channel
from tailer.channel import Beat
from tailer.follow import Event, Final
from tailer.jobs import JobState
from tailer.records import SYSTEM, Attempt, Chunk, End, Hole, Record
from tailer.store import Cursor

END_MARK = ":end"
"""Behind the cursor in the id of the end event, so that a reconnect from there is known to have seen the end."""
RETRY_MS = 2000
"""What an EventSource is told to wait before it reconnects."""

_SEQUENCE = (
    # ECMA-48: control sequences; strings (OSC, DCS, SOS, PM, APC) up to BEL or ST; two-byte escapes. What begins none
    # of them loses its ESC: left in, it might make one out of what follows when something between was taken out.
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b%b]*(?:\x07|\x1b\\)|[ -/]+[0-~]|[0-OQ-WYZ\\`-~])?"
)
_ESCAPES = re.compile(_SEQUENCE % b"")
_ESCAPES_IN_LINES = re.compile(_SEQUENCE % b"\n")
_UNFINISHED = re.compile(rb"(?:\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)|(?<!\xc2)\xc2+)\Z")
_C1 = re.compile(rb"\xc2([\x80-\x9f])")
"""The same functions as single characters (ECMA-48, section 5.3), as terminals take them in UTF-8."""
_STRAY = re.compile(rb"(?<!\xc2)\xc2+(?=\x1b)")
"""What might make one of these out of what follows, when the escape sequence between was taken out."""
_LONGEST_ESCAPE = 4096
_INCOMPLETE = re.compile(rb"(?:\r|[\xc2-\xdf]|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf4][\x80-\xbf]{0,2})\Z")
"""What an event must not end with: the first bytes of a UTF-8 character, or a CR whose LF may follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a log is shown.

    ``streams`` are those wanted; Tailer's own lines are always shown. ``records`` asks for JSON in server-sent events:
    a record for each of the ``lines``, or for each of the ``chunks``, in which they are stored.
    """

    streams: frozenset[str] = frozenset({"stdout", "stderr"})
    timestamps: bool = False
    strip: bool = False
    heartbeat: bool = False
    records: Literal["", "lines", "chunks"] = ""


Told_contra = TypeVar("Told_contra", contravariant=True)


class Encoder(channel.Encoder, Protocol[Told_contra]):
    """Encodes a response that tells of such events."""

    content_type: str

    def begin(self) -> bytes:
        """Return what the response starts with."""

    def encode(self, event: Told_contra | Record | Beat, cursor: Cursor, /) -> bytes:
        """Return the bytes for ``event``; ``cursor`` is the place behind it."""


class Stripper:
    """Takes terminal escape sequences out of a byte stream, also those that are split between pieces.

    ``left`` is what takes the place of each of them.
    """

    def __init__(self, left: Callable[[re.Match[bytes]], bytes] | bytes = b"") -> None:
        self._held = b""
        self._left = left

    def strip(self, data: bytes) -> bytes:
        """Return ``data`` without escape sequences; the start of an unfinished one is held back."""
        data = _seven_bits(self._held + data)
        unfinished = _UNFINISHED.search(data)
        held = len(data) - unfinished.start() if unfinished else 0
        stop = len(data) - (held if held <= _LONGEST_ESCAPE else 0)
        self._held = data[stop:]
        return _ESCAPES.sub(self._left, data[:stop])


def stripped(lines: bytes) -> bytes:
    """Return whole lines without terminal escape sequences, as many as there were: none goes on in the next one."""
    return _ESCAPES_IN_LINES.sub(b"", _seven_bits(lines))


def _seven_bits(data: bytes) -> bytes:
    """Return ``data`` with sequences that begin with one character beginning with ESC."""
    if b"\xc2" not in data:
        return data
    return _STRAY.sub(b"", _C1.sub(lambda match: b"\x1b%c" % (match[1][0] - 0x40), data))


class _Filtering:
    """What the formats share: leaving streams out and taking escape sequences away."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._strippers = {stream: Stripper() for stream in options.streams} if options.strip else {}

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    __hash__ = None  # type: ignore[assignment] # its state changes

    def catch_up(self, other: Self) -> None:
        """Take the state of another one of this format and these options, which has encoded more of the same log."""
        vars(self).update(vars(other))

    def _shown(self, chunk: Chunk) -> bytes:
        """Return the chunk's bytes as the options want them."""
        if not self._wants(chunk):
            return b""
        stripper = self._strippers.get(chunk.stream)
        return stripper.strip(chunk.data) if stripper else chunk.data

    def _wants(self, chunk: Chunk) -> bool:
        return chunk.stream in self._options.streams or chunk.stream == SYSTEM

    def _records(self, chunk: Chunk, cursor: Cursor) -> Iterator[tuple[str, str]]:
        if not self._wants(chunk):
            return iter(())
        return records_of(chunk, cursor, self._strippers.get(chunk.stream))


class Text(_Filtering):
    """The job's bytes as they are. A bad end adds one line, a hole another; nothing else is ever added."""

    content_type = "text/plain; charset=utf-8"

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._midline = False

    def begin(self) -> bytes:
        """Nothing."""
        return b""

    def encode(self, event: Event, cursor: Cursor) -> bytes:
        """Return the bytes for ``event``."""
        del cursor
        if isinstance(event, Chunk):
            return self._chunk(event)
        if isinstance(event, Hole):
            return self.own_line(plain(f"{event.length} bytes are missing here: {event.cause}"))
        if isinstance(event, Final) and event.end.outcome != "finished":
            return self.own_line(sentence(event.end))
        # NUL is what terminals ignore and files can be rid of; asked for with heartbeat=1.
        return b"\0" if isinstance(event, Beat) and self._options.heartbeat else b""

    def own_line(self, text: str) -> bytes:
        """Return a line of Tailer's own, which never begins in the middle of a line."""
        start = "\n" if self._midline else ""
        self._midline = False
        return f"{start}[tailer] {text}\n".encode()

    def _chunk(self, chunk: Chunk) -> bytes:
        data = self._shown(chunk)
        if self._options.timestamps and data:
            stamp = f"{rfc3339(chunk.time)} ".encode()
            body = data[:-1].replace(b"\n", b"\n" + stamp) + data[-1:]
            data = body if self._midline else stamp + body
        if data:
            self._midline = not data.endswith(b"\n")
        return data


class NDJSON(_Filtering):
    """One JSON object a line: see ``records_of``. Blank lines are heartbeats; the last record is the end record."""

    content_type = "application/x-ndjson; charset=utf-8"

    def begin(self) -> bytes:
        """Nothing."""
        return b""

    def encode(self, event: Event, cursor: Cursor) -> bytes:
        """Return the bytes for ``event``."""
        if isinstance(event, Chunk):
            return "".join(f"{record}\n" for _, record in self._records(event, cursor)).encode()
        if isinstance(event, Hole):
            return line(hole_of(event, cursor))
        if isinstance(event, End):
            # The last one comes as Final.
            return b""
        if isinstance(event, Final):
            return line({"cursor": str(cursor), **event.end.as_dict()})
        return b"\n" if isinstance(event, Beat) else b""


class SSE(_Filtering):
    """Server-sent events (WHATWG HTML, section 9.2). Unnamed ones hold output; see ``docs/protocol.md`` for all."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._held = b""
        self._behind = Cursor()

    def begin(self) -> bytes:
        """Tell how long to wait before a reconnect."""
        return b"retry: %d\n\n" % RETRY_MS

    def encode(self, event: Event, cursor: Cursor) -> bytes:
        """Return the bytes for ``event``."""
        if isinstance(event, Chunk):
            return self._output(event, cursor)
        if self._held and isinstance(event, Hole | Attempt | End | Final):
            last = _message(self._held, self._behind)
            self._held, self._behind = b"", Cursor()
            return last + self._named(event, cursor)
        return self._named(event, cursor)

    def _named(self, event: Event, cursor: Cursor) -> bytes:
        return event_of(event, cursor, f"{cursor}{END_MARK * isinstance(event, Final)}")

    def _output(self, chunk: Chunk, cursor: Cursor) -> bytes:
        if self._options.records == "chunks":
            return self._whole(chunk, cursor)
        if self._options.records:
            return "".join(f"id: {at}\ndata: {record}\n\n" for at, record in self._records(chunk, cursor)).encode()
        shown = self._shown(chunk)
        if not shown:
            return b""
        data = self._held + shown
        incomplete = _INCOMPLETE.search(data, max(0, len(data) - 3))
        stop = incomplete.start() if incomplete else len(data)
        self._held = data[stop:]
        self._behind = cursor if self._held else Cursor()
        return _message(data[:stop], Cursor(cursor.attempt, cursor.offset - len(self._held))) if stop else b""

    def _whole(self, chunk: Chunk, cursor: Cursor) -> bytes:
        shown = self._shown(chunk)
        return (
            b"id: %b\ndata: %b\n\n" % (str(cursor).encode(), compact_json(record_of(chunk, shown, cursor)))
            if shown
            else b""
        )

    @staticmethod
    def error(problem: dict[str, Any]) -> bytes:
        """Return the event that tells of an error behind the first byte."""
        return named("error", problem)


def event_of(event: Event, cursor: Cursor, identity: str) -> bytes:
    """Return the named event that tells of something other than output; ``identity`` becomes its id, if it has one."""
    if isinstance(event, Hole):
        return named("hole", hole_of(event, cursor), identity)
    if isinstance(event, Attempt):
        return named("attempt", {"attempt": event.number, **_without(asdict(event), "number")})
    if isinstance(event, JobState):
        return named("status", state_of(event))
    if isinstance(event, Final):
        return named("end", event.end.as_dict(), identity)
    return named("ping", {"cursor": str(cursor)}) if isinstance(event, Beat) else b""


ENCODERS: dict[str, type[Text | SSE | NDJSON]] = {"text": Text, "sse": SSE, "ndjson": NDJSON}


def records_of(chunk: Chunk, cursor: Cursor, stripper: Stripper | None = None) -> Iterator[tuple[str, str]]:
    """Yield cursor and JSON of one record for each line, or piece of a line, of a chunk that ends at ``cursor``.

    ``text`` is without its newline; ``partial`` marks a piece that has none. Bytes that are not UTF-8 come in
    ``base64`` as well, and ``text`` has U+FFFD in their place. A record's cursor is the place behind it.

    The JSON is put together by hand: ``json.dumps`` took seven times as long, and a log may have millions of lines.
    """
    attempt, offset = cursor.attempt, chunk.offset
    same = f'","time":"{rfc3339(chunk.time)}","stream":"{chunk.stream}","line":'
    last = chunk.line + chunk.lines
    for number, raw in enumerate(chunk.data.split(b"\n"), chunk.line):
        partial = number == last
        if partial and not raw:
            return
        offset += len(raw) + (not partial)
        shown = raw
        if stripper:
            shown = stripper.strip(raw) if partial else stripper.strip(raw + b"\n").removesuffix(b"\n")
        text = shown.decode(errors="replace")
        more = ',"partial":true' if partial else ""
        if "\ufffd" in text and text.encode() != shown:
            more += f',"base64":"{base64.b64encode(shown).decode()}"'
        at = f"{attempt}:{offset}"
        yield at, f'{{"cursor":"{at}{same}{number},"text":{encode_basestring_ascii(text)}{more}}}'


def record_of(chunk: Chunk, shown: bytes, cursor: Cursor) -> dict[str, Any]:
    """Return the record of a whole chunk: ``text`` has its newlines, and is ``base64`` if it is not UTF-8.

    ``line`` and ``lines`` are as stored: the number of the line in which it begins, and how many newlines it has.
    """
    about = {
        "cursor": str(cursor),
        "time": rfc3339(chunk.time),
        "stream": chunk.stream,
        "line": chunk.line,
        "lines": chunk.lines,
    }
    try:
        return {**about, "text": shown.decode()}
    except UnicodeDecodeError:
        return {**about, "base64": base64.b64encode(shown).decode()}


def hole_of(hole: Hole, cursor: Cursor) -> dict[str, Any]:
    """Return the record of a hole: ``missing`` bytes and ``cause`` instead of a text."""
    return {
        "cursor": str(cursor),
        "time": rfc3339(hole.time),
        "line": hole.line,
        "lines": hole.lines,
        "missing": hole.length,
        "cause": hole.cause,
    }


def state_of(state: JobState) -> dict[str, Any]:
    """Return RQ's view of a job as clients get it, times in RFC 3339."""
    values = _without(asdict(state), "expires_at")
    return {name: rfc3339(value) if name.endswith("_at") and value else value for name, value in values.items()}


def sentence(end: End) -> str:
    """Return how a job ended, in one line for a person, whatever its exception says."""
    what = {"timeout": "timed out", "killed": "killed"}.get(end.outcome, end.outcome)
    if end.signal is not None and end.outcome == "killed":
        what += f" by signal {end.signal} ({_signal_name(end.signal)})"
    if end.duration is not None and end.outcome not in {"expired", "deleted", "canceled"}:
        what += f" after {end.duration:.1f} s"
    return plain(f"{what}: {end.reason}" if end.reason else what)


def plain(text: str) -> str:
    """Return the text on one line, without what a terminal would obey."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def rfc3339(ms: int) -> str:
    """Return ms since 1970 as UTC with milliseconds, such as ``2026-11-23T09:30:00.000Z``."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


def _message(data: bytes, cursor: Cursor) -> bytes:
    """Return an unnamed event. The format itself takes CR for the end of a line, so that CR arrives as LF."""
    data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    lines = b"".join(b"data: %b\n" % line for line in data.split(b"\n"))
    return b"id: %b\n%b\n" % (str(cursor).encode(), lines)


def named(name: str, values: dict[str, Any], cursor: str | None = None) -> bytes:
    """Return a server-sent event of that name; with a cursor, that is its id."""
    identity = f"id: {cursor}\n".encode() if cursor else b""
    return b"event: %s\n%bdata: %b\n\n" % (name.encode(), identity, compact_json(values))


def line(values: dict[str, Any]) -> bytes:
    """Return a line of NDJSON."""
    return compact_json(values) + b"\n"


def compact_json(values: dict[str, Any]) -> bytes:
    """Return JSON on one line."""
    # ASCII only: U+2028 and the like would end a line for some readers.
    return json.dumps(values, separators=(",", ":")).encode()


def _without(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}
