"""A subscription to the wake-ups of logs."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import hiredis
import redis

from tailer.cluster import Cluster
from tailer.errors import StoreUnavailable
from tailer.store import redis_errors

PING_S = 5.0
"""How often Redis is asked for a sign of life; it keeps silent otherwise as long as nothing is told."""
SILENT_S = 15.0
"""Silence after which it counts as gone."""
READ = 1 << 18


class WakeUps:
    """A connection of its own, which redis-py sets up and hiredis reads: redis-py's ``PubSub`` takes 10 µs a message.

    All methods raise ``StoreUnavailable``.
    """

    def __init__(self, connection: redis.Redis) -> None:
        self._connection: Any
        with redis_errors():
            if isinstance(connection, Cluster):
                self._connection = connection.connected()
            else:
                pool = connection.connection_pool
                self._connection = pool.connection_class(**pool.connection_kwargs)
                self._connection.connect()
        self._socket = self._connection._sock  # noqa: SLF001 (the only way to its bytes)
        self._reader = hiredis.Reader()
        self._heard = self._asked = time.monotonic()
        self.fd: int = self._socket.fileno()

    def subscribe(self, channels: Iterable[str]) -> None:
        """Ask for these."""
        self._send("SUBSCRIBE", *channels)

    def unsubscribe(self, channels: Iterable[str]) -> None:
        """Ask for these no longer."""
        self._send("UNSUBSCRIBE", *channels)

    def _send(self, *words: str) -> None:
        with redis_errors():
            self._connection.send_command(*words, check_health=False)

    def read(self) -> list[Any]:
        """Return what has come, once there is something to read: lists such as ``[b"message", channel, data]``."""
        data = self._receive()
        while pending := getattr(self._socket, "pending", int)():  # TLS has taken more from the socket already
            data += self._socket.recv(pending)
        self._heard = time.monotonic()
        self._reader.feed(data)
        messages = []
        while (message := self._reader.gets()) is not False:
            if isinstance(message, Exception):
                raise StoreUnavailable(f"Redis: {message}")
            messages.append(message)
        return messages

    def _receive(self) -> bytes:
        try:
            data: bytes = self._socket.recv(READ)
        except OSError as error:
            raise StoreUnavailable(f"Redis: {error}") from error
        if not data:
            raise StoreUnavailable("Redis: it closed the connection")
        return data

    def check(self) -> None:
        """See now and then whether Redis is still there."""
        now = time.monotonic()
        if now - self._heard > SILENT_S:
            raise StoreUnavailable("Redis: it does not answer")
        if now - max(self._heard, self._asked) > PING_S:
            self._asked = now
            self._send("PING")

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()
