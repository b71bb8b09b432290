"""Follows one job's log from a cursor to its end, across attempts: the order of things that every client sees."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from tailer.channel import Beat, Channel, Pause
from tailer.errors import StoreUnavailable
from tailer.hub import Hub
from tailer.jobs import JobState
from tailer.reader import PIECE, LogReader
from tailer.records import Attempt, Chunk, End, Hole, Record
from tailer.settings import SHORTEST_TTL
from tailer.store import Cursor, LogSummary, now_ms

FOREVER = float("inf")
RETRY_S = 0.5
"""How soon a follower asks Redis again that could not be reached."""
LOOK_AGAIN_S = 1.0
"""How soon a follower looks again while it waits for something that is not told."""
SOON_S = 0.1
"""How soon it looks whether the hub has asked RQ, where that is not told."""
GONE_S = 8.0
"""How long a log that vanished while it was followed may take to come back; a worker rebuilds it within 5 s."""


@dataclass(frozen=True, slots=True)
class Final:
    """The job is over, and so is its log. ``end`` is its end record, or what RQ's view of the job amounts to."""

    end: End


T = TypeVar("T")
Event: TypeAlias = Record | JobState | Beat | Final
"""A record of the log, a new view that RQ has of the job, a heartbeat, or the end of it all."""
Placed: TypeAlias = tuple[Event, Cursor]
"""An event, and the place in the log behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which part of a job's log is wanted.

    ``wait`` follows a log that is still written. ``only`` is the one attempt that is wanted, ``None`` for all from
    ``start`` on. Nothing behind line ``last_line`` or read by the worker after ``until`` (ms) is given.
    """

    job_id: str
    start: Cursor
    wait: bool = True
    only: int | None = None
    last_line: int | None = None
    until: int | None = None


def snapshot(hub: Hub, selection: Selection, piece: int = PIECE) -> Generator[Placed]:
    """Yield what is there now, and ``Final`` if the log is over. Never waits. Reads ``piece`` bytes at a time."""
    attempt: int | None = selection.start.attempt
    cursor, end, summary = selection.start, None, None
    while attempt is not None:
        reader = hub.store.reader(selection.job_id, cursor if cursor.attempt == attempt else Cursor(attempt))
        reader.piece = piece
        end = None
        for record in _all(reader):
            allowed = _limit(record, selection)
            if allowed is None:
                return
            cursor = Cursor(attempt, allowed.end)
            yield allowed, cursor
            if _complete(record, selection):
                return
            end = record if isinstance(record, End) else None
        summary = hub.store.summary(selection.job_id)
        here = summary.attempt(attempt) if summary else None
        if end is None and here and here.end:
            cursor, end = Cursor(attempt, here.end.bytes), here.end
            for record in _missing(reader, here.end):
                yield record, cursor
        attempt = _next(summary, attempt, selection)
    state = hub.jobs.state(selection.job_id)
    final = _over(selection, end, state) if end else None
    if summary is None and state.over:
        final = without_log(state)
    if final:
        yield Final(final), cursor


def _all(reader: LogReader) -> Iterator[Record]:
    """Yield what is there. Where it seems to end without its end, the place is looked up anew, once.

    The list may be another one by now: rebuilt after a loss, or that of the archive.
    """
    relocated, last = False, None
    while True:
        records = reader.read()
        if relocated and last is not None:
            # At the place where it began, a log without output begins again.
            records = [record for record in records if not isinstance(record, Attempt)]
        if not records and (relocated or isinstance(last, End)):
            return
        if not records:
            reader.relocate()
        for last in records:
            yield last
        relocated = not records


def follow(hub: Hub, selection: Selection, heartbeat: float) -> Generator[Placed | Pause]:
    """Yield what is there, then what comes, until the job is over; a ``Beat`` after ``heartbeat`` seconds of silence.

    It never waits by itself, but yields a ``Pause`` when there is nothing to do: go on when that is over. Redis may go
    away meanwhile: the follower waits for it.

    Raises:
        ServerStopping: the process is told to stop.
        CorruptRecord: the log cannot be read.
    """
    with hub.follow(selection.job_id) as channel:
        walk = _Walk(hub, channel, selection)
        shown: JobState | None = None
        spoke = time.monotonic()
        while True:
            version = channel.version
            news = False
            try:
                for event in walk.step():
                    news = True
                    yield event, walk.cursor
                    if isinstance(event, Final):
                        return
            except StoreUnavailable:
                walk.patience = RETRY_S
            if walk.stopped:
                return
            if channel.state is not None and channel.state != shown:
                shown = channel.state
                news = True
                yield shown, walk.cursor
            now = time.monotonic()
            if news:
                spoke = now
            elif spoke + heartbeat <= now:
                spoke = now
                yield Beat(), walk.cursor
            elif walk.patience:
                pause = walk.pause(version, spoke + heartbeat - now, heartbeat)
                yield pause
                if pause.served:
                    walk.catch_up()
                    spoke = time.monotonic()


def waiting(events: Iterable[T | Pause]) -> Iterator[T]:
    """Yield the events of ``follow``, and wait when it pauses."""
    for event in events:
        if isinstance(event, Pause):
            event.wait()
        else:
            yield event


class _Walk:
    """A follower's place in a log: which attempt, where in it, and what comes next."""

    def __init__(self, hub: Hub, channel: Channel, selection: Selection) -> None:
        self._hub = hub
        self._channel = channel
        self._selection = selection
        self._reader = hub.store.reader(selection.job_id, selection.start)
        self._cursor = selection.start
        self._end: End | None = None
        self._ended_at = 0.0
        self._gone_since: float | None = None
        self._relocated = False
        self._kept: LogSummary | None = None
        self.stopped = False
        self.patience = LOOK_AGAIN_S

    @property
    def cursor(self) -> Cursor:
        """The place behind what was yielded last."""
        return self._cursor

    def catch_up(self) -> None:
        """The channel has moved the reader, and sent what is before its place."""
        self._cursor = max(self._cursor, self._reader.cursor)

    def pause(self, version: int, silence: float, heartbeat: float) -> Pause:
        """Return a pause of at most ``silence`` seconds; ``version`` is the channel's before the last ``step``."""
        limited = self._selection.until is not None or self._selection.last_line is not None
        if self.patience != FOREVER or limited:
            return Pause(min(silence, self.patience), self._channel, version)
        self._channel.adopt(self._reader, version)
        return Pause(silence, self._channel, version, self._reader, heartbeat)

    def step(self) -> Iterator[Event]:
        """Yield what there is just now. Raises ``StoreUnavailable``; nothing is lost or doubled by calling it again.

        Without news, call it again when the channel has some, or after ``patience`` seconds.
        """
        self.patience = LOOK_AGAIN_S
        if self._end is None:
            records = self._channel.read(self._reader)
            for record in records:
                allowed = _limit(record, self._selection)
                if allowed is None:
                    self.stopped = True
                    return
                self._cursor = Cursor(self._reader.attempt, allowed.end)
                yield allowed
                if _complete(record, self._selection):
                    self.stopped = True
                    return
                # A worker that was thought lost and comes back writes on behind that end.
                self._end, self._ended_at = record if isinstance(record, End) else None, time.monotonic()
            if records and self._end is None:
                self._relocated = False
                return
        until = self._selection.until
        if until is not None and now_ms() > until:
            self.stopped = True
            return
        yield from self._turn()

    def _turn(self) -> Iterator[Event]:
        """Nothing more to read here: go on to the next attempt, end, or stay."""
        if self._end is None:
            yield from self._check_present(self._channel.summary or self._kept)
            if self._end is None:
                return
        channel = self._channel
        state = channel.state
        if state is None or not self._was_asked_after(self._end):
            channel.look()
            if channel.summary is None:
                # Of a log that Redis has no more, the hub tells nothing when it has asked.
                self.patience = SOON_S
            return
        summary = channel.summary or self._ask_archive()
        if later := _next(summary, self._reader.attempt, self._selection):
            self._end = None
            self._reader = self._hub.store.reader(self._selection.job_id, Cursor(later))
            self.patience = 0
        elif final := _over(self._selection, self._end, state):
            yield Final(final)
        else:
            self.patience = self._until()

    def _ask_archive(self) -> LogSummary | None:
        """Return what the archive knows of a log that Redis has no more, and the hub therefore does not know."""
        if self._kept is None:
            self._kept = self._hub.store.kept(self._selection.job_id)
        return self._kept

    def _was_asked_after(self, end: End) -> bool:
        """Return whether what the hub knows from RQ is newer than the end of this attempt."""
        known = self._channel.asked_after
        here = known.attempt(self._reader.attempt) if known else None
        return (here is not None and here.end == end) or self._channel.asked_at > self._ended_at

    def _check_present(self, summary: LogSummary | None) -> Iterator[Event]:
        """The attempt has no end that we have read. See whether it is there at all."""
        number = self._reader.attempt
        here = summary.attempt(number) if summary else None
        if here is None:
            yield from self._check_absent(summary, number)
            return
        self._gone_since = None
        if here.bytes <= self._reader.offset and here.end is None:
            self.patience = self._until()
            return
        # There is more than we could read. Either it came just now, or the list was rebuilt, cut or removed by
        # somebody: look our place up anew, and if that gives nothing either, say what is missing.
        if not self._relocated:
            self._relocated = True
            self._reader.relocate()
            self.patience = 0
        elif here.end:
            self._cursor = Cursor(number, here.end.bytes)
            yield from _missing(self._reader, here.end)
            self._end, self._ended_at = here.end, time.monotonic()

    def _until(self) -> float:
        """Seconds until the end of the time that is wanted; for ever if there is none."""
        until = self._selection.until
        return FOREVER if until is None else max(0.01, (until - now_ms()) / 1000)

    def _check_absent(self, summary: LogSummary | None, number: int) -> Iterator[Event]:
        if later := _next(summary, number, self._selection):
            self._reader = self._hub.store.reader(self._selection.job_id, Cursor(later))
            self.patience = 0
            return
        state = self._channel.state
        if state is None or state.waiting:
            self._gone_since = None
            self.patience = self._until()
            return
        if summary is None and self._ask_archive():
            self.patience = 0
            return
        # A worker writes its attempt record some ms after RQ says "started", and may have to rebuild a lost log.
        self._gone_since = self._gone_since or time.monotonic()
        patience = GONE_S if self._reader.offset or state.status == "started" else 1.5
        if time.monotonic() - self._gone_since < patience:
            return
        fresh = self._hub.jobs.state(self._selection.job_id)
        if self._hub.store.summary(self._selection.job_id) is None and (
            fresh.status != "started" or self._reader.offset
        ):
            had_log = self._reader.offset > 0
            yield Final(without_log(fresh, expires_at=self._channel.expires_at, had_log=had_log))


def _next(summary: LogSummary | None, attempt: int, selection: Selection) -> int | None:
    """Return the number of the attempt to read after ``attempt``, if there is one and it is wanted."""
    later = summary.after(attempt) if summary and selection.only is None else None
    return later.number if later else None


def _over(selection: Selection, end: End, state: JobState) -> End | None:
    """Return the end record to close with if the job is over with ``end``; ``None`` if more will come."""
    if selection.only is not None:
        return end
    if state.waiting:
        return None
    return end if end.final else _instead_of_next(end, state)


def _instead_of_next(end: End, state: JobState) -> End | None:
    """The attempt announced another one. Return how the job ended without it, ``None`` if it is still to come."""
    if state.status == "started":
        return None
    ended = without_log(state)
    return End(**{**ended.as_dict(), "attempt": end.attempt, "bytes": end.bytes, "lines": end.lines})


def without_log(state: JobState, *, expires_at: int | None = None, had_log: bool = False) -> End:
    """Return an end record for a job that has no log, from what RQ says of it.

    ``expires_at`` (ms) is when RQ was going to forget the job, for one that it has forgotten; ``had_log`` says that
    the log was there a moment ago.
    """
    if had_log:
        outcome, reason = "deleted", "its log was deleted"
    elif state.status is None and expires_at is not None and now_ms() >= expires_at - 1000:
        outcome, reason = "expired", "its time to live in the queue was over before it ran"
    elif state.status is None:
        outcome, reason = "deleted", "RQ no longer knows the job"
    elif state.status == "canceled":
        outcome, reason = "canceled", "it had not run yet"
    else:
        outcome = state.status if state.status in {"finished", "failed", "stopped"} else "lost"
        reason = "no output was captured"
        if state.ended_at and state.ended_at < now_ms() - 1000 * SHORTEST_TTL:
            reason += ", or its log has expired"
    ended = state.ended_at / 1000 if state.ended_at else now_ms() / 1000
    return End(
        outcome=outcome,
        attempt=0,
        final=True,
        status=state.status,
        reason=reason,
        worker=state.worker,
        ended_at=ended,
    )


def _missing(reader: LogReader, end: End) -> Iterator[Record]:
    """Yield ``end``, which the summary tells of and the list does not have, behind the hole before it."""
    if end.bytes > reader.offset:
        line = reader.line or 1
        length, lines = end.bytes - reader.offset, end.lines + 1 - line
        yield Hole(end.time, reader.offset, line, lines, True, length, "missing from the store")
        reader.offset = end.bytes
    yield end


def _complete(record: Record, selection: Selection) -> bool:
    """Return whether ``record`` holds the end of the last line that is wanted."""
    last = selection.last_line
    return last is not None and isinstance(record, Chunk | Hole) and record.line + record.lines > last


def _limit(record: Record, selection: Selection) -> Record | None:
    """Return ``record``, or the part of it that is wanted; ``None`` if nothing is, nor anything behind it."""
    if not isinstance(record, Chunk | Hole):
        return record
    if selection.until is not None and record.time > selection.until:
        return None
    last = selection.last_line
    if last is None or record.line + record.lines <= last:
        return record
    if record.line > last:
        return None
    if isinstance(record, Hole):
        return record
    position = -1
    for _ in range(last + 1 - record.line):
        position = record.data.index(b"\n", position + 1)
    return record.part(record.offset, record.offset + position + 1)
