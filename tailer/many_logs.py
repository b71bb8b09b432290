"""What is told of many logs that are followed as one: each of the logs, and what is new in it or of all."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from tailer.channel import Pause
from tailer.errors import ServerStopping, TailerError, Unauthorized
from tailer.follow import Event, Final, Placed
from tailer.formats import plain
from tailer.jobs import JobState
from tailer.many_query import MAX_LOGS
from tailer.reader import Cursor
from tailer.records import Chunk, End, Hole

RQS_OWN = re.compile(r"([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
"""An id that RQ has made up: random, so that its beginning tells it from others."""
Problem = Callable[[Exception], dict[str, Any]]
"""Says what clients are told of an error."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class Log:
    """One of the logs that are followed. ``place`` is behind what the client has been told of it.

    ``function`` is the name of the job's, as far as it is known. ``queued`` says that it was found in a queue.
    """

    job_id: str
    function: str
    queue: str | None
    events: Generator[Placed | Pause]
    place: Cursor
    queued: bool = False
    item: Placed | TailerError | None = None
    pause: Pause | None = None
    until: float = 0.0
    over: bool = False
    paused: bool = False

    @property
    def name(self) -> str:
        """What its lines begin with."""
        return name_of(self.job_id, self.function)

    @property
    def rests(self) -> bool:
        """Whether it waits for news, or for a time."""
        return self.pause is not None and not self.pause.has_news() and time.monotonic() < self.until

    @property
    def time(self) -> int:
        """When the next item came about, ms; 0 for what has no place in time."""
        event = self.item[0] if isinstance(self.item, tuple) else None
        return event.time if isinstance(event, Chunk | Hole) else 0

    def fill(self) -> bool:
        """See what comes next; returns whether there is something. Else it ``rests``, or is ``over``."""
        if self.item or self.over or self.rests:
            return self.item is not None
        self.pause = None
        try:
            item = next(self.events, None)
        except (ServerStopping, Unauthorized):
            raise
        except TailerError as error:
            self.item, self.over = error, True
            return True
        if isinstance(item, Pause):
            self.pause, self.until = item, time.monotonic() + item.timeout
            return False
        self.item = item
        if item:
            # Another attempt may be a day away: it is found in its queue again.
            self.paused = self.queued and isinstance(item[0], End) and not item[0].final
        self.over = item is None or self.paused or isinstance(item[0], Final)
        return item is not None


def name_of(job_id: str, function: str) -> str:
    """Return what lines of a job begin with among others'."""
    found = RQS_OWN.fullmatch(job_id)
    short = found[1] if found else job_id
    return plain(f"{short} {function}" if function else short)[:100]


@dataclass(frozen=True, slots=True)
class Notice:
    """So many jobs of the queues wait for their turn, and so many are left out for good."""

    waiting: int
    left_out: int

    def __str__(self) -> str:
        parts = []
        if self.waiting:
            parts.append(f"{self.waiting} more wait for their turn: {MAX_LOGS} logs are followed at once")
        if self.left_out:
            parts.append(f"{self.left_out} or more are left out: too many began at once")
        return "jobs: " + "; ".join(parts)


@dataclass(frozen=True, slots=True)
class Listed:
    """What has changed in the list of jobs."""

    changes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """A log that cannot be followed, or no further."""

    job_id: str
    error: TailerError


Item: TypeAlias = "Event | Refused | Notice | Listed | object"


class Told(NamedTuple):
    """What is new: in a log, with the place behind it, or, without one, of all."""

    log: Log | None
    event: Item
    cursor: Cursor = Cursor()

    def accept(self) -> None:
        """The client gets it: its log goes on from behind it. RQ's view of a job is at no place in the log."""
        if self.log and not isinstance(self.event, JobState):
            self.log.place = self.cursor
