"""The pipes between a job and its worker, and the memory in which the two leave word for each other.

Knows neither RQ nor Redis. A ``Capture`` is made by the worker before the fork; the work horse puts the write
ends on its fds 1 and 2, the worker drains the read ends. The horse keeps the read ends open too: if the worker
is killed, the horse's writes then do not fail with EPIPE, and it can drain the pipes itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import pty
import struct
import sys
import tempfile
import termios
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from tailer.records import STDERR, STDOUT

PIPE_SIZE = 1 << 20
"""Wanted pipe capacity: 1 MiB, the most an ordinary Linux user may have. It cut the pump's CPU to a fifth."""
PIECE = 1 << 17
"""Most bytes taken out of a pipe at a time."""
MASKS_SIZE = 9 * 4096
"""Room for the values that a job has registered as masks, and for four bytes more for each."""
PTY_ROWS, PTY_COLUMNS = 24, 120


class State(IntEnum):
    """How far the horse got with the job's function."""

    RUNNING = 0
    RETURNED = 1
    RAISED = 2
    TIMED_OUT = 3


@dataclass(frozen=True, slots=True)
class Source:
    """A read end and the stream that comes out of it."""

    fd: int
    stream: str


class Report:
    """A piece of memory shared by worker and horse; survives either of them.

    The worker writes down what it drained and masked, the horse how its job ended. Numbers are written whole (8
    aligned bytes), so a reader never sees half of one. The output itself passes through it too: see ``drain``.
    """

    _REASON = 128
    _OUTPUT = 4096
    _MARK = 16
    _MASKS = _OUTPUT + PIECE
    _SIZE = _MASKS + MASKS_SIZE
    # Numbers, each in its slot. "Drained" is there twice, and one number says which of the two counts.
    _ATTEMPT, _STATE, _REASON_SIZE, _WHICH, _EXPECTED, _STREAM = 2, 3, 4, 5, 8, 9
    _DRAINED = (0, 6)
    _MARKED = 10 * 8
    _ADJUSTED, _REDACTED, _HELD = (12, 13), 14, 15

    def __init__(self, fd: int) -> None:
        self._fd = fd
        # Populated, because a process that is being killed gets no page any more: it could be left with half a read.
        self._map = mmap.mmap(fd, self._SIZE, flags=mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0))

    @classmethod
    def create(cls) -> Report:
        """Make an empty one. Backed by memory on Linux, elsewhere by an unlinked temporary file."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("tailer-report", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        try:
            os.ftruncate(fd, cls._SIZE)
            return cls(fd)
        except OSError:
            os.close(fd)
            raise

    @property
    def fd(self) -> int:
        """The file descriptor behind the memory."""
        return self._fd

    def _get(self, slot: int) -> int:
        return int(struct.unpack_from("Q", self._map, slot * 8)[0])

    def _set(self, slot: int, value: int) -> None:
        struct.pack_into("Q", self._map, slot * 8, value)

    @property
    def drained(self) -> tuple[int, int]:
        """Bytes and newlines that the worker has taken out of the pipes. Both change at once."""
        slot = self._DRAINED[self._get(self._WHICH)]
        return self._get(slot), self._get(slot + 1)

    @drained.setter
    def drained(self, value: tuple[int, int]) -> None:
        which = 1 - self._get(self._WHICH)
        slot = self._DRAINED[which]
        self._set(slot, value[0])
        self._set(slot + 1, value[1])
        self._set(self._WHICH, which)

    def count(self, data: bytes) -> None:
        """Add ``data`` to what was drained."""
        drained, lines = self.drained
        self.drained = drained + len(data), lines + data.count(b"\n")

    def drain(self, source: Source, size: int) -> bytes:
        """Take ``size`` bytes, which must be there, out of ``source``, and count them.

        A worker that is killed between the two would leave a log that lacks bytes without a trace. So they come
        into this memory, over a mark by which ``rescue`` sees whether they did.
        """
        size = min(size, PIECE)
        mark = os.urandom(min(size, self._MARK))
        self._map[self._OUTPUT : self._OUTPUT + len(mark)] = mark
        self._map[self._MARKED : self._MARKED + len(mark)] = mark
        self._set(self._STREAM, source.stream == STDERR)
        self._set(self._EXPECTED, self.drained[0] + size)
        with memoryview(self._map) as memory, memory[self._OUTPUT : self._OUTPUT + size] as place:
            size = os.readv(source.fd, [place])
        data = self._map[self._OUTPUT : self._OUTPUT + size]
        self.count(data)
        self._set(self._EXPECTED, 0)
        return data

    def rescue(self) -> tuple[str, bytes] | None:
        """Return stream and bytes that the worker had read, but not counted, when it was killed; counts them."""
        size = self._get(self._EXPECTED) - self.drained[0]
        self._set(self._EXPECTED, 0)
        if size <= 0:
            return None
        data = self._map[self._OUTPUT : self._OUTPUT + size]
        mark = self._map[self._MARKED : self._MARKED + min(size, self._MARK)]
        if data.startswith(mark):
            return None
        stream = STDERR if self._get(self._STREAM) else STDOUT
        self.count(data)
        return stream, data

    @property
    def position(self) -> tuple[int, int]:
        """Bytes and newlines that what was drained is in the log: fewer where a mask stands for a secret."""
        (size, lines), (more, more_lines) = self.drained, self._ADJUSTED
        return (size + self._get(more)) % (1 << 64), (lines + self._get(more_lines)) % (1 << 64)

    def adjust(self, size: int, lines: int) -> None:
        """Note that the log has so many bytes and newlines more than was drained."""
        for slot, more in zip(self._ADJUSTED, (size, lines), strict=True):
            self._set(slot, (self._get(slot) + more) % (1 << 64))

    def redacted(self, held: Iterable[str]) -> None:
        """Note that all that was drained has been looked through for secrets; of these streams some is still held."""
        self._set(self._HELD, sum(1 << (stream == STDERR) for stream in held))
        self._set(self._REDACTED, self.drained[0])

    @property
    def torn(self) -> list[str]:
        """The streams of which a worker that is gone may have held the first half of a secret."""
        last = 1 << self._get(self._STREAM) if self._get(self._REDACTED) != self.drained[0] else 0
        held = self._get(self._HELD) | last
        return [stream for stream in (STDOUT, STDERR) if held & 1 << (stream == STDERR)]

    @property
    def masks(self) -> list[bytes]:
        """The values that the job has registered as masks."""
        at, values = self._MASKS, list[bytes]()
        while size := int.from_bytes(self._map[at : at + 4]):
            values.append(self._map[at + 4 : at + 4 + size])
            at += 4 + size
        return values

    @masks.setter
    def masks(self, values: Iterable[bytes]) -> None:
        raw = b"".join(len(value).to_bytes(4) + value for value in values)
        self._map[self._MASKS : self._MASKS + len(raw)] = raw

    @property
    def attempt(self) -> int:
        """The attempt's number, 0 until the store has given it one."""
        return self._get(self._ATTEMPT)

    @attempt.setter
    def attempt(self, value: int) -> None:
        self._set(self._ATTEMPT, value)

    @property
    def state(self) -> State:
        """How the job's function ended, as the horse saw it."""
        return State(self._get(self._STATE))

    @property
    def reason(self) -> str | None:
        """The exception in one line, if there was one."""
        length = self._get(self._REASON_SIZE)
        return self._map[self._REASON : self._REASON + length].decode(errors="replace") if length else None

    def ended(self, state: State, reason: str = "") -> None:
        """Say how the job ended."""
        raw = reason.encode(errors="replace")[: self._OUTPUT - self._REASON]
        self._map[self._REASON : self._REASON + len(raw)] = raw
        self._set(self._REASON_SIZE, len(raw))
        self._set(self._STATE, state)

    def close(self) -> None:
        """Close the file descriptor. Those who still hold the report may go on using it (mmap keeps its own)."""
        os.close(self._fd)


@dataclass(slots=True)
class Capture:
    """The pipes of one execution, made by process ``owner``.

    ``stdout`` and ``stderr`` are write ends, the same one unless they are separate.
    """

    mode: str
    owner: int
    sources: tuple[Source, ...]
    stdout: int
    stderr: int
    report: Report

    @classmethod
    def open(cls, mode: str) -> Capture:
        """Make the pipes for ``separate``, ``merged`` or ``pty``; raises ``OSError`` when there are no fds left."""
        opened: list[int] = []
        try:
            reads, writes = [], []
            for _ in range(2 if mode == "separate" else 1):
                read, write = _open_pty() if mode == "pty" else _open_pipe()
                opened += [read, write]
                reads.append(read)
                writes.append(write)
            sources = tuple(Source(fd, stream) for fd, stream in zip(reads, (STDOUT, STDERR), strict=False))
            return cls(mode, os.getpid(), sources, writes[0], writes[-1], Report.create())
        except OSError:
            for fd in opened:
                os.close(fd)
            raise

    @property
    def fds(self) -> list[int]:
        """All file descriptors that the horse needs."""
        return [*(source.fd for source in self.sources), self.stdout, self.stderr, self.report.fd]

    def to_env(self) -> str:
        """Write it down for a process that inherits its fds."""
        return ",".join([self.mode, str(self.owner), *map(str, self.fds)])

    @classmethod
    def from_env(cls, text: str) -> Capture:
        """Read what ``to_env`` wrote. The fds become private to this process."""
        mode, owner, *numbers = text.split(",")
        *reads, stdout, stderr, report = map(int, numbers)
        for fd in {*reads, stdout, stderr, report}:
            os.set_inheritable(fd, False)
        sources = tuple(Source(fd, stream) for fd, stream in zip(reads, (STDOUT, STDERR), strict=False))
        return cls(mode, int(owner), sources, stdout, stderr, Report(report))

    def set_inheritable(self, inheritable: bool) -> None:
        """Let a spawned process have the fds, or not."""
        for fd in set(self.fds):
            os.set_inheritable(fd, inheritable)

    def close_write_ends(self) -> None:
        """Close this process's write ends, so that the pipe ends when the job's processes are gone."""
        for fd in {self.stdout, self.stderr}:
            os.close(fd)
        self.stdout = self.stderr = -1

    def close(self) -> None:
        """Close everything that is still open here."""
        for fd in {self.stdout, self.stderr, *(source.fd for source in self.sources)} - {-1}:
            with contextlib.suppress(OSError):
                os.close(fd)
        self.report.close()


def _open_pipe() -> tuple[int, int]:
    read, write = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        # Best effort: the system-wide budget for large pipes of one user may be spent.
        with contextlib.suppress(OSError):
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    return read, write


def _open_pty() -> tuple[int, int]:
    """A pseudo terminal that changes no byte (no newline into CR LF) and echoes nothing."""
    master, slave = pty.openpty()
    attributes = termios.tcgetattr(slave)
    attributes[1] &= ~termios.OPOST
    attributes[3] &= ~(termios.ECHO | termios.ICANON | termios.ISIG)
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", PTY_ROWS, PTY_COLUMNS, 0, 0))
    os.set_blocking(master, False)
    return master, slave


def capacity(source: Source) -> int:
    """Return how many bytes ``source`` takes before its writer has to wait; a low guess if it does not say."""
    with contextlib.suppress(AttributeError, OSError):
        return fcntl.fcntl(source.fd, fcntl.F_GETPIPE_SZ)
    return 4096


def waiting(source: Source) -> int:
    """Return how many bytes can be read from ``source`` without waiting, and are surely there (FIONREAD)."""
    answer = fcntl.ioctl(source.fd, termios.FIONREAD, b"\0\0\0\0")
    return int.from_bytes(answer, sys.byteorder)
