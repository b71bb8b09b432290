"""The archive: finished logs as files, ``JOB/ATTEMPT-STARTED.log.zst``, each a volume (``tailer.volume``).

A file is written once and as a whole, and tells all of itself, so that archivers need no lock and readers no list:
those in a job's folder are its attempts. Where a job's id was used anew after Redis had forgotten it, attempts count
from 1 again; then the newest of them are the log, and the older files stay where they are.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from tailer import volume
from tailer.errors import CorruptRecord
from tailer.objects import ObjectChanged, Objects
from tailer.records import header
from tailer.store import AttemptSummary, LogSummary, check_job_id
from tailer.volume import Volume

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

END = 64 << 10
"""Bytes read from the end of a file at once: the index of most logs, and all of small ones."""
READ, RUN = 4, 16
"""Most pieces of one request: for readers, and where all of a volume is read."""
VOLUMES, PIECES, LOGS = 64, 32, 4096
"""How many of each are kept: indexes with the ends of their files, unpacked pieces, and lists of files."""
KNOWN_S = 60.0
"""How long it is taken for known which files a job has, also that it has none."""
_NAME = re.compile(r"(?:.*/)?([1-9][0-9]{0,8})-([0-9]{1,14})\.log\.zst")


class File(NamedTuple):
    """The file of an attempt."""

    started: int
    number: int
    name: str


class _Opened(NamedTuple):
    name: str
    volume: Volume
    data: bytes
    start: int
    version: str | None


class _Kept(Generic[K, V]):
    """The newest ``room`` of some values, each for ``seconds``. Thread-safe."""

    def __init__(self, room: int, seconds: float = float("inf")) -> None:
        self._room = room
        self._seconds = seconds
        self._lock = threading.Lock()
        self._values: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def get(self, key: K) -> V | None:
        with self._lock:
            until, value = self._values.get(key, (0.0, None))
            if until <= time.monotonic():
                return None
            self._values.move_to_end(key)
            return value

    def put(self, key: K, value: V) -> None:
        with self._lock:
            self._values[key] = time.monotonic() + self._seconds, value
            self._values.move_to_end(key)
            while len(self._values) > self._room:
                self._values.popitem(last=False)

    def drop(self, key: K) -> None:
        with self._lock:
            self._values.pop(key, None)


class Archive:
    """Reads archived logs, in ranges. Thread-safe.

    All methods raise ``ArchiveUnavailable`` when it cannot be reached, and ``CorruptRecord`` for what is no such file.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._logs: _Kept[str, list[File]] = _Kept(LOGS, KNOWN_S)
        self._volumes: _Kept[str, _Opened] = _Kept(VOLUMES)
        self._pieces: _Kept[tuple[str, str | None, int], list[bytes]] = _Kept(PIECES)

    def summary(self, job_id: str) -> LogSummary | None:
        """Return what is known of a job's log, ``None`` if none of it is archived."""
        opened = [self._open(file.name) for file in self._files(job_id)]
        return LogSummary(job_id, [one.volume.attempt for one in opened if one]) if any(opened) else None

    def file(self, job_id: str, attempt: int) -> str | None:
        """Return the name of an attempt's file, ``None`` if it is not archived."""
        return next((file.name for file in self._files(job_id) if file.number == attempt), None)

    def find(self, name: str, what: str, value: int) -> tuple[int, int, bytes | None]:
        """Return what ``LogStore.find`` does of the attempt in a file."""

        def find(opened: _Opened) -> tuple[int, int, bytes | None]:
            index = opened.volume
            number = index.piece_that_reaches(what, value)
            if number is None:
                return index.firsts[-1], index.end, None
            for place, element in enumerate(self._read(opened, number, number + 1), index.firsts[number]):
                here = header(element)
                if here.reaches(what, value):
                    return place, here.offset, element
            raise CorruptRecord(f"{opened.name}: a piece is not as its index says")

        return self._look(name, find) or (0, 0, None)

    def elements(self, name: str, first: int, last: int) -> list[bytes]:
        """Return elements of a file from index ``first`` on, up to ``last`` or the end of ``READ`` pieces."""

        def elements(opened: _Opened) -> list[bytes]:
            index = opened.volume
            begin = index.piece_of(first)
            end = min(index.piece_of(last) + 1, len(index), begin + READ)
            found = self._read(opened, begin, end) if begin < end else []
            return found[first - index.firsts[begin] : last + 1 - index.firsts[begin]]

        return self._look(name, elements) or []

    @staticmethod
    def name(job_id: str, attempt: int, started: int) -> str:
        """Return the name of the file of an attempt that started at that time (ms)."""
        return f"{check_job_id(job_id)}/{attempt}-{started}.log.zst"

    def write(self, job_id: str, attempt: AttemptSummary, file: Path) -> str:
        """Put a volume in its place, and return its name."""
        name = self.name(job_id, attempt.number, attempt.started)
        self._objects.put(name, file)
        self.forget(job_id, name)
        return name

    def read(self, name: str) -> Iterator[bytes]:
        """Yield all elements of a volume as it is in the archive now."""
        self._volumes.drop(name)
        opened = self._load(name)
        if opened is None:
            raise ObjectChanged(f"{name} is not in the archive")
        for begin in range(0, len(opened.volume), RUN):
            end = min(begin + RUN, len(opened.volume))
            data, starts = self._bytes(opened, begin, end), opened.volume.starts
            for number in range(begin, end):
                yield from volume.elements(data[starts[number] - starts[begin] : starts[number + 1] - starts[begin]])

    def delete(self, job_id: str) -> None:
        """Remove all that there is of a job."""
        names = self._objects.names(check_job_id(job_id))
        self._objects.delete(names)
        for name in names:
            self.forget(job_id, name)

    def forget(self, job_id: str, name: str) -> None:
        """Look the file up anew when it is read next."""
        self._logs.drop(job_id)
        self._volumes.drop(name)

    def _files(self, job_id: str) -> list[File]:
        """Return the files of the job's log, in order."""
        known = self._logs.get(check_job_id(job_id))
        if known is None:
            known = log_of(self._objects.names(job_id))
            self._logs.put(job_id, known)
        return known

    def _look(self, name: str, look: Callable[[_Opened], T]) -> T | None:
        """Look into a file; ``None`` if it is not there."""
        for last in (False, True):
            opened = self._open(name)
            if opened is None:
                break
            try:
                return look(opened)
            except ObjectChanged:
                # It was archived anew, or is gone.
                self._volumes.drop(name)
                if last:
                    raise
        return None

    def _open(self, name: str) -> _Opened | None:
        return self._volumes.get(name) or self._load(name)

    def _load(self, name: str) -> _Opened | None:
        found = self._objects.open(name, END)
        if found is None:
            return None
        data, start, version = found
        size = volume.foot(data)
        if size > len(data):
            end = start + len(data)
            start = max(0, end - size)
            data = self._objects.read(name, start, end, version)
        opened = _Opened(name, volume.parse(data), data, start, version)
        self._volumes.put(name, opened)
        return opened

    def _read(self, opened: _Opened, begin: int, end: int) -> list[bytes]:
        """Return the elements of the pieces from ``begin`` to before ``end``."""
        found: list[bytes] = []
        starts = opened.volume.starts
        data = b""
        for number in range(begin, end):
            key = opened.name, opened.version, number
            piece = self._pieces.get(key)
            if piece is None:
                data = data or self._bytes(opened, number, end)
                at = starts[end] - len(data)
                piece = volume.elements(data[starts[number] - at : starts[number + 1] - at])
                self._pieces.put(key, piece)
            found += piece
        return found

    def _bytes(self, opened: _Opened, begin: int, end: int) -> bytes:
        start, stop = opened.volume.starts[begin], opened.volume.starts[end]
        if start >= opened.start:
            return opened.data[start - opened.start : stop - opened.start]
        return self._objects.read(opened.name, start, stop, opened.version)


def log_of(names: list[str]) -> list[File]:
    """Return the files of a log among those of its folder: the newest that are numbered upwards."""
    matches = [(_NAME.fullmatch(name), name) for name in names]
    found: list[File] = []
    for file in sorted(File(int(match[2]), int(match[1]), name) for match, name in matches if match):
        if found and file.number <= found[-1].number:
            found.clear()
        found.append(file)
    return found
