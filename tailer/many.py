"""Many jobs' logs, and the list of jobs, in one response: those that are named, and those of queues as they begin.

Browsers open six connections to a server at most (measured: with six streams open, every other request of all tabs
hangs), so that a page must not take more than one.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

from tailer.arrivals import LOOK_S, MARGIN_MS, Arrival, Arrivals
from tailer.board import LOOK_S as LIST_S
from tailer.board import View
from tailer.bookmark import MAX_BOOKMARK, Bookmark
from tailer.channel import Beat, Pause
from tailer.errors import LogExpired, ServerStopping, StoreUnavailable, TailerError, UnknownJob
from tailer.follow import follow, snapshot
from tailer.hub import Hub
from tailer.listing import known, look_up
from tailer.many_logs import Listed, Log, Notice, Refused, Told
from tailer.many_query import ENTRY, MAX_LOGS, ManyQuery
from tailer.reader import Cursor
from tailer.readers import Reader

MAX_WAITING = 1000
"""Jobs of queues that may wait for their turn; more are left out."""
MAX_TOLD = 1000
"""Logs that are over of which is remembered how far they were told."""
NOTICE_S = 10.0
"""How often is told at most how many jobs wait."""


@dataclass(slots=True)
class Over:
    """A log that was told up to ``place``. ``time`` is when it ended, as the index has it; ``None``: not seen yet."""

    place: Cursor
    named: bool
    time: int | None = None


@dataclass(slots=True)
class Queues:
    """What is known of the queues that are followed: ``number`` is that of the next arrival to look at.

    Attempts that began before ``origin`` are none of the stream's; what was written before ``floor`` is dealt with.
    """

    number: int = 0
    origin: int = 0
    floor: int = 0
    left_out: int = 0
    look_at: float = 0.0
    waiting: OrderedDict[str, Cursor | None] = field(default_factory=OrderedDict)


class Many:
    """The logs of one request. ``begin`` first, then ``events``.

    Behind ``heartbeat`` seconds of silence there is a ``Beat``.
    """

    def __init__(
        self,
        hub: Hub,
        arrivals: Arrivals,
        reader: Reader,
        query: ManyQuery,
        *,
        heartbeat: float,
        view: View | None = None,
    ) -> None:
        self._hub = hub
        self._arrivals = arrivals
        self._reader = reader
        self._query = query
        self._view = view
        self._heartbeat = heartbeat
        self._logs: dict[str, Log] = {}
        self._told: OrderedDict[str, Over] = OrderedDict()
        self._queues = Queues()
        self._refused: list[Refused] = []
        self._noticed = Notice(0, 0)
        self._noticed_at = float("-inf")

    def begin(self) -> None:
        """See what there is to follow.

        Raises:
            StoreUnavailable: Redis cannot be reached.
            UnknownJob, LogExpired: there is one job named, and no more, and it cannot be read.
        """
        query, places = self._query, self._query.resumed.places
        for job_id, (place, over) in places.items():
            if over:
                self._told[job_id] = Over(place, named=job_id in query.jobs)
            elif query.queues and job_id not in query.jobs:
                self._queues.waiting[job_id] = place
        for job_id, cursor in query.jobs.items():
            if job_id not in self._told:
                self._open(job_id, places[job_id][0] if job_id in places else cursor, queued=False)
        if query.queues:
            self._begin_queues()
        elif self._refused and len(query.jobs) == 1 and not self._view:
            raise self._refused[0].error

    @property
    def alone(self) -> Log | None:
        """The one log that is followed, and will be, and is told in whole chunks."""
        query = self._query
        several = len(self._logs) != 1 or len(query.jobs) != 1 or query.queues or self._view
        if several or not query.each.wait or query.each.options.records != "chunks":
            return None
        return next(iter(self._logs.values()))

    @property
    def _room(self) -> bool:
        """Whether one more log can be followed."""
        size = sum(len(job_id) + ENTRY for job_id in self._logs)
        return len(self._logs) < MAX_LOGS and size < MAX_BOOKMARK * 3 // 4

    def _open(self, job_id: str, at: Cursor | None, *, queued: bool) -> None:
        hub, each = self._hub, self._query.each
        try:
            state, summary = look_up(hub.store, hub.jobs, job_id, self._reader)
            tail = 0 if queued and self._query.from_now else each.tail
            # A cursor says where, whatever else does.
            since = None if at else each.since
            selection = replace(each, offset=at, tail=tail, since=since).select(hub.store, state, summary)
        except StoreUnavailable:
            raise
        except TailerError as error:
            if not (queued and isinstance(error, UnknownJob | LogExpired)):
                self._refused.append(Refused(job_id, error))
            return
        events = follow(hub, selection, self._heartbeat) if each.wait else snapshot(hub, selection)
        about = summary.last.about if summary else None
        function = (about.function if about else None) or (state.description or "").partition("(")[0]
        queue = state.queue or (about.queue if about else None)
        bounded = self._reader.bounded(events)
        self._logs[job_id] = Log(job_id, function, queue, bounded, selection.start, queued=queued)

    # Queues.

    def _begin_queues(self) -> None:
        queues, resumed, before = self._queues, self._query.resumed, len(self._queues.waiting)
        queues.number = self._arrivals.look()
        queues.floor = queues.origin = max(0, self._arrivals.top - MARGIN_MS)
        since = self._query.each.since
        if resumed.floor is not None:
            missed, complete = self._arrivals.since(resumed.floor)
            queues.origin = resumed.floor
            queues.left_out += not complete
            for arrival in missed:
                self._consider(arrival)
        elif since is not None:
            missed, complete = self._arrivals.since(since)
            queues.left_out += not complete
            for arrival in missed:
                self._want(arrival, None)
        for queue in sorted(self._query.queues):
            ids = [one for one in self._hub.jobs.running(queue, limit=MAX_WAITING) if one not in queues.waiting]
            for state, summary in known(self._hub.store, self._hub.jobs, ids):
                # A job that RQ's own workers run leaves no log.
                if summary and not summary.last.end:
                    self._want(Arrival(0, 0, (state, summary)), None)
        queues.left_out += max(0, resumed.waiting - (len(queues.waiting) - before))
        self._admit()  # "From now on" is from the request on.

    def _look(self) -> None:
        """See what has arrived, once a second. While Redis is away, all stays as it is."""
        queues, now = self._queues, time.monotonic()
        if not self._query.queues or not self._query.each.wait or now < queues.look_at:
            return
        queues.look_at = now + LOOK_S
        with suppress(StoreUnavailable):
            self._arrivals.look()
            for arrival in self._arrivals.behind(queues.number):
                queues.left_out += arrival.number - queues.number
                self._consider(arrival)
                queues.number = arrival.number + 1
                queues.floor = max(queues.floor, arrival.time - MARGIN_MS)

    def _consider(self, arrival: Arrival) -> None:
        """See whether it is a job to be followed, and from where."""
        state, summary = arrival.known
        over = self._told.get(state.job_id)
        if over:
            over.time = arrival.time
        if summary is None:
            return
        first = over.place.attempt + 1 if over else 1
        began = [
            one for one in summary.attempts if one.number >= first and (over or one.started >= self._queues.origin)
        ]
        if began:
            self._want(arrival, Cursor(began[0].number))

    def _want(self, arrival: Arrival, at: Cursor | None) -> None:
        """Have the job's log followed when it is its turn, if it is in one of the queues and for this reader."""
        state, summary = arrival.known
        waiting = self._queues.waiting
        if arrival.queue not in self._query.queues or state.job_id in self._logs or state.job_id in waiting:
            return
        if not self._reader.reads(self._hub.jobs, state, summary):
            return
        if len(waiting) < MAX_WAITING:
            waiting[state.job_id] = at
        else:
            self._queues.left_out += 1

    def _admit(self) -> None:
        """Follow those that wait, as far as there is room."""
        waiting = self._queues.waiting
        while waiting and self._room:
            job_id, at = next(iter(waiting.items()))
            try:
                self._open(job_id, at, queued=True)
            except StoreUnavailable:
                if self._query.each.wait:
                    return
                raise
            del waiting[job_id]

    def _notice(self) -> Notice | None:
        """Return what is to be told of those that are not followed, if that is news."""
        now = time.monotonic()
        told = Notice(len(self._queues.waiting), self._queues.left_out)
        news = told.waiting > self._noticed.waiting or told.left_out > self._noticed.left_out
        if told.waiting == 0 and not news:
            self._noticed = told
        if not news or now - self._noticed_at < NOTICE_S:
            return None
        self._noticed, self._noticed_at = told, now
        return told

    # What is told.

    def bookmark(self, ends: Log | None = None) -> Bookmark:
        """Return where the client is, when it has what was told so far, and ``ends`` is over with that."""
        queues = self._queues
        places = {log.job_id: (log.place, log is ends) for log in self._logs.values()}
        if not self._query.queues:
            return Bookmark({**places, **{job_id: (over.place, True) for job_id, over in self._told.items()}})
        floor = queues.floor
        left = MAX_BOOKMARK - sum(len(job_id) + ENTRY for job_id in places)
        for job_id, over in reversed(self._told.items()):
            if job_id in places or not (over.named or over.time is None or over.time >= floor):
                continue
            left -= len(job_id) + ENTRY
            if left < 0 and not over.named:
                floor = max(floor, (over.time or 0) + 1)
            else:
                places[job_id] = over.place, True
        return Bookmark(places, floor, len(queues.waiting))

    def events(self) -> Generator[Told | Pause]:
        """Yield what is told, for as long as there may be more; with pauses, if the query waits.

        Raises:
            ServerStopping: the process is told to stop.
            Unauthorized: the reader's credential has ended.
        """
        try:
            yield from self._events()
        finally:
            for log in self._logs.values():
                log.events.close()

    def _events(self) -> Generator[Told | Pause]:
        spoke = time.monotonic()
        while True:
            said = False
            for told in self._round():
                said = True
                yield told
            now = time.monotonic()
            if said:
                spoke = now
            elif self._is_over():
                return
            elif now - spoke >= self._heartbeat:
                spoke = now
                yield Told(None, Beat())
            elif all(log.rests for log in self._logs.values()):
                yield self._rest(spoke + self._heartbeat)

    def _is_over(self) -> bool:
        if self._logs or self._queues.waiting:
            return False
        return not self._query.each.wait or not (self._query.queues or self._view)

    def _round(self) -> Iterator[Told]:
        """Yield what is new: of the list, of the queues, and of one or of all of the logs."""
        self._reader.check()
        if self._hub.stopping():
            raise ServerStopping("ask again")
        if self._view and (changes := self._view.news()):
            yield Told(None, Listed(changes))
        self._look()
        self._admit()
        if notice := self._notice():
            yield Told(None, notice)
        while self._refused:
            yield Told(None, self._refused.pop(0))
        for log in self._next():
            item, log.item = log.item, None
            if isinstance(item, TailerError):
                yield Told(None, Refused(log.job_id, item))
            elif item and not isinstance(item[0], Beat):  # There is one for all of them.
                yield Told(log, *item)
            if log.over:
                self._close(log)

    def _next(self) -> list[Log]:
        """Return the logs whose turn it is."""
        ready = []
        for log in list(self._logs.values()):
            if log.fill():
                ready.append(log)
            elif log.over and not log.rests:
                self._close(log)
        if self._query.each.options.records == "chunks" or len(ready) < 2:  # noqa: PLR2004
            # One of each at a time, so that a busy one does not keep the others waiting.
            return ready
        return [min(ready, key=lambda log: log.time)]

    def _close(self, log: Log) -> None:
        log.events.close()
        try:
            summary = self._hub.store.summary(log.job_id) if log.paused else None
        except StoreUnavailable:
            log.pause, log.until = Pause(LOOK_S), time.monotonic() + LOOK_S
            return
        del self._logs[log.job_id]
        self._told.pop(log.job_id, None)
        self._told[log.job_id] = Over(log.place, named=not log.queued)
        if summary and (later := summary.after(log.place.attempt)):
            self._queues.waiting[log.job_id] = Cursor(later.number)
        if len(self._told) > MAX_TOLD:
            oldest = next(job_id for job_id, over in self._told.items() if not over.named)
            self._queues.floor = max(self._queues.floor, (self._told.pop(oldest).time or 0) + 1)

    def _rest(self, beat: float) -> Pause:
        now = time.monotonic()
        until = min([beat, *(log.until for log in self._logs.values())])
        if self._view:
            until = min(until, now + LIST_S)
        if self._query.queues:
            until = min(until, max(now, self._queues.look_at))
        parts = tuple(log.pause for log in self._logs.values() if log.pause)
        return Pause(max(0.01, until - now), parts=parts)
