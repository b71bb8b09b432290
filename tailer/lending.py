"""Bodies of responses that follow a log, and the client connections that a web server lends for them."""

from __future__ import annotations

import _socket
import errno
import socket
import ssl
from collections.abc import Callable, Generator, Mapping
from typing import Any, Self

from tailer.channel import Pause
from tailer.follower import Follower
from tailer.hub import Hub
from tailer.logs import CURRENT, NOTHING
from tailer.metrics import SENT
from tailer.poller import can_watch

LOOK_S = 2.0
"""How often is looked whether a client that is served by a generator has left, while there is nothing to send."""
TCP_ESTABLISHED = 1
"""The first byte of ``struct tcp_info`` (tcp(7), ``TCP_INFO``) while both sides are there."""
UNSENT = 1 << 17
"""Bytes that the kernel takes ahead of what it can send (``TCP_NOTSENT_LOWAT``): all that a stalled client costs."""
KEEP_ALIVE_S = 30
"""Silence after which the kernel asks whether a client is still there, which one behind a dead network is not."""

Items = Generator[bytes | Pause]


class Body:
    """A response's body for any WSGI server: it yields the bytes, and waits where ``items`` pause.

    Where the server lends the connection, it is handed over to the hub behind the first item, with which the header
    has left. The server is then told that the client has gone, which makes it end the request quietly.
    """

    def __init__(self, items: Items, hub: Hub, environ: Mapping[str, Any], stall_timeout: float) -> None:
        self._items = items
        self._hub = hub
        self._lent = lent(environ) if hub.takes_over and can_watch() else None
        self._chunked = environ.get("SERVER_PROTOCOL") == "HTTP/1.1"
        self._begun = False
        self._current = CURRENT.get()
        self._left = _watch(environ)
        if connection := _connection(environ):
            _bound(connection, stall_timeout)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        """Return the next bytes.

        Raises:
            StopIteration: that was all, or the client has left.
            BrokenPipeError: the hub serves the client from now on.
        """
        CURRENT.set(self._current)
        if self._lent and self._begun:
            self._hand_over(self._lent)
        self._begun = True
        for item in self._items:
            if not isinstance(item, Pause):
                SENT.inc(len(item))
                return item
            if not self._wait(item):
                break
        raise StopIteration

    def _hand_over(self, connection: socket.socket) -> None:
        items, self._items = self._items, _nothing()
        self._hub.take(Follower(take_over(connection), items, chunked=self._chunked))
        raise BrokenPipeError(errno.EPIPE, "the hub serves this client from now on")

    def _wait(self, pause: Pause) -> bool:
        """Wait for the end of the pause; returns whether the client is still there."""
        over = False
        while not over:
            over = pause.wait(LOOK_S)
            if self._left():
                return False
            pause.timeout -= LOOK_S
        return True

    def close(self) -> None:
        """Free the follower, unless the hub has it."""
        self._items.close()
        CURRENT.set(NOTHING)


def _nothing() -> Items:
    yield from ()


def _connection(environ: Mapping[str, Any]) -> socket.socket | None:
    """Return the client's socket, where the server shows it: gunicorn, werkzeug."""
    return environ.get("gunicorn.socket") or environ.get("werkzeug.socket")


def lent(environ: Mapping[str, Any]) -> socket.socket | None:
    """Return the client's socket if the server lends it: gunicorn, without TLS, for a GET of HTTP/1.0 or 1.1."""
    connection: socket.socket | None = environ.get("gunicorn.socket")
    plain = environ.get("SERVER_PROTOCOL") in {"HTTP/1.0", "HTTP/1.1"} and environ.get("REQUEST_METHOD") == "GET"
    return connection if plain and not isinstance(connection, ssl.SSLSocket) else None


def take_over(connection: socket.socket) -> _socket.socket:
    """Return the client's connection as a non-blocking socket of ours; the server's object gets a closed one.

    gunicorn's threads shut down and count whatever they hold. And gevent's loop keeps a descriptor that it has waited
    for: therefore it is this one that stays open, and no copy of it.
    """
    closed, other = socket.socketpair()
    other.close()
    taken = _socket.socket(fileno=connection.detach())
    connection.__init__(fileno=closed.detach())  # type: ignore[misc]
    taken.setblocking(False)
    return taken


def _bound(connection: socket.socket, stall_timeout: float) -> None:
    """Have the kernel give up a client that takes nothing for so long, or is not there (tcp(7)). Linux only."""
    options = (
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", KEEP_ALIVE_S),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", round(stall_timeout * 1000)),
        (socket.IPPROTO_TCP, "TCP_NOTSENT_LOWAT", UNSENT),
    )
    for level, name, value in options:
        try:
            connection.setsockopt(level, getattr(socket, name), value)
        except (AttributeError, OSError):  # not on this system, or not TCP
            continue


def _watch(environ: Mapping[str, Any]) -> Callable[[], bool]:
    """Return what tells whether the client has left: never, where there is no way to know."""
    connection = _connection(environ)
    if connection is None:
        # waitress, if its channel_request_lookahead is set.
        left: Callable[[], bool] = environ.get("waitress.client_disconnected", bool)
        return left

    def has_left() -> bool:
        try:
            return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != TCP_ESTABLISHED
        except (AttributeError, OSError):
            return False

    return has_left
