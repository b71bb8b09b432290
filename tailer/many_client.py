"""Reads many logs over HTTP as one stream, through restarts of the web side."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from http import HTTPStatus
from typing import Any, NamedTuple

import urllib3

from tailer.client import Resuming, Web, bytes_of, end_of, ms_of
from tailer.errors import TailerError, Unauthorized, WebUnavailable
from tailer.follow import Final
from tailer.formats import SSE
from tailer.many_lines import Line, Lines
from tailer.many_logs import Log, Notice, Refused, Told
from tailer.many_query import ManyQuery
from tailer.reader import Cursor
from tailer.records import Hole


class ServerEvent(NamedTuple):
    """A server-sent event; ``name`` is empty for one without."""

    name: str
    identity: str
    data: str


def event_in(block: bytes) -> ServerEvent:
    """Return the event in the bytes between two blank lines (WHATWG HTML, section 9.2.6), as Tailer writes them."""
    fields: dict[str, list[str]] = {}
    for line in block.decode().split("\n"):
        name, _, value = line.partition(": ")
        fields.setdefault(name, []).append(value)
    return ServerEvent(
        "".join(fields.get("event", [])), "".join(fields.get("id", [])), "\n".join(fields.get("data", []))
    )


class RemoteLogs(Resuming[Told]):
    """Many logs behind a web side, for one reader, by lines. Goes on from the id of the last event after a break."""

    def __init__(self, web: Web, query: ManyQuery, *, patience: float, notice: Callable[[str], None]) -> None:
        super().__init__(web, patience=patience, notice=notice)
        self._query = query
        self._last_id = ""
        self._logs: dict[str, Log] = {}
        self._over: set[str] = set()
        self._partial: dict[tuple[str, str], bool] = {}

    def _parameters(self) -> list[tuple[str, str]]:
        query, each = self._query, self._query.each
        named = [("job", f"{job_id}@{at}" if at else job_id) for job_id, at in query.jobs.items()]
        named += [("queue", queue) for queue in sorted(query.queues)]
        named += [("format", "sse"), ("json", "1"), ("follow", str(int(each.wait)))]
        named += [(stream, "1") for stream in each.options.streams if len(each.options.streams) == 1]
        if each.since is not None:
            # A duration counts back from now, and "now" is another one at each connection.
            named.append(("since", f"{each.since / 1000:.3f}"))
        if not query.from_now and each.since is None:
            named.append(("tail", "all" if each.tail is None else str(each.tail)))
        return named

    def _open(self) -> urllib3.BaseHTTPResponse:
        seen = {"Last-Event-ID": self._last_id} if self._last_id else {}
        response = self._web.open("/logs", self._parameters(), headers=seen)
        if response.status == HTTPStatus.NO_CONTENT:
            return response  # All is told; only the last chunk had not come.
        return self._checked(response, SSE.content_type)

    def _parse(self, pieces: Iterator[bytes]) -> Generator[Told, None, str | None]:
        rest, job_id = b"", ""
        for piece in pieces:
            *blocks, rest = (rest + piece).split(b"\n\n")
            for event in map(event_in, blocks):
                if event.name == "job":
                    job_id = self._begin(json.loads(event.data))
                elif event.name == "error" and not job_id:
                    return self._ended(json.loads(event.data))
                elif event.data and (told := self._told(job_id, event)):
                    yield told
                self._last_id = event.identity or self._last_id
        over = not self._query.each.wait or (not self._query.queues and self._over >= self._query.jobs.keys())
        return None if over and not rest else "the stream ended before the logs did"

    def _begin(self, about: dict[str, Any]) -> str:
        job_id = str(about["job"])
        if job_id and job_id not in self._logs:
            self._logs[job_id] = Log(job_id, str(about.get("function") or ""), about.get("queue"), _none(), Cursor())
        return job_id

    def _ended(self, problem: dict[str, Any]) -> str:
        """Return why the stream has ended.

        Raises:
            Unauthorized: it need not be tried again.
            WebUnavailable: nothing has come yet, as where a connection cannot be made.
        """
        if problem["status"] == HTTPStatus.UNAUTHORIZED:
            raise Unauthorized(str(problem["detail"]))
        reason = f"{problem['title']}: {problem['detail']}"
        if not self.begun:
            raise WebUnavailable(f"{self._web.url}: {problem['detail']}")
        return reason

    def _told(self, job_id: str, event: ServerEvent) -> Told | None:
        if event.name == "":
            lines = [self._line(job_id, json.loads(data)) for data in event.data.split("\n")]
            return Told(self._logs[job_id], Lines(lines), lines[-1].end)
        about = json.loads(event.data)
        if event.name == "waiting":
            return Told(None, Notice(int(about["waiting"]), int(about["left_out"])))
        if event.name == "error":
            self._over.add(job_id)
            return Told(None, Refused(job_id, TailerError(str(about["detail"]))))
        if event.name == "hole":
            missing, cursor = int(about["missing"]), Cursor.parse(about["cursor"])
            hole = Hole(ms_of(about["time"]), cursor.offset - missing, 0, 0, False, missing, str(about["cause"]))
            return Told(self._logs[job_id], hole, cursor)
        if event.name == "end":
            self._over.add(job_id)
            return Told(self._logs.pop(job_id), Final(end_of(about)))
        return None

    def _line(self, job_id: str, record: dict[str, Any]) -> Line:
        stream, partial = str(record["stream"]), bool(record.get("partial"))
        begun = self._partial.pop((job_id, stream), False)
        if partial:
            self._partial[job_id, stream] = True
        data = bytes_of(record).removesuffix(b"\n")
        end = Cursor.parse(record["cursor"])
        return Line(data, ms_of(record["time"]), stream, int(record["line"]), begun, partial, end)


def _none() -> Generator[Any]:
    yield from ()
