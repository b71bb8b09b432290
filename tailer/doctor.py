"""`tailer doctor`: looks at all that following a job needs, and says what to do where something is wrong."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis

from tailer.client import Web, events_of
from tailer.cluster import Cluster
from tailer.errors import SettingsError, StoreUnavailable, TailerError
from tailer.follow import Final
from tailer.settings import Settings
from tailer.store import connect, redis_errors
from tailer.workers import live_workers

OK, WARN, FAIL = "ok", "warn", "fail"
OLDEST = (6, 2)
PINGS = 20
SLOW_MS = 10.0
"""Round trips that take longer make every line arrive late, and a worker ship more slowly than a job may print."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: ``level`` is OK, WARN or FAIL, ``text`` says what is so and, if it is bad, what to do."""

    level: str
    subject: str
    text: str


def examine() -> Iterator[Finding]:
    """Yield what is found, in the order in which one thing needs the other. Raises nothing; changes nothing."""
    try:
        settings = Settings.from_env()
    except SettingsError as error:
        yield Finding(FAIL, "settings", str(error))
        return
    yield Finding(OK, "settings", f"capture {settings.capture}, logs kept {settings.ttl} s, {_readers(settings)}")
    rq = connect(settings.rq_url)
    if settings.log_url and settings.log_url != settings.rq_url:
        yield from _logs(connect(settings.log_url))
        yield from _server("Redis (RQ)", rq)
    else:
        yield from _server("Redis", rq)
    yield from _workers(rq)
    if settings.url:
        yield from _web(Web(settings.url, settings.token))
    else:
        yield Finding(OK, "web side", "not looked at: TAILER_URL names none")


def _readers(settings: Settings) -> str:
    return f"tokens of {len(settings.tokens)} readers" if settings.tokens else f"auth {settings.auth}"


def _logs(connection: redis.Redis) -> Iterator[Finding]:
    if not isinstance(connection, Cluster):
        yield from _server("Redis (logs)", connection)
        return
    try:
        with redis_errors():
            servers = connection.servers()
    except StoreUnavailable as error:
        yield _unreachable("Redis (logs)", error)
        return
    for place, server in servers.items():
        yield from _server(f"Redis (logs, {place})", server)


def _unreachable(subject: str, error: StoreUnavailable) -> Finding:
    return Finding(FAIL, subject, f"{error}; start it, or set REDIS_URL (TAILER_REDIS_URL for logs elsewhere)")


def _server(subject: str, connection: redis.Redis) -> Iterator[Finding]:
    try:
        with redis_errors():
            connection.ping()
            info: Any = connection.info()
    except StoreUnavailable as error:
        yield _unreachable(subject, error)
        return
    yield _version(subject, info)
    yield _eviction(subject, info)
    try:
        yield _latency(subject, connection)
    except StoreUnavailable as error:
        yield Finding(FAIL, subject, str(error))


def _version(subject: str, info: dict[str, Any]) -> Finding:
    told = str(info.get("redis_version", "unknown"))
    name = f"Valkey {info['valkey_version']} (as Redis {told})" if "valkey_version" in info else f"Redis {told}"
    numbers = tuple(int(part) for part in told.split(".")[:2] if part.isdigit())
    if numbers < OLDEST:
        return Finding(FAIL, subject, f"{name}: Tailer needs Redis 6.2 or newer, or Valkey")
    return Finding(OK, subject, name)


def _eviction(subject: str, info: dict[str, Any]) -> Finding:
    policy, limit = str(info.get("maxmemory_policy", "unknown")), int(info.get("maxmemory", 0))
    room = f"maxmemory {limit // (1 << 20)} MiB" if limit else "no maxmemory"
    if policy.startswith("allkeys-"):
        advice = "evicts logs and RQ's own data when memory is short: use noeviction or volatile-ttl"
        return Finding(WARN, subject, f"maxmemory-policy {policy} {advice}")
    if limit and policy.startswith("volatile-"):
        return Finding(OK, subject, f"{room}, policy {policy}: logs may go before their time when it is full")
    return Finding(OK, subject, f"{room}, policy {policy}")


def _latency(subject: str, connection: redis.Redis) -> Finding:
    times = []
    with redis_errors():
        for _ in range(PINGS):
            began = time.perf_counter()
            connection.ping()
            times.append((time.perf_counter() - began) * 1000)
    median = statistics.median(times)
    text = f"{median:.2f} ms a round trip (median of {PINGS})"
    if median > SLOW_MS:
        return Finding(WARN, subject, f"{text}: run workers and web side nearer to it")
    return Finding(OK, subject, text)


def _workers(connection: redis.Redis) -> Iterator[Finding]:
    try:
        workers = live_workers(connection)
    except StoreUnavailable:
        return  # Said already.
    if not workers:
        yield Finding(WARN, "workers", "none is alive: start one with `python -m worker`")
    for worker in workers:
        queues = ", ".join(worker.queues)
        if worker.capture:
            yield Finding(OK, "workers", f"{worker.name} on {queues}: captures ({worker.capture})")
        else:
            advice = "start it with `rq worker -w worker.Worker`"
            yield Finding(WARN, "workers", f"{worker.name} on {queues}: does not capture its jobs' output: {advice}")


def _web(web: Web) -> Iterator[Finding]:
    try:
        web.open("/readyz").close()
        yield Finding(OK, "web side", f"{web.url} answers, and reaches Redis")
        finished = web.get("/jobs", {"status": "finished", "limit": "1"})["jobs"]
        if not finished:
            yield Finding(OK, "web side", "streaming not tried: no job has finished yet")
            return
        yield _streams(web, finished[0]["job_id"])
    except TailerError as error:
        yield Finding(FAIL, "web side", f"{error}; see that it runs, and that TAILER_URL is right")
    except (KeyError, TypeError, IndexError):
        yield Finding(FAIL, "web side", f"{web.stranger()}; see that TAILER_URL is right")


def _streams(web: Web, job_id: str) -> Finding:
    """Follow a job that is over: the whole log must come, in pieces, and end by itself."""
    response = web.open(f"/jobs/{job_id}/log", {"format": "ndjson", "tail": "1"})
    buffered = "Content-Length" in response.headers
    try:
        events = [event for event, _ in events_of(response.data.split(b"\n"))]
    except (ValueError, KeyError, TypeError):
        return Finding(FAIL, "web side", f"{web.stranger()}; see that TAILER_URL is right")
    if not events or not isinstance(events[-1], Final):
        return Finding(FAIL, "web side", f"the log of {job_id} comes without its end: does a proxy cut streams?")
    if buffered:
        return Finding(WARN, "web side", "a proxy collects streams before it passes them on: turn its buffering off")
    return Finding(OK, "web side", f"streams (the log of {job_id})")
