"""What a worker holds for Redis: in memory, then in a temporary file, each up to a limit, then not at all."""

from __future__ import annotations

import struct
import tempfile
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import IO

from tailer.records import Hole, encode

RESEND = 4 << 20
"""Bytes kept after Redis confirmed them, for a server that forgets what it confirmed (restart, failover)."""


@dataclass(frozen=True, slots=True)
class Item:
    """A list element and the bytes it stands for, from ``start`` to ``end``.

    ``line`` counts the newlines before them, ``lines`` those before their end.
    """

    start: int
    end: int
    line: int
    lines: int
    element: bytes


class Backlog:
    """A first-in, first-out store of items that never holds more than it may.

    ``memory`` and ``spill`` are bytes. ``push`` says no when both are full; whoever pushes then records a hole.
    """

    _HEAD = struct.Struct("QQQQQ")

    def __init__(self, memory: int, spill: int) -> None:
        self._memory_limit, self._spill_limit = memory, spill
        self._items: deque[Item] = deque()
        self._sent: deque[Item] = deque()
        self._size = self._sent_size = 0
        self._file: IO[bytes] | None = None
        self._read_at = self._write_at = 0
        self._change: Callable[[bytes], bytes] | None = None
        self.spilled = 0

    def __bool__(self) -> bool:
        return bool(self._items) or self._read_at < self._write_at

    def has_room(self, size: int) -> bool:
        """Return whether an item of ``size`` bytes would be kept."""
        return self._fits_memory(size) or self._write_at + size <= self._spill_limit

    def _fits_memory(self, size: int) -> bool:
        return self._read_at == self._write_at and self._size + size <= self._memory_limit

    def push(self, item: Item, *, always: bool = False) -> bool:
        """Add at the end; returns whether there was room. ``always`` is for the few bytes of a hole record.

        A temporary file that cannot be written (disk full) counts as no room.
        """
        if self._fits_memory(len(item.element)) or (always and self._read_at == self._write_at):
            self._remember(item)
            return True
        if not always and self._write_at + len(item.element) > self._spill_limit:
            return False
        try:
            self._spill(item)
        except OSError:
            return False
        return True

    def _remember(self, item: Item) -> None:
        self._items.append(item)
        self._size += len(item.element)

    def _spill(self, item: Item) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="tailer-", buffering=0)  # noqa: SIM115 (lives on; see close)
        raw = self._HEAD.pack(item.start, item.end, item.line, item.lines, len(item.element)) + item.element
        self._file.seek(self._write_at)
        written = self._file.write(raw)
        if written != len(raw):
            raise OSError("short write to the spill file")
        self._write_at += len(raw)
        self.spilled += len(item.element)

    def peek(self, size: int) -> list[Item]:
        """Return the first items, about ``size`` bytes of them, at least one if there are any."""
        if not self._items:
            self._unspill(size)
        items: list[Item] = []
        total = 0
        for item in self._items:
            total += len(item.element)
            if items and total > size:
                break
            items.append(item)
        return items

    def _unspill(self, size: int) -> None:
        """Bring items back from the file."""
        while self._file and self._read_at < self._write_at and self._size < size:
            self._file.seek(self._read_at)
            start, end, line, lines, length = self._HEAD.unpack(self._file.read(self._HEAD.size))
            element = self._file.read(length)
            self._remember(Item(start, end, line, lines, self._change(element) if self._change else element))
            self._read_at += self._HEAD.size + length
        if self._file and self._read_at == self._write_at:
            self._file.close()
            self._file, self._read_at, self._write_at = None, 0, 0
            self._change = None

    def rewrite(self, after: int, change: Callable[[bytes], bytes]) -> None:
        """Put the elements of items from offset ``after`` on through ``change``, which must keep what they stand for.

        Those in the file get it when they are brought back.
        """
        for index, item in enumerate(self._items):
            if item.start >= after:
                self._items[index] = replace(item, element=change(item.element))
        self._size = sum(len(item.element) for item in self._items)
        if self._file:
            self._change = change

    def confirm(self, count: int) -> None:
        """Take the first ``count`` items as stored; they are kept for a while in case the server forgets them."""
        for _ in range(count):
            item = self._items.popleft()
            self._size -= len(item.element)
            self._sent.append(item)
            self._sent_size += len(item.element)
        while self._sent_size > RESEND:
            self._sent_size -= len(self._sent.popleft().element)

    def rewind(self, offset: int, lines: int, end: tuple[int, int], now: int, cause: str) -> int:
        """Go on from ``offset``, where the server's log really ends, with ``lines`` newlines before it.

        What is stored already is let go; what the server forgot is sent again; what is no longer held becomes a
        hole record with ``cause``. ``end`` is offset and newlines behind all that was ever pushed. Returns the
        hole's size in bytes.
        """
        while self._items and self._items[0].end <= offset:
            self.confirm(1)
        while self._sent and self._sent[-1].start >= offset:
            item = self._sent.pop()
            self._sent_size -= len(item.element)
            self._items.appendleft(item)
            self._size += len(item.element)
        self.peek(1)
        first = self._items[0] if self._items else None
        stop, stop_lines = (first.start, first.line) if first else end
        if stop <= offset:
            return 0
        hole = Hole(now, offset, lines + 1, stop_lines - lines, True, stop - offset, cause)
        self._items.appendleft(Item(offset, stop, lines, stop_lines, encode(hole)))
        self._size += len(self._items[0].element)
        return stop - offset

    @property
    def held(self) -> int:
        """Bytes in memory."""
        return self._size + self._sent_size

    def close(self) -> None:
        """Give memory and disk back."""
        self._items.clear()
        self._sent.clear()
        self._size = self._sent_size = 0
        if self._file:
            self._file.close()
