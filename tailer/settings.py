"""All settings, read from the environment once, at the edges of the program; nothing else reads the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from tailer import tokens
from tailer.errors import SettingsError
from tailer.tokens import Token

T = TypeVar("T")

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"
CAPTURE_MODES = ("separate", "merged", "pty")
AUTH_MODES = ("loopback", "none")
LOG_FORMATS = ("text", "json")
REDIS_SCHEMES = ("redis", "rediss", "unix")
SENTINEL = "redis+sentinel://"
CLUSTER = "redis+cluster://"
MAX_PROXIES = 10
SHORTEST_TTL = 60
MAX_TTL = 100 * 365 * 24 * 3600
"""Seconds, a century; with much more Redis's own sums would overflow, and it would refuse every write."""
DAY_S = 86_400
SHORTEST_SECRET = 4
"""Bytes of the shortest secret that is masked in logs. A shorter one would shred them, and hide nothing."""
_DURATION = re.compile(r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?")
UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@dataclass(frozen=True, slots=True)
class Redact:
    """What jobs' logs must not show. ``unset`` are the entries, from 1, that name a variable which has no value."""

    values: tuple[str, ...] = field(default=(), repr=False)
    patterns: tuple[str, ...] = field(default=(), repr=False)
    unset: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What an operator can set. Each field is one environment variable, described in ``docs/operations.md``.

    ``log_url`` is ``None`` where none is set: a worker then writes logs to the Redis that RQ itself uses.
    ``rq_url_given`` tells whether ``rq_url`` was set or is the default. Of ``secret_keys`` the first one signs.
    ``ttl_finished`` and ``ttl_failed`` are ``None`` where ``ttl`` counts; ``ttl_queues`` are patterns of queues' names
    with the time that counts instead of all three. Sizes are bytes, times are seconds.
    """

    log_url: str | None = None
    rq_url: str = DEFAULT_REDIS_URL
    rq_url_given: bool = False
    redis_verify: bool = True
    capture: str = "separate"
    console: bool = True
    ttl: int = 7 * 24 * 3600
    ttl_finished: int | None = None
    ttl_failed: int | None = None
    ttl_queues: tuple[tuple[str, int], ...] = ()
    keep_head: int = 8 << 20
    keep_tail: int = 24 << 20
    max_memory: int = 0
    seal: bool = True
    buffer: int = 8 << 20
    spill: int = 256 << 20
    archive: str | None = None
    archive_after: int = 60
    archive_release: int = DAY_S
    archive_remember: int = 90 * DAY_S
    redact: Redact = Redact()
    heartbeat: float = 15.0
    stall_timeout: float = 300.0
    auth: str = "loopback"
    tokens: tuple[Token, ...] = ()
    secret_keys: tuple[str, ...] = field(default=(), repr=False)
    trusted_proxies: int = 0
    cors_origins: tuple[str, ...] = ()
    max_followers: int = 20_000
    max_followers_each: int = 500
    url: str | None = None
    token: str | None = field(default=None, repr=False)
    log_format: str = "text"
    dyno: bool = False
    demo_keep: bool = False
    colours: bool = True

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read every setting.

        Raises:
            SettingsError: a variable has a value that cannot be used. The message names it and what is allowed.
        """
        rq_url = _first(environ, "RQ_REDIS_URL", "REDIS_URL")
        log_url = _first(environ, "TAILER_REDIS_URL")
        verify = _read(environ, "TAILER_REDIS_VERIFY", cls.redis_verify, switch)
        auth = _read(environ, "TAILER_AUTH", cls.auth, _choice(AUTH_MODES))
        given = _read_secret(environ, "TAILER_TOKENS", cls.tokens, tokens.parse)
        if given and auth == "none":
            raise SettingsError("TAILER_AUTH", auth, "with TAILER_TOKENS nobody reads without a token")
        return cls(
            log_url=redis_url(*log_url, verify=verify) if log_url else None,
            rq_url=redis_url(*rq_url, verify=verify) if rq_url else cls.rq_url,
            rq_url_given=rq_url is not None,
            redis_verify=verify,
            capture=_read(environ, "TAILER_CAPTURE", cls.capture, _choice(CAPTURE_MODES)),
            console=_read(environ, "TAILER_CONSOLE", cls.console, switch),
            ttl=_read(environ, "TAILER_TTL", cls.ttl, ttl),
            ttl_finished=_read(environ, "TAILER_TTL_FINISHED", cls.ttl_finished, ttl),
            ttl_failed=_read(environ, "TAILER_TTL_FAILED", cls.ttl_failed, ttl),
            ttl_queues=_read(environ, "TAILER_TTL_QUEUES", cls.ttl_queues, _ttl_queues),
            keep_head=_read(
                environ, "TAILER_KEEP_HEAD", cls.keep_head, _at_least(0, size, "0 for none, or such as 8MiB")
            ),
            keep_tail=_read(environ, "TAILER_KEEP_TAIL", cls.keep_tail, keep_tail),
            max_memory=_read(environ, "TAILER_MAX_MEMORY", cls.max_memory, _max_memory),
            seal=_read(environ, "TAILER_SEAL", cls.seal, switch),
            buffer=_read(environ, "TAILER_BUFFER", cls.buffer, _at_least(1 << 16, size, "at least 64KiB")),
            spill=_read(environ, "TAILER_SPILL", cls.spill, _at_least(0, size, "0 for none, or such as 256MiB")),
            archive=_read(environ, "TAILER_ARCHIVE", cls.archive, archive_url),
            archive_after=_read(environ, "TAILER_ARCHIVE_AFTER", cls.archive_after, _seconds),
            archive_release=_read(environ, "TAILER_ARCHIVE_RELEASE", cls.archive_release, _seconds),
            archive_remember=_read(environ, "TAILER_ARCHIVE_REMEMBER", cls.archive_remember, _seconds),
            redact=_redact(environ),
            heartbeat=_read(environ, "TAILER_HEARTBEAT", cls.heartbeat, _at_least(1, float, "seconds, at least 1")),
            stall_timeout=_read(environ, "TAILER_STALL_TIMEOUT", cls.stall_timeout, _stall_timeout),
            auth=auth,
            tokens=given,
            secret_keys=_read_secret(environ, "TAILER_SECRET_KEY", cls.secret_keys, _keys),
            trusted_proxies=_read(environ, "TAILER_TRUSTED_PROXIES", cls.trusted_proxies, _proxies),
            cors_origins=_read(environ, "TAILER_CORS_ORIGINS", cls.cors_origins, _origins),
            max_followers=_read(environ, "TAILER_MAX_FOLLOWERS", cls.max_followers, _limit),
            max_followers_each=_read(environ, "TAILER_MAX_FOLLOWERS_EACH", cls.max_followers_each, _limit),
            url=_read(environ, "TAILER_URL", cls.url, web_url),
            token=_read_secret(environ, "TAILER_TOKEN", None, _bearer),
            log_format=log_format(environ),
            dyno=bool(environ.get("DYNO")),
            demo_keep=_read(environ, "DEMO_KEEP", cls.demo_keep, switch),
            colours=not environ.get("NO_COLOR"),
        )


def environment(**changes: str) -> dict[str, str]:
    """Return the environment for a process of ours: this one's, with these variables changed; empty means unset."""
    return {**os.environ, **changes}


def log_format(environ: Mapping[str, str] = os.environ) -> str:
    """Return how processes tell of themselves, before any other setting is read; raises ``SettingsError``."""
    return _read(environ, "TAILER_LOG_FORMAT", Settings.log_format, _choice(LOG_FORMATS))


def metrics_directory() -> str | None:
    """Return where prometheus-client keeps the figures of several web processes, ``None`` if there is one only."""
    return os.environ.get("PROMETHEUS_MULTIPROC_DIR")


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


def _redact(environ: Mapping[str, str]) -> Redact:
    """Read what is to be masked. No message repeats any of it: an entry may be a secret by mistake."""
    name = "TAILER_REDACT"
    values, patterns, unset = list[str](), list[str](), list[int]()
    for number, entry in enumerate((environ.get(name) or "").split(), 1):
        value = entry[1:] if entry.startswith("=") else environ.get(entry, "")
        if pattern := re.fullmatch("/(.+)/", entry):
            patterns.append(pattern[1])
        elif not value and not entry.startswith("="):
            unset.append(number)
        elif len(value.strip().encode(errors="surrogateescape")) < SHORTEST_SECRET:
            raise SettingsError(name, "…", f"what entry {number} stands for must have {SHORTEST_SECRET} bytes or more")
        else:
            values.append(value)
    return Redact(tuple(values), tuple(patterns), tuple(unset))


def _read_secret(environ: Mapping[str, str], name: str, default: T, parse: Callable[[str], T]) -> T:
    """Read as ``_read``, and repeat nothing of a value that cannot be used."""
    try:
        return parse(environ[name]) if environ.get(name) else default
    except ValueError as error:
        raise SettingsError(name, "…", str(error)) from None


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


def _keys(value: str) -> tuple[str, ...]:
    keys = tuple(value.split())
    if not keys or min(map(len, keys)) < tokens.SHORTEST:
        raise ValueError(f"use keys of {tokens.SHORTEST} characters or more with spaces between them, the newest first")
    return keys


def _bearer(value: str) -> str:
    if not tokens.SECRET.fullmatch(value):
        raise ValueError("use the token alone, without its name")
    return value


def _proxies(value: str) -> int:
    number = _at_least(0, whole_number, allowed := f"the number of proxies in front, 0 to {MAX_PROXIES}")(value)
    if number > MAX_PROXIES:
        raise ValueError(f"use {allowed}")
    return number


def _limit(value: str) -> int:
    return _at_least(1, whole_number, "a whole number from 1")(value)


def _origins(value: str) -> tuple[str, ...]:
    origins = tuple(value.split())
    # No "*": with it any page could read what is on this machine.
    if not origins or not all(re.fullmatch(r"https?://[a-z0-9.\-]+(:[0-9]{1,5})?", origin) for origin in origins):
        raise ValueError("use origins such as https://app.example.org, with spaces between them")
    return origins


def ttl(value: str) -> int:
    """Parse a log's time to live: seconds, or such as ``12h`` or ``7d``; raises ``ValueError``."""
    seconds = int(value) if re.fullmatch("[0-9]{1,18}", value) else duration(value)
    if seconds is None or not SHORTEST_TTL <= seconds <= MAX_TTL:
        raise ValueError("use seconds, or such as 12h or 7d; at least 60 s and no more than a century")
    return seconds


def _ttl_queues(value: str) -> tuple[tuple[str, int], ...]:
    pairs = [entry.rpartition("=")[::2] for entry in value.split()]
    if not pairs or not all(name for name, _ in pairs):
        raise ValueError("use QUEUE=TIME pairs with spaces between them, such as mail=1h low-*=10m")
    return tuple((name, ttl(time)) for name, time in pairs)


def keep_head(value: str) -> int:
    """Parse how much of the beginning of a log is kept; raises ``ValueError``."""
    return _at_least(0, size, "0 for none, or such as 8MiB")(value)


def keep_tail(value: str) -> int:
    """Parse how much of the end of a log is kept; raises ``ValueError``."""
    return _at_least(1 << 16, size, "at least 64KiB")(value)


def _max_memory(value: str) -> int:
    number = _at_least(0, size, allowed := "0 for no limit, or at least 1MiB, such as 2GiB")(value)
    if 0 < number < UNITS["MiB"]:
        raise ValueError(f"use {allowed}")
    return number


def _seconds(value: str) -> int:
    seconds = _at_least(0, whole_number, allowed := "seconds, no more than a century")(value)
    if seconds > MAX_TTL:
        raise ValueError(f"use {allowed}")
    return seconds


def archive_url(value: str) -> str:
    """Return the URL of an archive without a slash at its end; raises ``ValueError``."""
    parts = urlsplit(value)
    where = parts.path.strip("/") if parts.scheme == "file" and not parts.netloc else parts.netloc
    if parts.scheme not in {"file", "s3"} or not where or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("use file:///FOLDER, s3://BUCKET or s3://BUCKET/PREFIX")
    if parts.scheme == "file" and parts.netloc:
        raise ValueError("use file:///FOLDER, with three slashes")
    return value.rstrip("/")


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


def duration(value: str) -> int | None:
    """Return the seconds of a duration such as ``10m`` or ``1h30m``; ``None`` if it is none."""
    match = _DURATION.fullmatch(value)
    if not match or not any(match.groups()):
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


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
    if not match:
        raise ValueError("use redis+sentinel://HOST:PORT,HOST:PORT/NAME/DB")
    return _places(match[3], 26379), unquote(match[4]), {"db": int(match[5] or 0), **_credentials(match)}


def cluster_url(url: str) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    """Read ``redis+cluster://[[USER]:PASSWORD@]HOST:PORT[,HOST:PORT...]``; raises ``ValueError``.

    Returns where some nodes are, and redis-py's arguments for all of them.
    """
    match = re.fullmatch(r"(?:([^:@/]*):([^@/]*)@)?([^@/]+)/?", url.removeprefix(CLUSTER))
    if not match:
        raise ValueError("use redis+cluster://HOST:PORT,HOST:PORT")
    return _places(match[3], 6379), _credentials(match)


def _places(hosts: str, port: int) -> list[tuple[str, int]]:
    places = [re.fullmatch(r"([^:?#]+)(?::([0-9]{1,5}))?", host) for host in hosts.split(",")]
    if not all(places):
        raise ValueError("use HOST:PORT,HOST:PORT")
    return [(place[1], int(place[2] or port)) for place in places if place]


def _credentials(match: re.Match[str]) -> dict[str, str | None]:
    return {"username": unquote(match[1] or "") or None, "password": unquote(match[2] or "") or None}


def redis_url(variable: str, value: str, *, verify: bool = True) -> str:
    """Return ``value`` if it is a Redis URL that Tailer can use, else raise ``SettingsError`` for ``variable``.

    Without ``verify``, a ``rediss://`` URL that does not itself say whether the server's certificate is looked at gets
    the option by which it is not.
    """
    import redis  # noqa: PLC0415 (gunicorn's own process reads settings before gevent has patched what this imports)

    allowed = "use redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///PATH, with redis-py's options behind a ?"
    if variable == "TAILER_REDIS_URL":
        allowed += f"; or {SENTINEL}HOST:PORT,HOST:PORT/NAME/DB, or {CLUSTER}HOST:PORT,HOST:PORT"
    try:
        if variable == "TAILER_REDIS_URL" and value.startswith(SENTINEL):
            sentinel_url(value)
            return value
        if variable == "TAILER_REDIS_URL" and value.startswith(CLUSTER):
            cluster_url(value)
            return value
        parts = urlsplit(value)
        where = parts.path if parts.scheme == "unix" else parts.hostname
        usable = bool(where) and parts.scheme in REDIS_SCHEMES
        # redis-py takes any other path for database 0.
        usable = usable and (parts.scheme == "unix" or bool(re.fullmatch("/?[0-9]{0,9}", parts.path)))
        # What redis-py does not know, it would refuse at the first connection only; this makes none.
        redis.ConnectionPool.from_url(value).make_connection()
        if not verify and parts.scheme == "rediss" and "ssl_cert_reqs" not in parse_qs(parts.query):
            value += ("&" if parts.query else "?") + "ssl_cert_reqs=none"
    except (ValueError, TypeError, redis.RedisError):
        usable = False
    if not usable:
        # A URL may hold a password, so no more than its scheme is repeated.
        scheme, separator, _ = value.partition("://")
        raise SettingsError(
            variable, f"{scheme}://…" if separator and scheme.replace("+", "").isalnum() else "…", allowed
        )
    return value
