"""Many HTTP clients in one thread: each follows a log, and may read slowly, stop reading, or leave in its own way."""

from __future__ import annotations

import contextlib
import re
import selectors
import socket
import struct
import threading
import time
from typing import Self
from urllib.parse import urlsplit

from tests.waiting import wait_until

BITE = 2048
"""Bytes that a slow client reads at a time."""


class Client:
    """One connection. `status` and `head` are there once the header has come; `data` is the body without its chunks.

    `ended` is "end" behind the last chunk of a body, or the last byte of one whose length was told, or the end of one
    without either; "cut" if the connection was closed before that.
    """

    def __init__(self, swarm: Swarm, path: str, headers: tuple[str, ...], version: str, buffer: int | None) -> None:
        self._swarm = swarm
        self.path = path
        self.status: int | None = None
        self.head = b""
        self.data = bytearray()
        self.ended: str | None = None
        self.slow = False
        self._raw = bytearray()
        self._chunked = False
        self._length: int | None = None  # what is still to come
        self.socket = socket.socket()
        if buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        try:
            self.socket.connect(swarm.address)
        except OSError:
            self.socket.close()
            raise
        self.socket.setblocking(False)
        lines = [f"GET {path} HTTP/{version}", "Host: localhost", *headers]
        self.socket.send("".join(f"{line}\r\n" for line in [*lines, ""]).encode())

    @property
    def text(self) -> bytes:
        """The body so far."""
        return bytes(self.data)

    def take(self, most: int | None = None) -> None:
        """Read what there is, or so many bytes of it."""
        try:
            piece = self.socket.recv(most or (BITE if self.slow else 1 << 20))
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            whole = self.status and not self._chunked and self._length is None
            self.ended = self.ended or ("end" if whole else "cut")
            self._swarm.drop(self)
            return
        self._raw += piece
        if self.status is None and b"\r\n\r\n" in self._raw:
            self.head, _, self._raw = self._raw.partition(b"\r\n\r\n")
            self.status = int(self.head[9:12])
            self._chunked = b"transfer-encoding: chunked" in self.head.lower()
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", self.head)
            self._length = int(length[1]) if length else None
        if self.status is not None:
            self._unpack()

    def _unpack(self) -> None:
        if not self._chunked:
            self.data += self._raw
            if self._length is not None:
                self._length -= len(self._raw)
                self.ended = "end" if self._length <= 0 else None
            self._raw.clear()
            return
        at = 0
        while match := re.compile(rb"([0-9A-Fa-f]+)\r\n").match(self._raw, at):
            size = int(match[1], 16)
            if len(self._raw) < match.end() + size + 2:
                break
            self.data += self._raw[match.end() : match.end() + size]
            at = match.end() + size + 2
            if not size:
                self.ended = "end"
        del self._raw[:at]

    def stop_reading(self) -> None:
        """Read nothing from now on."""
        self._swarm.forget(self)

    def read_on(self) -> None:
        """Read again."""
        self._swarm.watch(self)

    def leave(self, how: str = "close") -> None:
        """Go away: "close" sends FIN, "reset" RST, "half" only says that nothing more will be sent."""
        with contextlib.suppress(OSError):  # another thread has seen that it has ended
            if how == "half":
                self.socket.shutdown(socket.SHUT_WR)
            elif how == "reset":
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how != "half":
            self._swarm.drop(self)


class Swarm:
    """Clients of one server, read by a thread for as long as the block lasts."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.address = (parts.hostname, parts.port)
        self.clients: list[Client] = []
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._thread.join(10)
        for client in self.clients:
            client.socket.close()
        self._selector.close()

    def open(self, path: str, *headers: str, version: str = "1.1", buffer: int | None = None) -> Client:
        """Send a request; `headers` are whole lines. `buffer` is the size of the client's receive buffer."""
        client = Client(self, path, headers, version, buffer)
        self.clients.append(client)
        self.watch(client)
        return client

    def follow(self, job_id: str, parameters: str = "", *headers: str, **options: object) -> Client:
        """Follow a job's log, and return when the header is there."""
        client = self.open(f"/jobs/{job_id}/log{parameters}", *headers, **options)
        wait_until(lambda: client.status or client.ended, 20, "the header")
        assert client.status == 200, (client.status, client.text)
        return client

    def watch(self, client: Client) -> None:
        """Have the client read."""
        with self._lock, contextlib.suppress(KeyError, ValueError):
            self._selector.register(client.socket, selectors.EVENT_READ, client)

    def forget(self, client: Client) -> None:
        """Have it read no more."""
        with self._lock, contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(client.socket)

    def drop(self, client: Client) -> None:
        """Close its connection."""
        self.forget(client)
        client.socket.close()

    def _run(self) -> None:
        while not self._over:
            ready = self._selector.select(0.05)
            for key, _ in ready:
                key.data.take()
            if ready and all(key.data.slow for key, _ in ready):
                time.sleep(0.001)  # what makes slow ones slow
