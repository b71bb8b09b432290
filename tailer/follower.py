"""A client whose connection was taken over from the web server: the hub writes to it, and nobody waits for it."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Generator

from tailer.channel import Feed, Pause, frame
from tailer.logs import CURRENT, NOTHING
from tailer.metrics import SENT, STALLED

logger = logging.getLogger(__name__)

TURN = 8 << 20
"""Bytes sent to a follower that is behind before it is the next one's turn: some 12 ms' worth if it takes them at once.
With 1 MiB the changes of turns took a sixth of the time."""
LAST_CHUNK = memoryview(b"0\r\n\r\n")


class Follower:
    """A client's non-blocking socket, the rest of its response, and how far that has got.

    ``body`` yields bytes, and a ``Pause`` whenever there are none. The bytes become HTTP chunks if it is ``chunked``.
    ``unsent`` is what the socket would not take yet, ``busy`` whether a thread drives it just now, ``over`` whether
    nothing comes behind ``unsent``, ``left`` whether the client has gone.
    """

    __slots__ = ("body", "busy", "chunked", "current", "feed", "left", "over", "pause", "send", "socket", "unsent")

    def __init__(self, connection: socket.SocketType, body: Generator[bytes | Pause], *, chunked: bool) -> None:
        self.socket = connection
        self.send = connection.send
        self.body = body
        self.chunked = chunked
        self.pause: Pause | None = None
        self.feed: Feed | None = None
        self.unsent: memoryview | None = None
        self.busy = self.over = self.left = False
        self.current = CURRENT.get()

    def drive(self) -> None:
        """Send what there is, until the client takes no more, or there is a pause, or it is another one's turn.

        An error of the body, other than of the connection, is logged; the client sees that its last chunk is missing.
        """
        sent = 0
        CURRENT.set(self.current)
        self.pause = None
        try:
            while self._flush() and not self.over and sent < TURN:
                item = next(self.body, None)
                if isinstance(item, Pause):
                    self.pause = item
                    return
                if item is None:
                    self.over = True
                    self.unsent = LAST_CHUNK if self.chunked else None
                elif item:
                    sent += len(item)
                    self.unsent = memoryview(frame(item, chunked=self.chunked))
        except OSError as error:
            self.leave(error.errno)
        except Exception:
            self.left = True
            logger.exception("a stream ends early")
        finally:
            SENT.inc(sent)
            CURRENT.set(NOTHING)

    def _flush(self) -> bool:
        """Return whether nothing is left to send."""
        while self.unsent:
            try:
                self.unsent = self.unsent[self.send(self.unsent) :]
            except BlockingIOError:
                return False
        self.unsent = None
        return True

    def leave(self, code: int | None) -> None:
        """Note that the client has gone, with this error of its connection; 0 if it closed it."""
        self.left = True
        if code == errno.ETIMEDOUT:
            STALLED.inc()

    def close(self) -> None:
        """Free all that belongs to it."""
        self.socket.close()
        self.body.close()
