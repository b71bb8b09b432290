"""How Tailer connects to Redis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from tailer.cluster import Cluster
from tailer.errors import CorruptRecord, StoreUnavailable, UntrustedRedis
from tailer.settings import CLUSTER, SENTINEL, cluster_url, sentinel_url

MAX_CONNECTIONS = 32
"""Connections of one process to one Redis. More callers than that take turns; redis-py's other pool would fail them."""
TURN_S = 30.0
"""How long a caller waits for its turn: thousands of clients that come at once take some seconds, in no fair order."""


def connect(url: str, *, timeout: float = 5.0) -> redis.Redis:
    """Return a client with explicit timeouts (seconds) and without redis-py's own retries.

    redis-py repeats a command whose answer did not come, up to ten times, which appends twice what is not safe to
    repeat and keeps a caller waiting for a minute. Tailer repeats by itself, where it knows that it may.
    """
    options: dict[str, Any] = {
        "max_connections": MAX_CONNECTIONS,
        "timeout": TURN_S,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "health_check_interval": 30,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
    }
    if not url.startswith("unix:"):
        options["socket_keepalive"] = True
    if url.startswith(CLUSTER):
        places, credentials = cluster_url(url)
        return Cluster(places, {**credentials, **options})
    if url.startswith(SENTINEL):
        return redis.Redis(connection_pool=_found_by_sentinels(url, options))
    return redis.Redis(connection_pool=redis.BlockingConnectionPool.from_url(url, **options))


class _SentinelPool(SentinelConnectionPool, redis.BlockingConnectionPool):
    """Connections to whichever server the sentinels name as the master when they are opened."""


def _found_by_sentinels(url: str, options: dict[str, Any]) -> _SentinelPool:
    sentinels, name, credentials = sentinel_url(url)
    asked = {key: options[key] for key in ("socket_timeout", "socket_connect_timeout", "retry")}
    manager = Sentinel(sentinels, sentinel_kwargs=asked)  # type: ignore[no-untyped-call]
    return _SentinelPool(name, manager, **credentials, **options)  # type: ignore[no-untyped-call]


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turn redis-py's errors into ``StoreUnavailable``, with Redis's own words.

    A key of the wrong type becomes ``CorruptRecord``: it would not help to wait. Nor would it with a certificate that
    is not trusted, ``UntrustedRedis``.
    """
    try:
        yield
    except redis.RedisError as error:
        if "WRONGTYPE Operation" in str(error):
            raise CorruptRecord(f"Redis: {error}") from error
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise UntrustedRedis(str(error)) from error
        raise StoreUnavailable(f"Redis: {error}" if str(error) else f"Redis: {type(error).__name__}") from error
