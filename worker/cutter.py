"""Cuts a job's output into chunks. Pure: knows no pipe, no clock and no Redis."""

from __future__ import annotations

import hashlib
from collections import deque

from tailer.records import MAX_CHUNK, Chunk

UTF8_CONTINUATION = 0b1000_0000
"""Top two bits of every byte of a character but its first (RFC 3629, section 3)."""


class Cutter:
    """Takes output as it comes, hands it out as chunks of at most ``MAX_CHUNK`` bytes that end with a line if they can.

    Order is that of arrival, across both streams. ``offset``, ``lines`` and ``sha256`` are those of all that was
    handed out; ``size`` bytes are held, the first of them since ``since`` (ms); ``whole_line`` says whether a
    newline is among them.
    """

    def __init__(self, offset: int = 0, lines: int = 0) -> None:
        self.offset = offset
        self.lines = lines
        self.midline = False
        self.size = 0
        self.since: int | None = None
        self.whole_line = False
        self._hash = hashlib.sha256()
        self._parts: deque[tuple[str, int, bytes]] = deque()

    @property
    def sha256(self) -> str:
        """Checksum of all that was handed out, in order."""
        return self._hash.hexdigest()

    def feed(self, stream: str, data: bytes, now: int) -> None:
        """Add ``data``, read at ``now`` (ms)."""
        if self.since is None:
            self.since = now
        self.whole_line = self.whole_line or b"\n" in data
        self.size += len(data)
        self._parts.append((stream, now, data))

    def cut(self, *, partial: bool) -> list[Chunk]:
        """Hand out what is held. Without ``partial`` an unfinished line at the very end stays, to be finished."""
        chunks: list[Chunk] = []
        self.whole_line = False
        while self._parts:
            stream, time, data = self._joined()
            last = not self._parts
            stop = 0
            while stop < len(data):
                start, stop = stop, _cut_at(data, stop)
                if last and stop == len(data) and not partial and not data.endswith(b"\n"):
                    whole = data.rfind(b"\n", start, stop) + 1
                    rest = data[max(whole, start) :]
                    if whole > start:
                        chunks.append(self._chunk(stream, time, data[start:whole]))
                    self._hold(stream, time, rest)
                    return chunks
                chunks.append(self._chunk(stream, time, data[start:stop]))
        self.size, self.since = 0, None
        return chunks

    def _joined(self) -> tuple[str, int, bytes]:
        """Take the first part and those behind it of the same stream, as one."""
        stream, time, data = self._parts.popleft()
        if not self._parts or self._parts[0][0] != stream:
            return stream, time, data
        parts = [data]
        while self._parts and self._parts[0][0] == stream:
            parts.append(self._parts.popleft()[2])
        return stream, time, b"".join(parts)

    def _hold(self, stream: str, time: int, rest: bytes) -> None:
        self._parts.append((stream, time, rest))
        self.size, self.since = len(rest), time

    def _chunk(self, stream: str, time: int, data: bytes) -> Chunk:
        lines = data.count(b"\n")
        chunk = Chunk(stream, time, self.offset, self.lines + 1, lines, self.midline, data)
        self._hash.update(data)
        self.offset += len(data)
        self.lines += lines
        self.midline = not data.endswith(b"\n")
        return chunk


def _cut_at(data: bytes, start: int) -> int:
    """Return where the chunk from ``start`` ends: behind a line if one ends in reach, else between characters."""
    limit = start + MAX_CHUNK
    if limit >= len(data):
        return len(data)
    if line_end := data.rfind(b"\n", start, limit) + 1:
        return line_end
    for back in range(4):
        if data[limit - back] & 0b1100_0000 != UTF8_CONTINUATION:
            return limit - back
    return limit
