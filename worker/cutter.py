"""Cuts a job's output into chunks. Pure: knows no pipe, no clock and no Redis."""

from __future__ import annotations

import hashlib
import sys
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tailer.records import MAX_CHUNK, Chunk

UTF8_CONTINUATION = 0b1000_0000
"""Top two bits of every byte of a character but its first (RFC 3629, section 3)."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Output of one stream that came one after the other: part ``n`` at ``times[n]``, up to index ``ends[n]``."""

    stream: str
    data: bytes
    times: list[int]
    ends: list[int]

    def time_at(self, index: int) -> int:
        """Return when the byte at ``index`` came."""
        return self.times[bisect_right(self.ends, index)]


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

    @property
    def parts(self) -> int:
        """How many pieces of output are held."""
        return len(self._parts)

    @property
    def unfinished(self) -> bool:
        """Whether what was fed last ends within a line."""
        return not self._parts[-1][2].endswith(b"\n") if self._parts else self.midline

    def feed(self, stream: str, data: bytes, now: int) -> None:
        """Add ``data``, read at ``now`` (ms)."""
        if self.since is None:
            self.since = now
        self.whole_line = self.whole_line or b"\n" in data
        self.size += len(data)
        self._parts.append((stream, now, data))

    def mask_again(self, again: Callable[[str, bytes], bytes]) -> int:
        """Put what is held through ``again``, part by part; returns by how many bytes that has made it shorter."""
        before = self.size
        parts = [(stream, time, again(stream, data)) for stream, time, data in self._parts]
        self._parts = deque(part for part in parts if part[2])
        self.size = sum(len(data) for _, _, data in self._parts)
        self._look()
        return before - self.size

    def cut(self, *, partial: bool, most: int = sys.maxsize) -> list[Chunk]:
        """Hand out what is held, or about ``most`` bytes of it, which must be more than ``MAX_CHUNK``.

        Without ``partial`` an unfinished line at the very end stays, to be finished.
        """
        chunks: list[Chunk] = []
        goal = self.offset + most
        rest = b""
        while self._parts and self.offset < goal and not rest:
            run = self._joined(goal - self.offset)
            goes_on = self._parts[0][0] == run.stream if self._parts else not partial
            start = 0
            while start < len(run.data):
                stop = _cut_at(run.data, start)
                if stop == len(run.data) and goes_on:
                    stop = run.data.rfind(b"\n", start) + 1
                    if stop <= start:
                        break
                chunks.append(self._chunk(run.stream, run.time_at(start), run.data[start:stop]))
                start = stop
            if rest := run.data[start:]:
                self._parts.appendleft((run.stream, run.time_at(start), rest))
        self._look()
        return chunks

    def _look(self) -> None:
        self.since = self._parts[0][1] if self._parts else None
        self.whole_line = any(b"\n" in data for _, _, data in self._parts)

    def _joined(self, most: int) -> _Run:
        """Take the first part and those behind it of the same stream, until there are ``most`` bytes, as one."""
        stream, time, data = self._parts.popleft()
        parts, times, ends = [data], [time], [len(data)]
        while self._parts and self._parts[0][0] == stream and ends[-1] < most:
            _, time, data = self._parts.popleft()
            parts.append(data)
            times.append(time)
            ends.append(ends[-1] + len(data))
        return _Run(stream, b"".join(parts), times, ends)

    def _chunk(self, stream: str, time: int, data: bytes) -> Chunk:
        lines = data.count(b"\n")
        chunk = Chunk(stream, time, self.offset, self.lines + 1, lines, self.midline, data)
        self._hash.update(data)
        self.size -= len(data)
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
