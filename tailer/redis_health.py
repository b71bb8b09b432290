"""Looks at a Redis: whether it suits RQ and logs, and what is lost when it is full, restarts or fails."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import redis

from tailer.cluster import Cluster
from tailer.errors import StoreUnavailable
from tailer.findings import FAIL, OK, SKIP, WARN, Finding
from tailer.scratch import ScratchLog
from tailer.store import redis_errors

OLDEST = (6, 2)
PINGS = 50
APPENDS = 20
SLOW_MS = 10.0
"""Round trips that take longer make every line arrive late, and a worker ship more slowly than a job may print."""
SKEW_S = 1.0
"""Clocks that differ by more put lines at the wrong time, and wait for or miss what ``since=`` asks for."""
FULL = 0.9
"""Of its memory, or its clients, that a Redis may have in use."""
SMALL_BUFFER = 1 << 20
"""Bytes: batches of wake-ups of busy jobs are larger, and a client that exceeds the limit is disconnected."""
MIB = 1 << 20
HARM = "times of lines, `since=`, the life of links and the measured delay are wrong by that: run NTP on all machines"


def examine_redis(subject: str, connection: redis.Redis, *, logs: bool) -> Iterator[Finding]:
    """Yield what there is to say of a Redis; of each master of a cluster. ``logs`` are to be written to it.

    Writes a log of its own, and removes it.
    """
    try:
        for named, server in _servers(subject, connection):
            with redis_errors():
                server.ping()
            yield from _configured(named, server)
            yield _latency(named, server)
            yield from _clock(named, server)
    except StoreUnavailable as error:
        where = "start it, or set REDIS_URL (TAILER_REDIS_URL for logs elsewhere)"
        yield Finding(FAIL, subject, f"{error}; {where}")
        return
    if logs:
        yield _writes(subject, connection)


def _servers(subject: str, connection: redis.Redis) -> list[tuple[str, redis.Redis]]:
    if not isinstance(connection, Cluster):
        return [(subject, connection)]
    with redis_errors():
        return [(f"Redis (logs, {place})", server) for place, server in connection.servers().items()]


def _configured(subject: str, connection: redis.Redis) -> Iterator[Finding]:
    """Yield what INFO and CONFIG tell, as far as they are allowed: those who host a Redis for others forbid parts."""
    info: Any = _allowed(connection.info)
    if info is None:
        text = "INFO is not allowed here: version, memory, persistence and role are not known"
        yield Finding(SKIP, subject, text)
        info = {}
    config: Any = _allowed(lambda: connection.config_get("*"))
    if config is None:
        yield Finding(SKIP, subject, "CONFIG is not allowed here: snapshots and buffer limits are not known")
    parts: tuple[tuple[str, Callable[[str, dict[str, Any], dict[str, str]], Finding | None]], ...] = (
        ("redis_version", _version),
        ("role", _role),
        ("maxmemory_policy", _eviction),
        ("used_memory", _room),
        ("aof_enabled", _persistence),
        ("maxclients", _clients),
    )
    for needed, look in parts:
        if needed in info and (finding := look(subject, info, config or {})):
            yield finding
    if limit := _buffer_limit(subject, config or {}):
        yield limit


def _allowed(ask: Callable[[], Any]) -> Any:
    """Return the answer, ``None`` if this server, or this user, does not give it."""
    with redis_errors():
        try:
            return ask()
        except redis.ResponseError:
            return None


def _version(subject: str, info: dict[str, Any], _config: dict[str, str]) -> Finding:
    told = str(info["redis_version"])
    name = f"Valkey {info['valkey_version']} (as Redis {told})" if "valkey_version" in info else f"Redis {told}"
    numbers = tuple(int(part) for part in told.split(".")[:2] if part.isdigit())
    if numbers < OLDEST:
        return Finding(FAIL, subject, f"{name}: Tailer needs Redis 6.2 or newer, or Valkey")
    return Finding(OK, subject, name)


def _role(subject: str, info: dict[str, Any], _config: dict[str, str]) -> Finding | None:
    if info["role"] != "slave":
        return None
    primary = f"{info.get('master_host')}:{info.get('master_port')}"
    if int(info.get("slave_read_only", 1)):
        return Finding(FAIL, subject, f"is a replica of {primary} and takes no writes: name its primary in the URL")
    return Finding(WARN, subject, f"is a replica of {primary}: what is written here is lost when it next synchronises")


def _eviction(subject: str, info: dict[str, Any], _config: dict[str, str]) -> Finding:
    policy, limit = str(info["maxmemory_policy"]), int(info.get("maxmemory", 0))
    room = f"maxmemory {limit // MIB} MiB" if limit else "no maxmemory"
    if policy.startswith("allkeys-"):
        advice = "evicts logs and RQ's own jobs and queues when memory is short: use noeviction or volatile-ttl"
        return Finding(WARN, subject, f"maxmemory-policy {policy} {advice}")
    if limit and policy.startswith("volatile-"):
        which = "those that end first" if policy == "volatile-ttl" else "any of them"
        lost = f"logs, and jobs that RQ is done with, are evicted before their time when it is full, {which}"
        return Finding(OK, subject, f"{room}, policy {policy}: {lost}")
    return Finding(OK, subject, f"{room}, policy {policy}")


def _room(subject: str, info: dict[str, Any], _config: dict[str, str]) -> Finding | None:
    limit, used = int(info.get("maxmemory", 0)), int(info["used_memory"])
    if not limit or used < FULL * limit:
        return None
    refuses = str(info.get("maxmemory_policy", "")) == "noeviction"
    then = "refuses writes, and neither jobs nor logs get in" if refuses else "evicts"
    return Finding(
        WARN,
        subject,
        f"{used / MIB:.1f} MiB of maxmemory {limit / MIB:.1f} MiB are in use, and a full one {then}: "
        "raise maxmemory, lower TAILER_TTL, or give logs a Redis of their own (TAILER_REDIS_URL)",
    )


def _persistence(subject: str, info: dict[str, Any], config: dict[str, str]) -> Finding:
    if info.get("rdb_last_bgsave_status", "ok") != "ok" or info.get("aof_last_write_status", "ok") != "ok":
        return Finding(
            FAIL, subject, "could not save to its disk, and may refuse all writes: see its log, its disk and its rights"
        )
    if int(info["aof_enabled"]):
        how = config.get("appendfsync", "everysec")
        lost = {"always": "nothing", "everysec": "a second", "no": "what the system has not written yet"}.get(how, how)
        return Finding(OK, subject, f"append-only file, appendfsync {how}: a crash loses {lost}, which workers resend")
    if config.get("save"):
        ago = max(0, int(time.time()) - int(info.get("rdb_last_save_time", 0)))
        advice = "appendonly yes loses a second at most"
        return Finding(OK, subject, f"snapshots, the last one {ago} s ago: a crash loses what came since; {advice}")
    if "save" in config:
        lost = "a restart loses all logs, and RQ's jobs if they are in it"
        return Finding(WARN, subject, f"keeps nothing on disk: {lost}; set appendonly yes")
    return Finding(SKIP, subject, "no append-only file; whether there are snapshots is not known")


def _clients(subject: str, info: dict[str, Any], _config: dict[str, str]) -> Finding | None:
    used, limit = int(info.get("connected_clients", 0)), int(info["maxclients"])
    if used < FULL * limit:
        return None
    needs = "a worker needs two connections while a job runs, a web process up to 33: raise maxclients"
    return Finding(WARN, subject, f"{used} of maxclients {limit} are connected; {needs}")


def _buffer_limit(subject: str, config: dict[str, str]) -> Finding | None:
    words = config.get("client-output-buffer-limit", "").split()
    if "pubsub" not in words:
        return None
    hard = int(words[words.index("pubsub") + 1])
    if not 0 < hard < SMALL_BUFFER:
        return None
    advice = "web processes are disconnected under load, and read everything again: use 32mb 8mb 60"
    return Finding(WARN, subject, f"client-output-buffer-limit pubsub is {hard} bytes: {advice}")


def _latency(subject: str, connection: redis.Redis) -> Finding:
    with redis_errors():
        median, worst = _timed(connection.ping, PINGS)
    text = f"{median:.2f} ms a round trip (median of {PINGS}; p99 {worst:.2f} ms)"
    if median > SLOW_MS:
        return Finding(WARN, subject, f"{text}: run workers and web side nearer to it")
    return Finding(OK, subject, text)


def _timed(act: Callable[[], object], times: int) -> tuple[float, float]:
    """Return median and 99th percentile in milliseconds."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took), statistics.quantiles(took, n=100, method="inclusive")[98]


def _clock(subject: str, connection: redis.Redis) -> Iterator[Finding]:
    before = time.time()
    told: Any = _allowed(connection.time)
    if told is None:
        return
    ahead = told[0] + told[1] / 1e6 - (before + time.time()) / 2
    yield clock(subject, ahead)


def clock(subject: str, ahead: float, exact: float = 0.0) -> Finding:
    """Return the finding for a clock that is ``ahead`` of this machine's, in seconds, known but for ``exact``."""
    if abs(ahead) <= SKEW_S + exact:
        return Finding(
            OK, subject, f"its clock agrees with this machine's within {max(abs(ahead), exact, 0.001):.3g} s"
        )
    way = "ahead of" if ahead > 0 else "behind"
    return Finding(WARN, subject, f"its clock is {abs(ahead):.1f} s {way} this machine's: {HARM}")


def _writes(subject: str, connection: redis.Redis) -> Finding:
    try:
        with ScratchLog(connection) as log:
            median, worst = _timed(lambda: log.line("a line of tailer doctor"), APPENDS)
            log.end()
    except StoreUnavailable as error:
        needs = "Tailer needs EVALSHA, EVAL, PUBLISH, and its keys and channels, tailer:*"
        return Finding(FAIL, subject, f"does not take a log: {error}; {needs}")
    text = f"{median:.2f} ms to append to a log (median of {APPENDS}; p99 {worst:.2f} ms)"
    return Finding(WARN if median > 2 * SLOW_MS else OK, subject, text)
