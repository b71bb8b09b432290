"""Several jobs' logs, and the list of jobs, in one response: what a page with panes reads.

Browsers open six connections to a server at most (measured: with six streams open, every other request of all tabs
hangs), so that a page must not take more than one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

from tailer.board import LOOK_S, View
from tailer.channel import Pause
from tailer.errors import InvalidParameter, ServerStopping, TailerError, Unauthorized
from tailer.follow import Final, Placed
from tailer.formats import RETRY_MS, SSE, Options, named
from tailer.lending import Items
from tailer.metrics import ENDED, LEFT, OVER, why
from tailer.settings import switch
from tailer.store import JOB_ID, Cursor

logger = logging.getLogger(__name__)

MAX_LOGS = 8
WHOLE_CHUNKS = Options(records="chunks")

Problem = Callable[[Exception], dict[str, Any]]
"""Says what clients are told of an error."""
Follow = Callable[[str, Cursor], Generator[Placed | Pause]]
"""Follows a job's log from a cursor. Raises ``TailerError`` if there is none."""


@dataclass(frozen=True, slots=True)
class StreamQuery:
    """The parameters of ``GET /stream``: logs and the cursors to go on from, and whether the list is wanted.

    Without ``wait`` it is what there is now, for clients that come again.
    """

    logs: tuple[tuple[str, Cursor], ...]
    list: bool
    wait: bool

    @classmethod
    def parse(cls, args: Mapping[str, Sequence[str]]) -> StreamQuery:
        """Read the query string; raises ``InvalidParameter``."""
        for name, values in args.items():
            if name not in {"follow", "job", "list"}:
                raise InvalidParameter(name[:80], values[0][:80], "the parameters are follow, job, list")
        jobs = args.get("job", ())
        if len(jobs) > MAX_LOGS:
            raise InvalidParameter("job", jobs[-1][:200], f"use at most {MAX_LOGS} jobs")
        wants_list = _switch(args, "list", default=False)
        if not jobs and not wants_list:
            raise InvalidParameter("job", "", "name a job, or use list=1")
        return cls(tuple(map(_log, jobs)), wants_list, _switch(args, "follow", default=True))


def _switch(args: Mapping[str, Sequence[str]], name: str, *, default: bool) -> bool:
    try:
        return switch(args[name][0]) if name in args else default
    except ValueError as error:
        raise InvalidParameter(name, args[name][0][:200], str(error)) from None


def _log(value: str) -> tuple[str, Cursor]:
    job_id, at, cursor = value.partition("@")
    if not JOB_ID.fullmatch(job_id):
        raise InvalidParameter("job", value[:200], "use JOB or JOB@ATTEMPT:OFFSET")
    try:
        return job_id, Cursor.parse(cursor) if at else Cursor()
    except ValueError:
        raise InvalidParameter("job", value[:200], "use JOB or JOB@ATTEMPT:OFFSET") from None


class Log:
    """One of the logs of a stream, and whether it has something to say."""

    def __init__(self, job_id: str, events: Generator[Placed | Pause]) -> None:
        self.job_id = job_id
        self.events = events
        self.encoder = SSE(WHOLE_CHUNKS)
        self.pause: Pause | None = None
        self.until = 0.0
        self.over = False

    @property
    def rests(self) -> bool:
        """Whether it waits for news, or for a time."""
        return self.pause is not None and not self.pause.has_news() and time.monotonic() < self.until

    def next(self) -> bytes:
        """Return the next event's bytes, empty if there is none: then it ``rests``, or is ``over``."""
        self.pause = None
        item = next(self.events, None)
        if isinstance(item, Pause):
            self.pause, self.until = item, time.monotonic() + item.timeout
            return b""
        if item is None:
            self.over = True
            return b""
        event, cursor = item
        self.over = isinstance(event, Final)
        return self.encoder.encode(event, cursor)


def switch_to(job_id: str) -> bytes:
    """Return the event that says whose the next ones are."""
    return named("job", {"job": job_id})


def together(query: StreamQuery, follow: Follow, view: View | None, heartbeat: float, problem: Problem) -> Items:
    """Yield the events of all logs, and the list as it changes, for as long as there are any."""
    yield b"retry: %d\n\n" % RETRY_MS
    reason = LEFT
    with ExitStack() as held:
        held.callback(lambda: ENDED.labels(reason).inc())
        logs: list[Log] = []
        for job_id, cursor in query.logs:
            try:
                logs.append(Log(job_id, held.enter_context(closing(follow(job_id, cursor)))))
            except TailerError as error:
                yield switch_to(job_id) + SSE.error(problem(error))
        try:
            yield from _take_turns(logs, view, heartbeat if query.wait else 0, problem)
            reason = OVER
        except Exception as error:
            reason = why(error)
            if not isinstance(error, ServerStopping | Unauthorized):
                logger.exception("a stream of several logs ends early")
            yield switch_to("") + SSE.error(problem(error))


def _take_turns(logs: list[Log], view: View | None, heartbeat: float, problem: Problem) -> Items:
    """Yield one event of each log at a time, so that a busy one does not keep the others waiting.

    Without a ``heartbeat`` that is all; else it goes on for as long as there may be more.
    """
    shown, spoke = None, time.monotonic()
    while logs or view:
        said = False
        if view and (told := view.news()):
            said = True
            yield named("jobs", told)
        for log in [log for log in logs if not log.rests]:
            try:
                data = log.next()
            except ServerStopping:
                raise
            except TailerError as error:
                data, log.over = SSE.error(problem(error)), True
            if data:
                said = True
                yield data if shown == log.job_id else switch_to(log.job_id) + data
                shown = log.job_id
            if log.over:
                logs.remove(log)
        now = time.monotonic()
        if said:
            spoke = now
        elif not heartbeat:
            return
        elif now - spoke >= heartbeat:
            spoke = now
            yield named("ping", {})
        elif all(log.rests for log in logs):
            yield _rest(logs, spoke + heartbeat, view)


def _rest(logs: Sequence[Log], beat: float, view: View | None) -> Pause:
    now = time.monotonic()
    until = min([beat, *(log.until for log in logs), *([now + LOOK_S] if view else [])])
    return Pause(max(0.01, until - now), parts=tuple(log.pause for log in logs if log.pause))
