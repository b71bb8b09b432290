"""The body of a response that streams one log, in any format."""

from __future__ import annotations

import errno
import logging
from collections.abc import Generator
from contextlib import closing
from typing import TypeVar

from tailer.channel import Pause
from tailer.compression import Packer
from tailer.errors import ServerStopping, Unauthorized
from tailer.follow import Final
from tailer.formats import SSE, Encoder
from tailer.lending import Items
from tailer.many_logs import Problem
from tailer.metrics import ENDED, LEFT, OVER, why
from tailer.store import Cursor

T = TypeVar("T")
Told = TypeVar("Told")
logger = logging.getLogger(__name__)

EXPECTED = (ServerStopping, Unauthorized)
"""What ends streams without being a fault."""


def stream(
    encoder: Encoder[Told],
    events: Generator[tuple[Told, Cursor] | Pause],
    problem: Problem,
    *,
    packer: Packer | None = None,
    hold: float = 0,
    prefix: bytes = b"",
) -> Items:
    """Yield a response's body, with the pauses of ``events``. Touches no request: all it needs is passed in.

    ``problem`` tells of an error; ``packer`` compresses the body; ``hold`` is for how many seconds a finished event
    stream stays open; ``prefix`` is what it begins with.

    What becomes of an error behind the first byte: see ``guarded``.
    """
    yield encoder.begin() + prefix  # Headers leave with the first item, be it empty.
    tells = encoder.content_type == SSE.content_type
    is_over = yield from guarded(_encoded(encoder, events, packer), problem, events=tells)
    if is_over and tells and hold:
        yield Pause(hold)


def _encoded(
    encoder: Encoder[Told], events: Generator[tuple[Told, Cursor] | Pause], packer: Packer | None
) -> Generator[bytes | Pause, None, bool]:
    """Yield the body; returns whether the log is over."""
    over = False
    with closing(events):
        for item in events:
            if isinstance(item, Pause):
                # What is compressed for one client is of no use to another.
                item.encoder = None if packer else encoder
                yield item
                continue
            event, cursor = item
            over = isinstance(event, Final)
            if data := encoder.encode(event, cursor):
                yield packer.pack(data, event) if packer else data
    if packer:
        yield packer.end()
    return over


def guarded(
    items: Generator[bytes | Pause, None, T], problem: Problem, *, events: bool, before: bytes = b""
) -> Generator[bytes | Pause, None, T | None]:
    """Yield ``items``, return what they return, and count how that ended.

    An error among them ends the response as its format can tell: by an ``error`` event for server-sent ``events``,
    behind ``before``. Every other format can only be cut short: the error goes on to the server, which closes the
    connection without the last HTTP chunk.
    """
    reason = LEFT
    try:
        with closing(items):
            result = yield from items
    except Exception as error:
        reason = why(error)
        if events:
            if not isinstance(error, EXPECTED):
                logger.exception("a stream of server-sent events ends early")
            yield before + SSE.error(problem(error))
        elif isinstance(error, EXPECTED):
            # As if the client had broken the connection: servers then close it quietly.
            raise ConnectionResetError(errno.ECONNRESET, str(error)) from None
        else:
            raise
    else:
        reason = OVER
        return result
    finally:
        ENDED.labels(reason).inc()
    return None
