"""Reads jobs' logs and lists over HTTP. A log is followed through restarts of the web side, by its cursor."""

from __future__ import annotations

import json
import random
import time
from base64 import b64decode
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from itertools import groupby
from typing import Any, Generic, TypeVar

import urllib3
from urllib3.exceptions import HTTPError

from tailer.errors import TailerError, Unauthorized, WebUnavailable
from tailer.follow import Final, Placed
from tailer.formats import NDJSON
from tailer.query import LogQuery
from tailer.records import Chunk, End, Hole, end_from_json
from tailer.store import Cursor, check_job_id, now_ms

CONNECT_S = 5.0
SILENCE_S = 45.0
"""A stream without a byte for so long is dead: the server sends a heartbeat every 15 s."""
BACKOFF_S = (0.2, 5.0)
PIECE = 1 << 16
"""Bytes read at a time, at most."""
T = TypeVar("T")
_ACCEPT = "application/x-ndjson, application/json, application/problem+json"
_BUSY = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT}


class Web:
    """Tailer's web side at ``url``, asked with a ``token`` if that is given.

    A connection that is silent for ``silence`` seconds counts as dead.
    """

    def __init__(self, url: str, token: str | None = None, *, silence: float = SILENCE_S) -> None:
        self.url = url
        credential = {"Authorization": f"Bearer {token}"} if token else {}
        # Redirects only: whatever else goes wrong is tried again here, where it is known from which cursor.
        retries = urllib3.Retry(total=None, connect=0, read=0, redirect=5, status=0, other=0)
        self._pool = urllib3.PoolManager(
            retries=retries,
            maxsize=8,  # threads that ask at the same time
            timeout=urllib3.Timeout(connect=CONNECT_S, read=silence),
            headers={"Accept": _ACCEPT, **credential},
        )

    def open(
        self,
        path: str,
        parameters: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """Ask for ``path``, with more ``headers``; returns the answer with its body still to be read.

        Raises:
            WebUnavailable: there is no answer, or one that says "later".
            TailerError: an answer that tells of no success, in the server's words.
        """
        try:
            response = self._pool.request(
                method,
                self.url + path,
                fields=parameters,
                headers={**self._pool.headers, **(headers or {})},
                preload_content=False,
            )
        except HTTPError as error:
            raise WebUnavailable(f"{self.url}: {cause_of(error)}") from None
        if response.status not in {HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT}:
            raise self._problem(response)
        return response

    def get(
        self, path: str, parameters: Mapping[str, str] | None = None, *, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Return what the JSON at ``path`` says; raises as ``open``."""
        return self._read(self.open(path, parameters, headers=headers))

    def link(self, job_id: str, duration: str) -> Any:
        """Have a link made for a job's log: see ``POST /jobs/<id>/link`` in the protocol; raises as ``open``."""
        return self._read(self.open(f"/jobs/{check_job_id(job_id)}/link", {"for": duration}, method="POST"))

    def _read(self, response: urllib3.BaseHTTPResponse) -> Any:
        try:
            return json.loads(response.data)
        except HTTPError as error:
            raise WebUnavailable(f"{self.url}: {cause_of(error)}") from None
        except ValueError:
            raise self.stranger() from None
        finally:
            response.close()

    def stranger(self) -> TailerError:
        """Return the error for an answer that Tailer does not give."""
        return TailerError(f"{self.url} does not answer as Tailer's web side does")

    def _problem(self, response: urllib3.BaseHTTPResponse) -> TailerError:
        """Return an answer other than 200 as an error, in the words of its problem document if it has one."""
        kind = WebUnavailable if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR else TailerError
        if response.status in _BUSY:
            kind = WebUnavailable
        if response.status == HTTPStatus.UNAUTHORIZED:
            response.close()
            return Unauthorized(f"{self.url} asks for a token, or does not know this one: set TAILER_TOKEN")
        try:
            told = json.loads(response.data)["detail"]
            return kind(told if response.status < HTTPStatus.INTERNAL_SERVER_ERROR else f"{self.url}: {told}")
        except (HTTPError, ValueError, KeyError, TypeError):
            return kind(f"{self.url} answers {response.status} {response.reason or ''}".rstrip())
        finally:
            response.close()


class Resuming(Generic[T]):
    """What is streamed by a web side, for one reader, through breaks of the connection.

    ``notice`` is called with a line for a person when it breaks. Without one for ``patience`` seconds it gives up.
    ``begun`` tells whether anything of use has come yet.
    """

    def __init__(self, web: Web, *, patience: float, notice: Callable[[str], None]) -> None:
        self._web = web
        self._patience = patience
        self._notice = notice
        self._pause = BACKOFF_S[0]
        self._deadline: float | None = None
        self.begun = False

    def events(self) -> Iterator[T]:
        """Yield what comes, each byte once, however often the stream breaks.

        Raises:
            WebUnavailable: the first connection could not be made, or none since ``patience`` seconds.
            TailerError: the server refuses, in its own words.
        """
        response = self._open()
        while broken := (yield from self._read(response)):
            response = self._reopen(broken)

    def _open(self) -> urllib3.BaseHTTPResponse:
        """Connect, to go on where it was."""
        raise NotImplementedError

    def _read(self, response: urllib3.BaseHTTPResponse) -> Generator[T, None, str | None]:
        """Yield what comes; returns why it must be asked for again, ``None`` if it need not."""
        try:
            return (yield from self._parse(self._pieces(response)))
        except HTTPError as error:
            return cause_of(error)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self._web.stranger() from None
        finally:
            response.close()

    def _parse(self, pieces: Iterator[bytes]) -> Generator[T, None, str | None]:
        """Do what ``_read`` does, and raise anything for what Tailer does not send."""
        raise NotImplementedError

    def _hint(self) -> str:
        """Return how somebody else may go on from here."""
        return ""

    def _checked(self, response: urllib3.BaseHTTPResponse, content_type: str) -> urllib3.BaseHTTPResponse:
        if _media_type(response.headers.get("Content-Type", "")) != _media_type(content_type):
            response.close()
            raise self._web.stranger()
        return response

    def _pieces(self, response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        while piece := response.read1(PIECE):
            yield piece
            # Not before: it may have been the one by which a stream says that it cannot be had just now.
            self._pause, self._deadline, self.begun = BACKOFF_S[0], None, True

    def _reopen(self, broken: str) -> urllib3.BaseHTTPResponse:
        if self._deadline is None:
            self._deadline = time.monotonic() + self._patience
            self._notice(f"the connection broke ({broken}); resuming")
        elif time.monotonic() > self._deadline:
            raise self._given_up(broken)
        while True:
            time.sleep(self._pause * random.uniform(0.5, 1))  # noqa: S311 -- so that clients don't all come at once
            self._pause = min(self._pause * 2, BACKOFF_S[1])
            try:
                return self._open()
            except WebUnavailable as error:
                if time.monotonic() > self._deadline:
                    raise self._given_up(str(error)) from None

    def _given_up(self, reason: str) -> WebUnavailable:
        return WebUnavailable(f"{reason}: gave up after {self._patience:.0f} s{self._hint()}")


class RemoteLog(Resuming[Placed]):
    """A job's log behind a web side, as chunks and holes, and ``Final`` if the log is over.

    ``cursor`` is behind what was yielded so far.
    """

    def __init__(
        self, web: Web, job_id: str, query: LogQuery, *, patience: float, notice: Callable[[str], None]
    ) -> None:
        super().__init__(web, patience=patience, notice=notice)
        self._path = f"/jobs/{check_job_id(job_id)}/log"
        self._query = query
        self.cursor: Cursor | None = query.offset

    def _parameters(self) -> dict[str, str]:
        query = self._query
        options = query.options
        # Durations count back from now, and "now" is another one at each connection.
        named: dict[str, object] = {
            "format": "ndjson",
            "follow": int(query.wait),
            "attempt": query.attempt,
            "until": None if query.until is None else f"{query.until / 1000:.3f}",
            **{stream: 1 for stream in options.streams if len(options.streams) == 1},
        }
        if self.cursor:
            named["offset"] = self.cursor
        else:
            named["since"] = None if query.since is None else f"{query.since / 1000:.3f}"
            named["tail"] = query.tail
        return {name: str(value) for name, value in named.items() if value is not None}

    def _open(self) -> urllib3.BaseHTTPResponse:
        response = self._checked(self._web.open(self._path, self._parameters()), NDJSON.content_type)
        start = response.headers.get("Tailer-Cursor")
        if self.cursor is None and start:
            # Lines that come before the first record does must not be lost to another tail=N.
            self.cursor = Cursor.parse(start)
        return response

    def _parse(self, pieces: Iterator[bytes]) -> Generator[Placed, None, str | None]:
        rest = b""
        for piece in pieces:
            *lines, rest = (rest + piece).split(b"\n")
            for event, cursor in events_of(lines):
                self.cursor = cursor
                yield event, cursor
                if isinstance(event, Final):
                    return None
        until = self._query.until
        over = not self._query.wait or (until is not None and now_ms() > until)
        return None if over and not rest else "the stream ended before the log did"

    def _hint(self) -> str:
        return f"; resume with --offset {self.cursor}" if self.cursor else ""


def events_of(lines: Iterable[bytes]) -> Iterator[Placed]:
    """Read lines of NDJSON. Consecutive lines of a chunk become one chunk again; blank ones, heartbeats, are skipped.

    Raises ``ValueError``, ``KeyError`` or ``TypeError`` for what Tailer does not send.
    """
    for _, group in groupby(map(json.loads, filter(None, lines)), key=_belongs_to):
        records = list(group)
        first, last = records[0], records[-1]
        cursor = Cursor.parse(last["cursor"])
        if "outcome" in last:
            yield Final(end_of(last)), cursor
        elif "missing" in last:
            missing = int(last["missing"])
            offset = cursor.offset - missing
            yield Hole(ms_of(last["time"]), offset, last["line"], 0, False, missing, str(last["cause"])), cursor
        else:
            data = b"".join(map(bytes_of, records))
            offset = cursor.offset - len(data)
            lines_in = data.count(b"\n")
            yield Chunk(first["stream"], ms_of(first["time"]), offset, first["line"], lines_in, False, data), cursor


def _belongs_to(record: Mapping[str, Any]) -> tuple[object, ...]:
    """What consecutive records of one chunk have in common, and no others."""
    cursor = str(record["cursor"])
    if "text" in record:
        return cursor.partition(":")[0], record["stream"], record["time"]
    return cursor, "outcome" in record


def bytes_of(record: Mapping[str, Any]) -> bytes:
    """Return the output that a record stands for."""
    raw = b64decode(record["base64"]) if "base64" in record else str(record["text"]).encode()
    return raw if record.get("partial") else raw + b"\n"


def end_of(record: Mapping[str, Any]) -> End:
    """Return the end record in a record; raises ``ValueError``."""
    end = end_from_json(json.dumps(record))
    if end is None:
        raise ValueError("not an end record")
    return end


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def ms_of(text: str) -> int:
    """Return ms since 1970 for a time as Tailer sends it; raises ``ValueError``."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def cause_of(error: BaseException) -> str:
    """Return the innermost reason in the system's words, such as "Connection refused"."""
    while inner := error.__cause__ or getattr(error, "reason", None) or error.__context__:
        if not isinstance(inner, BaseException):
            break
        error = inner
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
