"""Reads the parameters of a request for many logs: see ``query`` for those that are about each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from tailer.bookmark import MAX_BOOKMARK, Bookmark
from tailer.errors import InvalidParameter
from tailer.query import LogQuery
from tailer.reader import Cursor
from tailer.settings import switch
from tailer.store import JOB_ID

MAX_LOGS = 32
"""Logs that one response follows at once."""
MAX_QUEUES = 16
ENTRY = 32
"""Characters of a bookmark for each log, beside its id."""
_EACH = frozenset(["follow", "tail", "since", "stdout", "stderr", "timestamps", "ansi", "format", "json", "heartbeat"])
_PARAMETERS = ", ".join(sorted([*_EACH, "job", "lastEventId", "list", "queue"]))
_JOB = "use JOB or JOB@ATTEMPT:OFFSET"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyQuery:
    """The parameters of ``GET /logs``: jobs with the cursors to begin at, queues, and whether the list is wanted.

    ``each`` is what is wanted of each log. ``resumed`` is where the client was before.
    """

    jobs: Mapping[str, Cursor | None]
    queues: frozenset[str]
    list: bool
    each: LogQuery
    from_now: bool
    resumed: Bookmark

    @classmethod
    def parse(cls, args: Mapping[str, Sequence[str]], *, accept: str = "", last_event_id: str | None = None) -> Self:
        """Read the query string and the two headers that mean the same; raises ``InvalidParameter``."""
        for name, values in args.items():
            if name not in {*_EACH, "job", "queue", "list", "lastEventId"}:
                raise InvalidParameter(name[:80], values[0][:80], f"the parameters are {_PARAMETERS}")
        each = LogQuery.parse({name: args[name][0] for name in _EACH & args.keys()}, accept=accept)
        if each.options.records and each.format != "sse":
            # NDJSON has the same records anyway.
            each = replace(each, options=replace(each.options, records=""))
        wants_list = _list(args)
        if wants_list and each.format != "sse":
            raise InvalidParameter("list", args["list"][0], "use it with format=sse")
        jobs = _jobs(args.get("job", ()))
        queues = _queues(args.get("queue", ()))
        if not jobs and not queues and not wants_list:
            raise InvalidParameter("job", "", "name a job or a queue, or use list=1")
        return cls(
            jobs=jobs,
            queues=queues,
            list=wants_list,
            each=each,
            from_now=each.wait and each.since is None and "tail" not in args,
            resumed=_resumed(args, last_event_id, jobs),
        )

    @property
    def weight(self) -> int:
        """How many followers a response counts for: one for each eight logs that it may follow at once."""
        logs = MAX_LOGS if self.queues else max(1, len(self.jobs))
        return -(-logs // 8)

    @property
    def saw_end(self) -> bool:
        """Whether the client has seen all that there is."""
        over = all(self.resumed.places.get(job_id, (None, False))[1] for job_id in self.jobs)
        return over and not self.queues and not self.list


def _list(args: Mapping[str, Sequence[str]]) -> bool:
    try:
        return switch(args["list"][0]) if "list" in args else False
    except ValueError as error:
        raise InvalidParameter("list", args["list"][0][:200], str(error)) from None


def _jobs(values: Sequence[str]) -> dict[str, Cursor | None]:
    jobs: dict[str, Cursor | None] = {}
    for value in values:
        job_id, at, cursor = value.partition("@")
        if not JOB_ID.fullmatch(job_id):
            raise InvalidParameter("job", value[:200], _JOB)
        try:
            jobs[job_id] = Cursor.parse(cursor) if at else None
        except ValueError:
            raise InvalidParameter("job", value[:200], _JOB) from None
    if len(jobs) > MAX_LOGS:
        raise InvalidParameter("job", values[-1][:200], f"use at most {MAX_LOGS} jobs")
    if sum(len(job_id) + ENTRY for job_id in jobs) > MAX_BOOKMARK:
        raise InvalidParameter("job", values[-1][:200], "use fewer jobs, or such with shorter ids")
    return jobs


def _queues(values: Sequence[str]) -> frozenset[str]:
    for value in values:
        if not value or not value.isprintable():
            raise InvalidParameter("queue", value[:200], "use the name of a queue")
    if len(values) > MAX_QUEUES:
        raise InvalidParameter("queue", values[-1][:200], f"use at most {MAX_QUEUES} queues")
    return frozenset(values)


def _resumed(
    args: Mapping[str, Sequence[str]], last_event_id: str | None, jobs: Mapping[str, Cursor | None]
) -> Bookmark:
    """Return where the client was: the parameter wins, and both must be right."""
    given = {"Last-Event-ID": last_event_id or "", "lastEventId": args.get("lastEventId", ("",))[0]}
    found = Bookmark()
    for name, seen in given.items():
        if not seen:
            continue
        try:
            # The id of a log alone is its cursor.
            found = Bookmark.parse(seen if "@" in seen or len(jobs) != 1 else f"{next(iter(jobs))}@{seen}")
        except ValueError as error:
            raise InvalidParameter(name, seen[:200], str(error)) from None
    return found
