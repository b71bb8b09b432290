"""`tailer doctor`: looks at all that following a job needs, and says what to do where something is wrong.

What is looked at: ``redis_health`` for each Redis, RQ's workers here, ``web_health`` for the web side and what lies
between. Nothing is changed, but for a log of its own that is written and removed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import asdict

import click
import redis

from tailer.errors import SettingsError, StoreUnavailable
from tailer.findings import FAIL, OK, SKIP, WARN, Finding
from tailer.redis_health import examine_redis
from tailer.settings import Settings
from tailer.store import connect
from tailer.terminal import printable
from tailer.versions import UNKNOWN, versions
from tailer.web_health import WebSide
from tailer.workers import WorkerState, live_workers

OLDEST_RQ = (2, 6)
WIDEST = 600
"""Characters of a finding: some hold a server's own words."""


def examine(url: str | None, idle: float | None, tell: Callable[[str], None]) -> Generator[Finding]:
    """Yield what is found, in the order in which one thing needs the other. Raises nothing.

    ``url`` is where the web side is, ``TAILER_URL`` if not given; ``idle`` and ``tell`` are ``WebSide``'s.
    """
    here = versions()
    yield Finding(OK, "versions", ", ".join(f"{name} {version}" for name, version in here.items()))
    try:
        settings = Settings.from_env()
    except SettingsError as error:
        yield Finding(FAIL, "settings", str(error))
        return
    yield Finding(OK, "settings", f"capture {settings.capture}, logs kept {settings.ttl} s, {_readers(settings)}")
    url = url or settings.url
    logs: redis.Redis | None = None
    if url and not settings.rq_url_given and not settings.log_url:
        yield Finding(SKIP, "Redis", "not looked at, nor workers: REDIS_URL names none")
    else:
        findings = list[Finding]()
        for finding in _redis(settings):
            findings.append(finding)
            yield finding
        if not any(finding.level == FAIL for finding in findings):
            logs = connect(settings.log_url or settings.rq_url)
        yield from _workers(connect(settings.rq_url), here)
    if url:
        yield from WebSide(url, settings.token, logs, idle=idle, tell=tell).examine()
    else:
        yield Finding(SKIP, "web side", "not looked at: neither --url nor TAILER_URL names one")


def report(findings: Iterable[Finding], *, as_json: bool, strict: bool) -> bool:
    """Print the findings, each as soon as it is there, or all as one JSON document; returns whether all is well.

    All is well if nothing fails, and if ``strict`` nothing is warned of either.
    """
    bad = {FAIL, WARN} if strict else {FAIL}
    found = list[Finding]()
    for finding in findings:
        found.append(finding)
        if not as_json:
            click.echo(f"{finding.level:<4}  {finding.subject}: {printable(finding.text, widest=WIDEST)}")
    well = not any(finding.level in bad for finding in found)
    if as_json:
        click.echo(json.dumps({"ok": well, "findings": [asdict(finding) for finding in found]}, indent=2))
    return well


def _readers(settings: Settings) -> str:
    return f"tokens of {len(settings.tokens)} readers" if settings.tokens else f"auth {settings.auth}"


def _redis(settings: Settings) -> Iterator[Finding]:
    rq = connect(settings.rq_url)
    if settings.log_url and settings.log_url != settings.rq_url:
        yield from examine_redis("Redis (logs)", connect(settings.log_url), logs=True)
        yield from examine_redis("Redis (RQ)", rq, logs=False)
    else:
        yield from examine_redis("Redis", rq, logs=True)


def _workers(connection: redis.Redis, here: dict[str, str]) -> Iterator[Finding]:
    try:
        workers = live_workers(connection)
    except StoreUnavailable:
        return  # Said already.
    if not workers:
        yield Finding(WARN, "workers", "none is alive: start one with `python -m worker`")
    for worker in workers:
        queues = " ".join(worker.queues)
        where = f"{worker.name} on {', '.join(worker.queues)} (pid {worker.pid or '?'} at {worker.host or '?'})"
        if not worker.capture:
            advice = f"start it with `rq worker -w worker.Worker {queues}`"
            yield Finding(WARN, "workers", f"{where}: does not capture its jobs' output: {advice}")
        elif odd := _odd(worker, here):
            yield Finding(WARN, "workers", f"{where}: captures ({worker.capture}), with {odd}")
        else:
            yield Finding(OK, "workers", f"{where}: captures ({worker.capture})")
    yield from _differing(workers)


def _odd(worker: WorkerState, here: dict[str, str]) -> str:
    """Return what is wrong with a worker's versions, "" if nothing is."""
    numbers = tuple(int(part) for part in worker.rq.split(".")[:2] if part.isdigit())
    if numbers and numbers < OLDEST_RQ:
        return f"rq {worker.rq}: Tailer's classes need {'.'.join(map(str, OLDEST_RQ))} or newer"
    if worker.version not in {"", here["tailer"]}:
        return f"tailer {worker.version}, here is {here['tailer']}: use one version everywhere"
    major, ours = worker.rq.partition(".")[0], here["rq"].partition(".")[0]
    if major and ours not in {UNKNOWN, major}:
        return f"rq {worker.rq}, here is {here['rq']}: what one enqueues the other may not read"
    return ""


def _differing(workers: Sequence[WorkerState]) -> Iterator[Finding]:
    """Yield a finding for each queue whose workers capture in several ways: a job's log depends on who takes it."""
    modes = Counter((queue, worker.capture) for worker in workers if worker.capture for queue in worker.queues)
    for queue in sorted({queue for queue, _ in modes}):
        here = sorted(mode for name, mode in modes if name == queue and mode)
        if len(here) > 1:
            text = f"those of queue {queue} capture in different ways ({', '.join(here)})"
            yield Finding(WARN, "workers", f"{text}: give all the same TAILER_CAPTURE")
