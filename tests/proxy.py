"""A TCP proxy before a server, of the tests' own: what passes through it can be cut, held up, delayed or swallowed."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from typing import Self
from urllib.parse import urlsplit

PIECE = 1 << 16


class Trap:
    """Waits for a request that holds `wanted`, and resets its connection; `sprung` tells that this has happened.

    The request never reaches the server, or with `answered` it does, and its answer never reaches the client.
    """

    def __init__(self, wanted: bytes, *, answered: bool) -> None:
        self.wanted = wanted
        self.answered = answered
        self.sprung = threading.Event()


class Proxy:
    """Passes on what comes to `url` to the server at another URL, for as long as the block lasts.

    `delay` is how many seconds later each piece is passed on, in either direction; `cuts` counts calls of `cut`. Once
    the server has answered, a connection on which nothing passes for `idle` seconds is closed, as by many proxies.
    """

    def __init__(self, url: str, *, idle: float | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = urlsplit(url)._replace(netloc=f"127.0.0.1:{port}").geturl()
        self.delay = 0.0
        self.idle = idle
        self.cuts = 0
        self._open: set[socket.socket] = set()
        self._passing = threading.Event()
        self._passing.set()
        self._traps: list[Trap] = []
        self._closed = False
        self.lead_to(url)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def lead_to(self, url: str) -> None:
        """Connect those who come from now on to the server at this URL."""
        self._target = ("127.0.0.1", urlsplit(url).port)

    def cut(self, *, reset: bool = False) -> None:
        """Close all connections that there are, with RST instead of FIN if told so."""
        for end in list(self._open):
            _close(end, reset=reset)
        self.cuts += 1

    def hold(self) -> None:
        """Pass nothing on, and close nothing, until `let_go`."""
        self._passing.clear()

    def let_go(self) -> None:
        """Pass on what was held up."""
        self._passing.set()

    def trap(self, wanted: bytes, *, answered: bool) -> Trap:
        """Set a trap for the next request that holds these bytes."""
        self._traps.append(Trap(wanted, answered=answered))
        return self._traps[-1]

    def close(self) -> None:
        """Accept nothing more, and cut what is there."""
        self._closed = True
        self._passing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while not self._closed:
            with contextlib.suppress(OSError):
                client, _ = self._listener.accept()
                self._open.add(client)
                try:
                    server = socket.create_connection(self._target)
                except OSError:
                    _close(client, reset=True)
                    self._open.discard(client)
                    client.close()
                    continue
                self._open.add(server)
                caught, passed = threading.Event(), list[float]()
                for towards_server, source, sink in ((True, client, server), (False, server, client)):
                    threading.Thread(
                        target=self._pass, args=(source, sink, caught, passed, towards_server), daemon=True
                    ).start()

    def _receive(self, source: socket.socket, passed: list[float], towards_server: bool) -> bytes:
        """The next piece; empty at the end, and when nothing has passed in either direction for too long."""
        while self.idle and not select.select([source], [], [], self.idle / 10)[0]:
            if passed and time.monotonic() - passed[0] > self.idle:
                return b""
        if passed or not towards_server:
            passed[:] = [time.monotonic()]
        return source.recv(PIECE)

    def _pass(
        self,
        source: socket.socket,
        sink: socket.socket,
        caught: threading.Event,
        passed: list[float],
        towards_server: bool,
    ) -> None:
        with contextlib.suppress(OSError, ValueError):  # select says ValueError of a socket that was closed meanwhile
            while data := self._receive(source, passed, towards_server):
                trap = next((trap for trap in self._traps if trap.wanted in data), None) if towards_server else None
                if trap:
                    self._traps.remove(trap)
                    trap.sprung.set()
                    caught.set()
                    if not trap.answered:
                        break
                elif caught.is_set() and not towards_server:
                    break  # it has answered, so it has done what it was asked
                if self.delay:
                    time.sleep(self.delay)
                self._passing.wait()
                sink.sendall(data)
        for end in (source, sink):
            _close(end, reset=caught.is_set())
            self._open.discard(end)
            end.close()


def _close(end: socket.socket, *, reset: bool) -> None:
    """End a connection so that the thread that reads from it notices, and closes it: with RST if told so."""
    with contextlib.suppress(OSError):
        if reset:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)  # which sends a FIN, before any RST
