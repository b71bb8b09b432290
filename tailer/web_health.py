"""Looks at the web side from where a client stands: who may read, and how a log comes while it is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from typing import Any
from urllib.parse import urlsplit

import redis
from urllib3.exceptions import HTTPError

from tailer.client import Web, cause_of, events_of
from tailer.errors import Forbidden, StoreUnavailable, TailerError, Unauthorized
from tailer.findings import FAIL, OK, SKIP, WARN, Finding
from tailer.follow import Final
from tailer.probe import Trial, try_streams
from tailer.proxies import Proxy, Signs, Topic, recognise, what_to_set
from tailer.redis_health import clock
from tailer.scratch import ScratchLog
from tailer.stream_health import judge
from tailer.versions import versions

SUBJECT = "web side"
SILENCE_S = 10.0
"""How long an answer may take that does not follow a log."""
STRANGER = "203.0.113.7"
"""An address that no client has (RFC 5737)."""


class WebSide:
    """The web side at ``url``, as asked with ``token``. ``tell`` is called before what takes long.

    ``logs`` is the Redis to which a log is written that is then followed; without one, a finished log must do.
    ``idle`` is for how many seconds that log is silent, by default one more than the web side's heartbeat.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        logs: redis.Redis | None,
        *,
        idle: float | None = None,
        tell: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._web = Web(url, token, silence=SILENCE_S)
        self._url, self._token, self._logs, self._idle, self._tell = url, token, logs, idle, tell
        self._proxies: list[Proxy] = []

    def examine(self) -> Generator[Finding]:
        """Yield what is found. Raises nothing."""
        try:
            response = self._web.open("/readyz")
            response.close()
            self._proxies = recognise(Signs(response.headers))
            yield Finding(OK, SUBJECT, f"{self._url} answers, and reaches Redis")
            about = self._web.get("/about")
            yield from self._told(about)
            yield from self._streams(about)
        except StoreUnavailable as error:
            yield Finding(FAIL, SUBJECT, f"streaming not tried: {error}")
        except (Unauthorized, Forbidden) as error:
            yield Finding(FAIL, SUBJECT, str(error))
        except TailerError as error:
            yield Finding(FAIL, SUBJECT, f"{error}; see that it runs, and that TAILER_URL is right")
        except (KeyError, TypeError, IndexError, ValueError, AttributeError):
            yield Finding(FAIL, SUBJECT, f"{self._web.stranger()}; see that TAILER_URL is right")

    # What the web side tells of itself, and of how a request reaches it.

    def _told(self, about: dict[str, Any]) -> Iterator[Finding]:
        asked = about["request"]
        self._proxies = self._proxies or recognise(Signs({}, asked["headers"]))
        yield self._versions(about["versions"])
        yield clock(SUBJECT, about["time"] / 1000 - time.time(), exact=0.5)
        yield from self._readers(about)
        yield self._between(asked)
        yield from self._addresses(about)

    def _versions(self, there: dict[str, str]) -> Finding:
        here = versions()
        text = ", ".join(f"{name} {version}" for name, version in there.items())
        if there["tailer"] != here["tailer"]:
            return Finding(WARN, SUBJECT, f"{text}; here is tailer {here['tailer']}: use one version everywhere")
        return Finding(OK, SUBJECT, text)

    def _readers(self, about: dict[str, Any]) -> Iterator[Finding]:
        name = urlsplit(self._url).netloc
        if about["auth"] == "none":
            yield Finding(WARN, SUBJECT, "whoever reaches it reads all logs (TAILER_AUTH=none): set TAILER_TOKENS")
        elif about["auth"] == "loopback" and about["request"]["host"] != name:
            text = f"takes whoever comes through the proxy at {name} for a program on its machine, and shows all logs"
            yield Finding(FAIL, SUBJECT, f"{text}: set TAILER_TOKENS")
        elif self._token and about["auth"] in {"tokens", "app"}:
            try:
                Web(self._url, silence=SILENCE_S).get("/jobs", {"limit": "1"})
                yield Finding(FAIL, SUBJECT, "lists jobs to who has no token: does a proxy add a credential?")
            except Unauthorized:
                yield Finding(OK, SUBJECT, "takes the token, and nobody without one")

    def _between(self, asked: dict[str, Any]) -> Finding:
        names = ", ".join(f"{proxy.name} (docs/proxies.md#{proxy.section})" for proxy in self._proxies)
        hidden = not names and (asked["forwarded_for"] or asked["headers"] or asked["protocol"] == "HTTP/1.0")
        what = names or ("a proxy that does not tell its name" if hidden else "no proxy that can be told")
        if asked["protocol"] == "HTTP/1.0":
            lost = "nobody can tell a stream that was cut from one that is complete"
            return Finding(
                WARN, SUBJECT, f"between: {what}, which speaks HTTP/1.0 to Tailer: {lost}; {self._set(Topic.PROTOCOL)}"
            )
        return Finding(OK, SUBJECT, f"between: {what}")

    def _addresses(self, about: dict[str, Any]) -> Iterator[Finding]:
        asked, trusted = about["request"], about["trusted_proxies"]
        url = urlsplit(self._url)
        count = len([entry for entry in (asked["forwarded_for"] or "").split(",") if entry.strip()])
        if asked["host"] != url.netloc:
            text = f"is asked for {asked['host']} where clients ask for {url.netloc}, so links that it makes are wrong"
            yield Finding(WARN, SUBJECT, f"{text}; {self._set(Topic.HOST)}")
        if self._believes_a_client():
            text = f"believes the address that a client claims: TAILER_TRUSTED_PROXIES is {trusted}, {count} tell one"
            yield Finding(FAIL, SUBJECT, f"{text}; set it to {count}, or {self._set(Topic.FORWARDED)}")
        elif count > trusted:
            text = f"does not know clients' addresses: set TAILER_TRUSTED_PROXIES={count} (now {trusted})"
            yield Finding(WARN, SUBJECT, text)
        elif self._proxies and not count:
            yield Finding(WARN, SUBJECT, f"does not know clients' addresses; {self._set(Topic.FORWARDED)}")
        else:
            yield Finding(OK, SUBJECT, f"sees this client as {asked['address']}, by {asked['scheme']}")
        if url.scheme == "https" and asked["scheme"] != "https" and count <= trusted:
            yield Finding(WARN, SUBJECT, f"does not know that clients use https; {self._set(Topic.FORWARDED)}")

    def _believes_a_client(self) -> bool:
        try:
            claimed = self._web.get("/about", headers={"X-Forwarded-For": STRANGER})
        except TailerError:  # Whoever has such a header is refused.
            return False
        return bool(claimed["request"]["address"] == STRANGER)

    def _set(self, topic: Topic) -> str:
        return what_to_set(self._proxies, topic)

    # Streaming.

    def _streams(self, about: dict[str, Any]) -> Iterator[Finding]:
        if self._logs is None:
            yield self._finished_log()
            return
        heartbeat = float(about["heartbeat"])
        silence = heartbeat + 1 if self._idle is None else self._idle
        self._tell(f"following a log of this command's own through {self._url}: takes {silence + 4:.0f} s")
        web = Web(self._url, self._token, silence=silence + SILENCE_S)
        with ScratchLog(self._logs) as log:
            trial = try_streams(web, log, silence)
            refused = next((seen.refused for seen in trial.seen if seen.refused), None)
            if refused:
                yield self._not_shown(refused)
                return
            yield from judge(trial, self._proxies, heartbeat=heartbeat, network=self._network())
            yield from self._resumed(web, log, trial)

    def _network(self) -> float:
        """Return the seconds of the fastest of some round trips."""
        took = []
        for _ in range(3):
            began = time.monotonic()
            self._web.get("/about")  # read to its end, so that the next one needs no new connection
            took.append(time.monotonic() - began)
        return min(took)

    def _finished_log(self) -> Finding:
        """Follow a job that is over: the whole log must come, in pieces, and end by itself."""
        untried = "how lines come while they are written was not tried: that needs the logs' Redis (REDIS_URL)"
        finished = self._web.get("/jobs", {"status": "finished", "limit": "1"})["jobs"]
        if not finished:
            return Finding(SKIP, SUBJECT, untried)
        job_id = finished[0]["job_id"]
        response = self._web.open(f"/jobs/{job_id}/log", {"format": "ndjson", "tail": "1"})
        try:
            data = response.data
        except HTTPError as error:
            cut = f"the log of {job_id} does not come to its end ({cause_of(error)}): does a proxy cut or hold streams?"
            return Finding(FAIL, SUBJECT, cut)
        events = [event for event, _ in events_of(data.split(b"\n"))]
        if not events or not isinstance(events[-1], Final):
            return Finding(FAIL, SUBJECT, f"the log of {job_id} comes without its end: does a proxy cut streams?")
        if "Content-Length" in response.headers:
            return Finding(FAIL, SUBJECT, f"streams are collected before they come; {self._set(Topic.BUFFERING)}")
        return Finding(SKIP, SUBJECT, f"the log of {job_id} comes whole; {untried}")

    def _not_shown(self, error: TailerError) -> Finding:
        if isinstance(error, Unauthorized):
            return Finding(FAIL, SUBJECT, str(error))
        known = "for you to read" in str(error)
        why = (
            "TAILER_TOKEN reads some jobs only: use one that reads all"
            if known
            else "its TAILER_REDIS_URL or REDIS_URL differs from the one here, or its Redis is a replica that is behind"
        )
        return Finding(SKIP if known else FAIL, SUBJECT, f"does not show a log that was just written: {error}; {why}")

    def _resumed(self, web: Web, log: ScratchLog, trial: Trial) -> Iterator[Finding]:
        """Come back with the id of an event, and with that of the end."""
        sse = next(seen for seen in trial.seen if seen.way.format == "sse")
        if not sse.over:
            return
        path, asked = f"/jobs/{log.job_id}/log", {"Accept": "text/event-stream"}
        behind_end = web.open(path, headers={**asked, "Last-Event-ID": f"{_cursor(sse.body)}:end"})
        behind_end.close()
        if behind_end.status != 204:  # noqa: PLR2004 (No Content)
            lost = "browsers come back for ever to a log that is over, and read it again from its beginning"
            yield Finding(FAIL, SUBJECT, f"Last-Event-ID does not get through: {lost}; {self._set(Topic.HEADERS)}")
        else:
            yield Finding(OK, SUBJECT, "Last-Event-ID gets through: streams are resumed, and over ones are not (204)")


def _cursor(events: bytes) -> str:
    """Return the cursor of the last event."""
    ids = [line[4:] for line in events.split(b"\n") if line.startswith(b"id: ")]
    return ids[-1].decode().removesuffix(":end")
