"""Turns what is told of many logs into the bytes of a response: text, server-sent events or NDJSON."""

from __future__ import annotations

import base64
from json.encoder import encode_basestring_ascii
from typing import cast
from weakref import WeakKeyDictionary

from tailer.channel import Beat, Pause
from tailer.follow import Event, Final
from tailer.formats import (
    RETRY_MS,
    SSE,
    Options,
    Stripper,
    compact_json,
    event_of,
    hole_of,
    named,
    plain,
    record_of,
    rfc3339,
    sentence,
)
from tailer.lending import Items
from tailer.many import Many
from tailer.many_lines import Line, Lines, by_lines
from tailer.many_logs import Listed, Log, Notice, Problem, Refused, Told, name_of
from tailer.query import LogQuery
from tailer.records import SYSTEM, Chunk, Hole
from tailer.streaming import guarded

NOBODY = b'event: job\ndata: {"job":""}\n\n'
"""Before what is told of all logs."""
RESET = b"\x1b[0m"


def body(many: Many, each: LogQuery, problem: Problem) -> Items:
    """Yield a response's body, with pauses, in the format and with the options that ``each`` log is to have."""
    encode = ENCODERS[each.format](many, each.options, problem)
    yield encode.begin()
    items = _encoded(encode, many, each.options)
    yield from guarded(items, problem, events=each.format == "sse", before=NOBODY)


def _encoded(encode: Encoder, many: Many, options: Options) -> Items:
    items = many.events()
    for item in items if options.records == "chunks" else by_lines(items, options.streams):
        if isinstance(item, Pause):
            yield item
            continue
        item.accept()
        if data := encode(item):
            yield data


class Encoder:
    """Turns what is told into bytes, one after the other."""

    def __init__(self, many: Many, options: Options, problem: Problem) -> None:
        self._many = many
        self._options = options
        self._problem = problem

    def begin(self) -> bytes:
        """Return what comes before all: nothing, in most formats."""
        return b""

    def __call__(self, told: Told) -> bytes:
        """Return the bytes for what is told."""
        raise NotImplementedError


class Text(Encoder):
    """A line for each line, behind the name of its job and ``|``, or ``+`` where it goes on from the piece before."""

    def __call__(self, told: Told) -> bytes:
        """Return the bytes for what is told."""
        event, log = told.event, told.log
        if isinstance(event, Beat):
            return b"\0" if self._options.heartbeat else b""
        if isinstance(event, Notice):
            return f"[tailer] {event}\n".encode()
        if isinstance(event, Refused):
            return own_line(name_of(event.job_id, ""), self._problem(event.error)["detail"])
        if log is None:
            return b""
        if isinstance(event, Lines):
            return b"".join(text_line(log.name, line, self._options) for line in event.lines)
        if words := words_of(event):
            return own_line(log.name, words)
        return b""


def words_of(event: object) -> str:
    """Return what is to be said of an event in a line of Tailer's own; empty if nothing."""
    if isinstance(event, Hole):
        return f"{event.length} bytes are missing here: {event.cause}"
    bad = isinstance(event, Final) and event.end.outcome != "finished"
    return sentence(event.end) if bad and isinstance(event, Final) else ""


def own_line(name: str, words: str) -> bytes:
    """Return a line of Tailer's own about a job."""
    return f"{name} | [tailer] {plain(words)}\n".encode()


def text_line(name: str, line: Line, options: Options) -> bytes:
    """Return a line for people: what a terminal would show of it in the end, behind the name of its job."""
    stamp = f"{rfc3339(line.time)} ".encode() if options.timestamps else b""
    return b"%b %b %b%b\n" % (name.encode(), b"+" if line.begun else b"|", stamp, shown(line.data, options))


def shown(data: bytes, options: Options) -> bytes:
    """Return a line as it looks in the end: behind its last carriage return, and with its colours ended."""
    if options.strip:
        data = Stripper().strip(data)
    if b"\r" in data:
        data = data.rstrip(b"\r").rpartition(b"\r")[2]
    return data + RESET if b"\x1b[" in data and not data.endswith(RESET) else data


def line_of(log: Log, line: Line, options: Options) -> str:
    """Return the JSON of a line: see ``formats.records_of``, which has no ``job``."""
    data = Stripper().strip(line.data) if options.strip else line.data
    text = data.decode(errors="replace")
    more = ',"partial":true' if line.partial else ""
    if "\ufffd" in text and text.encode() != data:
        more += f',"base64":"{base64.b64encode(data).decode()}"'
    about = f'"job":"{log.job_id}","cursor":"{line.end}","time":"{rfc3339(line.time)}","stream":"{line.stream}"'
    return f'{{{about},"line":{line.number},"text":{encode_basestring_ascii(text)}{more}}}'


class NDJSON(Encoder):
    """A record for each line; one for each end, and for what is told of all."""

    def __call__(self, told: Told) -> bytes:
        """Return the bytes for what is told."""
        event, log = told.event, told.log
        if isinstance(event, Beat):
            return b"\n"
        if isinstance(event, Notice):
            return compact_json({"waiting": event.waiting, "left_out": event.left_out}) + b"\n"
        if isinstance(event, Refused):
            return compact_json({"job": event.job_id, "error": self._problem(event.error)}) + b"\n"
        if log is None:
            return b""
        about = {"job": log.job_id, "cursor": str(told.cursor)}
        if isinstance(event, Lines):
            return "".join(f"{line_of(log, line, self._options)}\n" for line in event.lines).encode()
        if isinstance(event, Hole):
            return compact_json({**about, **hole_of(event, told.cursor)}) + b"\n"
        if isinstance(event, Final):
            return compact_json({**about, **event.end.as_dict()}) + b"\n"
        return b""


class Events(Encoder):
    """Server-sent events. ``job`` says whose the next ones are; the id is where the client is in all of the logs."""

    def __init__(self, many: Many, options: Options, problem: Problem) -> None:
        super().__init__(many, options, problem)
        self._strippers: WeakKeyDictionary[Log, dict[str, Stripper]] = WeakKeyDictionary()
        self._shown: Log | None = None

    def begin(self) -> bytes:
        """Tell how long to wait before a reconnect, and where the stream begins."""
        where = str(self._many.bookmark())
        return b"retry: %d\n%b\n" % (RETRY_MS, f"id: {where}\n".encode() if where else b"")

    def __call__(self, told: Told) -> bytes:
        """Return the bytes for what is told."""
        event, log = told.event, told.log
        if isinstance(event, Beat):
            return named("ping", {})
        if isinstance(event, Notice):
            return named("waiting", {"waiting": event.waiting, "left_out": event.left_out})
        if isinstance(event, Listed):
            return named("jobs", event.changes)
        if isinstance(event, Refused):
            self._shown = None
            return named("job", {"job": event.job_id}) + SSE.error(self._problem(event.error))
        if log is None:
            return b""
        data = self._of(log, told)
        if data and log is not self._shown:
            self._shown = log
            return switch_to(log) + data
        return data

    def _of(self, log: Log, told: Told) -> bytes:
        event = told.event
        if isinstance(event, Lines):
            if self._options.records:
                data = [line_of(log, line, self._options).encode() for line in event.lines]
            else:
                data = [text_line(log.name, line, self._options)[:-1] for line in event.lines]
            return self._id() + b"".join(b"data: %b\n" % line for line in data) + b"\n"
        if isinstance(event, Chunk):
            wanted = self._wanted(log, event)
            record = compact_json({"job": log.job_id, **record_of(event, wanted, told.cursor)}) if wanted else b""
            return b"%bdata: %b\n\n" % (self._id(), record) if wanted else b""
        ends = log if isinstance(event, Final) else None
        identified = isinstance(event, Hole | Final)
        return event_of(cast("Event", event), told.cursor, str(self._many.bookmark(ends)) if identified else "")

    def _wanted(self, log: Log, chunk: Chunk) -> bytes:
        if chunk.stream not in {*self._options.streams, SYSTEM}:
            return b""
        if not self._options.strip:
            return chunk.data
        return self._strippers.setdefault(log, {}).setdefault(chunk.stream, Stripper()).strip(chunk.data)

    def _id(self) -> bytes:
        return f"id: {self._many.bookmark()}\n".encode()


def switch_to(log: Log) -> bytes:
    """Return the event that says whose the next ones are."""
    return named("job", {"job": log.job_id, "function": log.function or None, "queue": log.queue})


ENCODERS: dict[str, type[Encoder]] = {"text": Text, "sse": Events, "ndjson": NDJSON}
