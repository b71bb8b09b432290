"""All settings, read from the environment once, at the edges of the program; nothing else reads the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import redis

from tailer.errors import SettingsError

T = TypeVar("T")

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"
CAPTURE_MODES = ("separate", "merged", "pty")
AUTH_MODES = ("loopback", "none")
REDIS_SCHEMES = ("redis", "rediss", "unix")
SENTINEL = "redis+sentinel://"
MAX_TTL = 100 * 365 * 24 * 3600
"""Seconds, a century; with much more Redis's own sums would overflow, and it would refuse every write."""
DAY_S = 86_400
UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What an operator can set. Each field is one environment variable, described in ``docs/operations.md``.

    ``log_url`` is ``None`` where none is set: a worker then writes logs to the Redis that RQ itself uses.
    ``rq_url_given`` tells whether ``rq_url`` was set or is the default. Sizes are bytes, times are seconds.
    """

    log_url: str | None = None
    rq_url: str = DEFAULT_REDIS_URL
    rq_url_given: bool = False
    capture: str = "separate"
    console: bool = True
    ttl: int = 7 * 24 * 3600
    buffer: int = 8 << 20
    spill: int = 256 << 20
    heartbeat: float = 15.0
    stall_timeout: float = 300.0
    auth: str = "loopback"
    url: str | None = None
    dyno: bool = False
    demo_keep: bool = False

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read every setting.

        Raises:
            SettingsError: a variable has a value that cannot be used. The message names it and what is allowed.
        """
        rq_url = _first(environ, "RQ_REDIS_URL", "REDIS_URL")
        log_url = _first(environ, "TAILER_REDIS_URL")
        return cls(
            log_url=redis_url(*log_url) if log_url else None,
            rq_url=redis_url(*rq_url) if rq_url else cls.rq_url,
            rq_url_given=rq_url is not None,
            capture=_read(environ, "TAILER_CAPTURE", cls.capture, _choice(CAPTURE_MODES)),
            console=_read(environ, "TAILER_CONSOLE", cls.console, switch),
            ttl=_read(environ, "TAILER_TTL", cls.ttl, _ttl),
            buffer=_read(environ, "TAILER_BUFFER", cls.buffer, _at_least(1 << 16, size, "at least 64KiB")),
            spill=_read(environ, "TAILER_SPILL", cls.spill, _at_least(0, size, "0 for none, or such as 256MiB")),
            heartbeat=_read(environ, "TAILER_HEARTBEAT", cls.heartbeat, _at_least(1, float, "seconds, at least 1")),
            stall_timeout=_read(environ, "TAILER_STALL_TIMEOUT", cls.stall_timeout, _stall_timeout),
            auth=_read(environ, "TAILER_AUTH", cls.auth, _choice(AUTH_MODES)),
            url=_read(environ, "TAILER_URL", cls.url, web_url),
            dyno=bool(environ.get("DYNO")),
            demo_keep=_read(environ, "DEMO_KEEP", cls.demo_keep, switch),
        )


def environment(**changes: str) -> dict[str, str]:
    """Return the environment for a process of ours: this one's, with these variables changed; empty means unset."""
    return {**os.environ, **changes}


def _first(environ: Mapping[str, str], *names: str) -> tuple[str, str] | None:
    """Return the first of these variables that is set and not empty, with its name."""
    return next(((name, environ[name]) for name in names if environ.get(name)), None)


def _read(environ: Mapping[str, str], name: str, default: T, parse: Callable[[str], T]) -> T:
    value = environ.get(name)
    if not value:
        return default
    try:
        return parse(value)
    except ValueError as error:
        raise SettingsError(name, value, str(error)) from None


def _choice(allowed: tuple[str, ...]) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in allowed:
            raise ValueError("use one of " + ", ".join(allowed))
        return value

    return parse


def _at_least(least: float, parse: Callable[[str], T], allowed: str) -> Callable[[str], T]:
    def checked(value: str) -> T:
        try:
            number = parse(value)
        except ValueError:
            raise ValueError(f"use {allowed}") from None
        # The negated comparison also refuses "nan".
        if not number >= least or number == float("inf"):  # type: ignore[operator]
            raise ValueError(f"use {allowed}")
        return number

    return checked


def _ttl(value: str) -> int:
    seconds = _at_least(60, whole_number, allowed := "seconds, at least 60 and no more than a century")(value)
    if seconds > MAX_TTL:
        raise ValueError(f"use {allowed}")
    return seconds


def _stall_timeout(value: str) -> float:
    seconds = _at_least(1, float, allowed := "seconds, from 1 to 86400")(value)
    if seconds > DAY_S:
        raise ValueError(f"use {allowed}")
    return seconds


def switch(value: str) -> bool:
    """Parse ``1``/``0`` and the usual words for them; raises ``ValueError`` naming them."""
    word = value.strip().lower()
    if word in {"1", "true", "yes", "on"}:
        return True
    if word in {"0", "false", "no", "off"}:
        return False
    raise ValueError("use 1 or 0")


def whole_number(value: str) -> int:
    """Parse ASCII digits only; ``int()`` would also take ``1_000``, `` 7`` and other scripts' digits."""
    if not re.fullmatch(r"[0-9]{1,18}", value):
        raise ValueError("use a whole number")
    return int(value)


def size(value: str) -> int:
    """Parse bytes: ``8388608``, ``8MiB``, ``1GiB``; raises ``ValueError``."""
    match = re.fullmatch(r"([0-9]{1,15})\s*(B|KiB|MiB|GiB)?", value)
    if not match:
        raise ValueError("use a number of bytes, or such as 8MiB")
    return int(match[1]) * UNITS[match[2] or ""]


def web_url(value: str) -> str:
    """Return the URL of Tailer's web side without a slash at its end; raises ``ValueError``."""
    allowed = "use http://HOST:PORT or https://HOST"
    try:
        parts = urlsplit(value)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.query and not parts.fragment
        _ = parts.port
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(allowed)
    return value.rstrip("/")


def sentinel_url(url: str) -> tuple[list[tuple[str, int]], str, dict[str, Any]]:
    """Read ``redis+sentinel://[[USER]:PASSWORD@]HOST:PORT[,HOST:PORT...]/NAME[/DB]``; raises ``ValueError``.

    Returns where the sentinels are, the name by which they know the master, and redis-py's arguments for that one.
    """
    match = re.fullmatch(r"(?:([^:@/]*):([^@/]*)@)?([^@/]+)/([^/]+)(?:/([0-9]{1,9}))?", url.removeprefix(SENTINEL))
    sentinels = [re.fullmatch(r"([^:]+)(?::([0-9]{1,5}))?", host) for host in match[3].split(",")] if match else []
    if not match or not all(sentinels):
        raise ValueError("use redis+sentinel://HOST:PORT,HOST:PORT/NAME/DB")
    told = {"username": unquote(match[1] or "") or None, "password": unquote(match[2] or "") or None}
    places = [(one[1], int(one[2] or 26379)) for one in sentinels if one]
    return places, unquote(match[4]), {"db": int(match[5] or 0), **told}


def redis_url(variable: str, value: str) -> str:
    """Return ``value`` if it is a Redis URL that Tailer can use, else raise ``SettingsError`` for ``variable``."""
    allowed = "use redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///PATH, with redis-py's options behind a ?"
    if variable == "TAILER_REDIS_URL":
        allowed += f"; or {SENTINEL}HOST:PORT,HOST:PORT/NAME/DB"
    try:
        if variable == "TAILER_REDIS_URL" and value.startswith(SENTINEL):
            sentinel_url(value)
            return value
        parts = urlsplit(value)
        where = parts.path if parts.scheme == "unix" else parts.hostname
        usable = bool(where) and parts.scheme in REDIS_SCHEMES
        # redis-py takes any other path for database 0.
        usable = usable and (parts.scheme == "unix" or bool(re.fullmatch("/?[0-9]{0,9}", parts.path)))
        # What redis-py does not know, it would refuse at the first connection only; this makes none.
        redis.ConnectionPool.from_url(value).make_connection()
    except (ValueError, TypeError, redis.RedisError):
        usable = False
    if not usable:
        # A URL may hold a password, so no more than its scheme is repeated.
        scheme, separator, _ = value.partition("://")
        raise SettingsError(
            variable, f"{scheme}://…" if separator and scheme.replace("+", "").isalnum() else "…", allowed
        )
    return value
