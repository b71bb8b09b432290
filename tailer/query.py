"""Reads the parameters of a request for a log; whatever is wrong is told by name, value and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeVar

from tailer.errors import InvalidParameter, LogExpired, UnknownAttempt
from tailer.follow import Selection
from tailer.formats import ENCODERS, END_MARK, Options
from tailer.jobs import JobState
from tailer.pattern import Pattern
from tailer.search import MAX_CONTEXT, MAX_LIMIT, Wanted
from tailer.settings import duration, switch, whole_number
from tailer.store import Cursor, LogStore, LogSummary, now_ms

T = TypeVar("T")
_MEDIA = {"text/plain": "text", "text/event-stream": "sse", "application/x-ndjson": "ndjson"}
LOG_PARAMETERS = frozenset(
    [
        "follow",
        "tail",
        "since",
        "until",
        "offset",
        "lines",
        "stdout",
        "stderr",
        "timestamps",
        "attempt",
        "ansi",
        "format",
        "json",
        "heartbeat",
        "lastEventId",
        "grep",
        "fixed",
        "ignorecase",
        "word",
        "context",
        "limit",
    ]
)
_OF_GREP = ("fixed", "ignorecase", "word", "context", "limit")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """The parameters of ``GET /jobs/<id>/log``, checked but not yet looked up in a log."""

    format: str
    options: Options
    wait: bool
    tail: int | None
    since: int | None
    until: int | None
    offset: Cursor | None
    lines: tuple[int, int | None] | None
    attempt: int | None
    saw_end: bool
    wanted: Wanted | None = None

    @classmethod
    def parse(cls, args: Mapping[str, str], *, accept: str = "", last_event_id: str | None = None) -> LogQuery:
        """Read the query string and the two headers that mean the same as parameters.

        Raises:
            InvalidParameter: names the parameter, its value and what is allowed.
        """
        for name in args:
            if name not in LOG_PARAMETERS:
                raise InvalidParameter(
                    name[:80], args[name][:80], "the parameters are " + ", ".join(sorted(LOG_PARAMETERS))
                )
        lines = _read(args, "lines", _lines)
        offset = _read(args, "offset", Cursor.parse)
        if lines and offset:
            raise InvalidParameter("lines", args["lines"], "not together with offset")
        seen = args.get("lastEventId") or last_event_id or ""
        if seen:
            name = "lastEventId" if args.get("lastEventId") else "Last-Event-ID"
            offset = _read({name: seen}, name, _event_id)
        # A duration counts back from now, and may be over where one has been.
        since = _read(args, "since", moment)
        follow = _read(args, "follow", switch)
        wanted = _wanted(args)
        return cls(
            format=_read(args, "format", _one_of(*ENCODERS)) or preferred(accept),
            options=_options(args),
            wait=follow if follow is not None else lines is None and wanted is None,
            tail=_read(args, "tail", _tail),
            since=None if seen else since,
            until=_read(args, "until", moment),
            offset=offset,
            lines=lines,
            attempt=_read(args, "attempt", _positive),
            saw_end=seen.endswith(END_MARK),
            wanted=wanted,
        )

    def select(self, store: LogStore, state: JobState, summary: LogSummary | None) -> Selection:
        """Find the places in the job's log that the query names. ``state`` and ``summary`` tell of the two.

        Raises:
            StoreUnavailable: as all of ``LogStore``.
            UnknownAttempt: the log has no such attempt.
            LogExpired: the job is over, and its log was there once; or the archive had it, and has it no more.
            InvalidParameter: ``offset`` is behind the end of a log that is over.
        """
        job_id, attempt = state.job_id, self.attempt
        if summary is None and state.over and store.expired(job_id):
            raise LogExpired(job_id)
        if attempt is None and self.lines and summary:
            attempt = summary.last.number
        if attempt is not None and (summary is None or summary.attempt(attempt) is None):
            raise UnknownAttempt(job_id, attempt, len(summary.attempts) if summary else 0)
        first = summary.attempts[0].number if summary else 1
        places = [Cursor(attempt or first, 0)]
        if self.offset and summary:
            places.append(_checked(self.offset, summary))
        if self.lines:
            places.append(store.line(job_id, places[0].attempt, self.lines[0]))
        if self.since is not None:
            places.append(store.since(job_id, self.since))
        if self.tail is not None and not self.offset:
            places.append(store.tail(job_id, self.tail, attempt=attempt))
        start = max(places)
        if attempt is not None and start.attempt > attempt:
            start = store.end_of(job_id, attempt)
        if summary:
            store.check(job_id, start.attempt)
        return Selection(
            job_id=job_id,
            start=start,
            wait=self.wait,
            only=attempt,
            last_line=self.lines[1] if self.lines else None,
            until=self.until,
        )


def preferred(accept: str) -> str:
    """Return the format that an Accept header asks for first among those there are; text if it names none."""
    for part in accept.split(","):
        media = part.split(";")[0].strip().lower()
        if media in _MEDIA:
            return _MEDIA[media]
    return "text"


def _read(args: Mapping[str, str], name: str, parse: Callable[[str], T]) -> T | None:
    """Return the parsed parameter, ``None`` if it is not there."""
    value = args.get(name)
    if value is None:
        return None
    try:
        return parse(value)
    except ValueError as error:
        raise InvalidParameter(name, value[:200], str(error)) from None


def _options(args: Mapping[str, str]) -> Options:
    stdout, stderr = _read(args, "stdout", switch), _read(args, "stderr", switch)
    # As docker has it: naming one of the two leaves the other out.
    named = bool(stdout or stderr)
    shown = {
        "stdout": not named if stdout is None else stdout,
        "stderr": not named if stderr is None else stderr,
    }
    if not any(shown.values()):
        raise InvalidParameter("stderr", args.get("stderr", "0"), "at least one of stdout and stderr must be 1")
    return Options(
        streams=frozenset(name for name, show in shown.items() if show),
        timestamps=_read(args, "timestamps", switch) or False,
        strip=_read(args, "ansi", _one_of("keep", "strip")) == "strip",
        heartbeat=_read(args, "heartbeat", switch) or False,
        records=_read(args, "json", _records) or "",
    )


def _wanted(args: Mapping[str, str]) -> Wanted | None:
    """Return what is searched, if anything is."""
    if "grep" not in args:
        if other := next((name for name in _OF_GREP if name in args), None):
            raise InvalidParameter(other, args[other][:200], "only together with grep")
        return None
    switches = {name: _read(args, name, switch) or False for name in ("fixed", "ignorecase", "word")}
    for name in ("ansi", "json"):
        if args.get(name) in {"keep", "chunks"}:
            raise InvalidParameter(name, args[name], "not together with grep: it gives lines as they are seen")
    pattern = _read(args, "grep", lambda value: Pattern(value, **switches))
    assert pattern  # noqa: S101 (it is there)
    return Wanted(
        pattern=pattern,
        context=_read(args, "context", _up_to(0, MAX_CONTEXT)) or 0,
        limit=_read(args, "limit", _up_to(1, MAX_LIMIT)),
    )


def _up_to(least: int, most: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        try:
            number = whole_number(value)
        except ValueError:
            number = -1
        if not least <= number <= most:
            raise ValueError(f"use a whole number from {least} to {most}")
        return number

    return parse


def _records(value: str) -> Literal["", "lines", "chunks"]:
    if value == "chunks":
        return "chunks"
    try:
        return "lines" if switch(value) else ""
    except ValueError:
        raise ValueError("use 1, 0 or chunks") from None


def _checked(offset: Cursor, summary: LogSummary) -> Cursor:
    """Refuse a cursor that no reader of this log can have got."""
    attempt = summary.attempt(offset.attempt)
    if attempt is None:
        if offset.attempt > summary.last.number and summary.last.end is None:
            return offset
        raise InvalidParameter("offset", str(offset), f"the log's attempts are 1 to {summary.last.number}")
    if attempt.end and offset.offset > attempt.bytes:
        raise InvalidParameter("offset", str(offset), f"attempt {attempt.number} ends at byte {attempt.bytes}")
    return offset


def _one_of(*allowed: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in allowed:
            raise ValueError("use one of " + ", ".join(allowed))
        return value

    return parse


def _positive(value: str) -> int:
    try:
        number = whole_number(value)
    except ValueError:
        number = 0
    if not 0 < number < 10**9:
        raise ValueError("use a whole number from 1")
    return number


def _tail(value: str) -> int | None:
    # -1 is kubectl's word for all.
    if value in {"all", "-1"}:
        return None
    try:
        return whole_number(value)
    except ValueError:
        raise ValueError("use a number of lines, or all") from None


def _lines(value: str) -> tuple[int, int | None]:
    match = re.fullmatch(r"([1-9][0-9]{0,11})(-([1-9][0-9]{0,11})?)?", value)
    if not match:
        raise ValueError("use A-B, A- or A, with lines counted from 1")
    first = int(match[1])
    last = int(match[3]) if match[3] else (None if match[2] else first)
    if last is not None and last < first:
        raise ValueError("use A-B with B not before A")
    return first, last


def _event_id(value: str) -> Cursor:
    return Cursor.parse(value.removesuffix(END_MARK))


def moment(value: str) -> int:
    """Return ms since 1970 for an RFC 3339 time, unix seconds, or a duration before now; raises ``ValueError``."""
    if re.fullmatch(r"[0-9]{1,11}(\.[0-9]{1,9})?", value):
        return int(float(value) * 1000)
    if (ago := duration(value)) is not None:
        return now_ms() - 1000 * ago
    try:
        # In a query string "+" stands for a space, so "+01:00" may arrive as " 01:00".
        time = datetime.fromisoformat(value.replace(" ", "+") if "T" in value else value)
        ms = int(time.timestamp() * 1000) if time.tzinfo else None
    except (ValueError, OverflowError):
        ms = None
    if ms is None:
        raise ValueError("use a time such as 2026-11-23T09:30:00Z, unix seconds, or a duration such as 10m or 1h30m")
    return ms
