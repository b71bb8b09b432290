"""A log that belongs to no job: written to see whether writing and following work, and removed."""

from __future__ import annotations

import hashlib
import secrets
from contextlib import suppress
from typing import Self

import redis

from tailer.errors import TailerError
from tailer.records import STDOUT, Attempt, Chunk, End, encode
from tailer.store import Cursor, LogStore, now_ms

QUEUE = "tailer-doctor"
LIFE_S = 120
"""How long the log stays at most, should its writer be killed."""


class ScratchLog:
    """A log of this process's own, in no list of jobs, there for the block. RQ never hears of it.

    All methods raise ``StoreUnavailable`` if Redis cannot be reached or refuses. The end of the block removes the
    log, also after Ctrl-C.
    """

    def __init__(self, connection: redis.Redis) -> None:
        self.job_id = f"doctor-{secrets.token_hex(8)}"
        self._store = LogStore(connection, ttl=LIFE_S, listed=False)
        self._sum = hashlib.sha256()
        self._at = Cursor(1, 0)
        self._lines = 0

    def __enter__(self) -> Self:
        try:
            about = Attempt(now_ms(), 1, self.job_id, worker="tailer doctor", queue=QUEUE, function="tailer.doctor")
            self._store.start(self.job_id, about)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        with suppress(TailerError):  # It ends by its time to live then.
            self._store.delete(self.job_id)

    def line(self, text: str) -> None:
        """Append a line."""
        data = text.encode() + b"\n"
        at, end = self._at, self._at.offset + len(data)
        chunk = Chunk(STDOUT, now_ms(), at.offset, self._lines + 1, 1, False, data)
        self._store.append(self.job_id, at, [encode(chunk)], end=end, lines=self._lines + 1)
        self._sum.update(data)
        self._at, self._lines = Cursor(1, end), self._lines + 1

    def keep_alive(self) -> None:
        """Say that its writer lives; to be repeated at least every 15 s, or followers are told that it was lost."""
        self._store.keep_alive(self.job_id, 1)

    def end(self) -> None:
        """Write the end record of a job that finished well."""
        end = End(
            outcome="finished",
            attempt=1,
            final=True,
            status="finished",
            exit=0,
            bytes=self._at.offset,
            lines=self._lines,
            sha256=self._sum.hexdigest(),
            worker="tailer doctor",
            ended_at=now_ms() / 1000,
        )
        self._store.end(self.job_id, end)
