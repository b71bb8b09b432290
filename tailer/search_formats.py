"""Turns what a search finds into the bytes of a response: plain text, server-sent events or NDJSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from json.encoder import encode_basestring_ascii
from typing import Any

from tailer.follow import Event
from tailer.formats import NDJSON, SSE, Options, Text, line, named, rfc3339
from tailer.search import Found, Lines, Progress
from tailer.store import Cursor


class FoundText(Text):
    """The lines, as they were looked at; with lines around them, ``--`` where others are left out."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._begun = False

    def encode(self, event: Event | Lines | Progress, cursor: Cursor) -> bytes:
        """Return the bytes for ``event``."""
        if isinstance(event, Lines):
            return "".join(map(self._line, event.lines)).encode()
        if isinstance(event, Progress):
            if event.more:
                return self.own_line(f"{event.matches} lines match so far; more behind offset={event.cursor}")
            return b"\0" if self._options.heartbeat else b""
        return super().encode(event, cursor)

    def _line(self, found: Found) -> str:
        separator = "--\n" if self._begun and found.apart else ""
        stamp = f"{rfc3339(found.time)} " if self._options.timestamps else ""
        self._begun = True
        return f"{separator}{stamp}{found.text}\n"


class FoundNDJSON(NDJSON):
    """One JSON object a line: see ``records_of``, and ``progress`` records among them."""

    def encode(self, event: Event | Lines | Progress, cursor: Cursor) -> bytes:
        """Return the bytes for ``event``."""
        if isinstance(event, Lines):
            return "".join(f"{record}\n" for _, record in records_of(event)).encode()
        if isinstance(event, Progress):
            return line({"progress": progress_of(event)})
        return super().encode(event, cursor)


class FoundSSE(SSE):
    """Unnamed events hold what NDJSON has in a line; ``progress`` events are named so."""

    def encode(self, event: Event | Lines | Progress, cursor: Cursor) -> bytes:
        """Return the bytes for ``event``."""
        if isinstance(event, Lines):
            return "".join(f"id: {at}\ndata: {record}\n\n" for at, record in records_of(event)).encode()
        if isinstance(event, Progress):
            return named("progress", progress_of(event), str(cursor))
        return super().encode(event, cursor)


FINDERS: dict[str, type[FoundText | FoundSSE | FoundNDJSON]] = {
    "text": FoundText,
    "sse": FoundSSE,
    "ndjson": FoundNDJSON,
}


def records_of(found: Lines) -> Iterator[tuple[str, str]]:
    """Yield cursor and JSON of each line: as in the log's own records, and where it matches.

    ``match`` has the beginning and the end of each match in ``text``, in characters (Unicode code points); it is empty
    for a line beside a match.
    """
    time, stamp = -1, ""
    for one in found.lines:
        if one.time != time:
            time, stamp = one.time, rfc3339(one.time)
        at = f"{one.cursor.attempt}:{one.cursor.offset}"
        spans = ",".join([f"[{start},{end}]" for start, end in one.spans])
        more = ',"partial":true' if one.partial else ""
        about = f'"time":"{stamp}","stream":"{one.stream}","line":{one.number}'
        text = encode_basestring_ascii(one.text)
        yield at, f'{{"cursor":"{at}",{about},"text":{text},"match":[{spans}]{more}}}'


def progress_of(progress: Progress) -> dict[str, Any]:
    """Return how far a search is, as clients get it."""
    values = {**asdict(progress), "cursor": str(progress.cursor), "of": progress.total}
    del values["total"]
    return values
