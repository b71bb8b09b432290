"""Puts finished logs into the archive. A process of its own: no job, and nobody who reads, waits for it.

Any number of archivers may run, and stop at any moment. Each log is written as a whole, read back and compared before
Redis is told that it is archived; whatever was not told so is done again.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tailer.archived import ArchivedStore
from tailer.errors import ArchiveUnavailable, CorruptRecord, TailerError
from tailer.logs import CURRENT, NOTHING
from tailer.objects import ObjectChanged
from tailer.reader import MISSING, UNREADABLE
from tailer.records import Chunk, End, Hole, encode
from tailer.settings import Settings
from tailer.store import AttemptSummary, Cursor, LogSummary, now_ms
from tailer.volume import Writer

logger = logging.getLogger(__name__)

SWEEP_S = 5.0
"""How often is looked for logs that have ended."""
WHOLE_S = 3600.0
"""How often all logs are looked at, for those whose end was not told; more often if they live for less long."""
AGAIN_S = 60.0
"""When all logs are looked at again if the archive was away."""
OVERLAP_S = 600
"""How far behind the moment at which a log may be archived a sweep looks."""
PAGE = 500
MOST_REFUSED = 10_000
"""Logs remembered that cannot be archived; behind that, they are tried again."""


class NotArchived(TailerError):
    """A log is not as its end record says, or not in the archive as it was written."""


@dataclass(slots=True)
class Swept:
    """What a sweep has done: logs archived, their bytes of output, and logs that could not be."""

    archived: int = 0
    bytes: int = 0
    failed: int = 0


class Archiver:
    """Sweeps Redis for attempts that have ended and are not archived yet."""

    def __init__(self, store: ArchivedStore, settings: Settings) -> None:
        self._store = store
        self._after_ms = settings.archive_after * 1000
        self._release = settings.archive_release
        self._whole_s = max(AGAIN_S, min(WHOLE_S, settings.ttl / 4))
        self._swept_whole = float("-inf")
        self._refused: set[tuple[str, AttemptSummary]] = set()

    def run(self, stop: threading.Event) -> None:
        """Sweep until ``stop`` is set; the log at hand is finished first."""
        while not stop.is_set():
            try:
                swept = self.sweep(stop, whole=time.monotonic() - self._swept_whole >= self._whole_s)
                if swept.archived or swept.failed:
                    logger.info("%d logs archived (%d bytes), %d not", swept.archived, swept.bytes, swept.failed)
            except TailerError as error:
                logger.error("%s: %s", error.title, error)  # noqa: TRY400 (known: it needs no traceback)
            stop.wait(SWEEP_S)

    def sweep(self, stop: threading.Event | None = None, *, whole: bool = True) -> Swept:
        """Archive what may be: of all logs, or of those that have ended a short while ago. Raises ``StoreUnavailable``.

        While the archive is away, logs keep their whole time in Redis. What a log's own fault keeps out of the archive
        is told once, and expires in its time.
        """
        began, swept, away = time.monotonic(), Swept(), False
        for job_id, attempt in self._due(whole=whole):
            if stop and stop.is_set():
                return swept
            CURRENT.set({"job": job_id})
            try:
                if not away:
                    self.archive(job_id, attempt)
            except (CorruptRecord, NotArchived) as error:
                self._refuse(job_id, attempt, error)
                swept.failed += 1
                continue
            except (ArchiveUnavailable, ObjectChanged, OSError) as error:  # of the last kind: no room for the file
                logger.warning("job %s, attempt %d is not archived yet: %s", job_id, attempt.number, error)
                away = True
            finally:
                CURRENT.set(NOTHING)
            if away:
                self._store.hold(job_id, attempt.number)
                swept.failed += 1
            else:
                swept.archived += 1
                swept.bytes += attempt.bytes
        if whole:
            self._swept_whole = began - (self._whole_s - AGAIN_S if away else 0)
        return swept

    def _refuse(self, job_id: str, attempt: AttemptSummary, error: TailerError) -> None:
        if len(self._refused) >= MOST_REFUSED:
            self._refused.clear()
        self._refused.add((job_id, attempt))
        logger.warning("job %s, attempt %d cannot be archived: %s", job_id, attempt.number, error)

    def _due(self, *, whole: bool) -> Iterator[tuple[str, AttemptSummary]]:
        latest = now_ms() - self._after_ms
        oldest = 0 if whole else latest - OVERLAP_S * 1000
        place = None
        while True:
            entries = self._store.jobs(limit=PAGE, before=place)
            wanted = [job_id for time_ms, job_id in entries if time_ms >= oldest]
            for job_id, summary in zip(wanted, self._store.summaries(wanted), strict=True):
                for attempt in summary.attempts if isinstance(summary, LogSummary) else []:
                    due = attempt.end and not attempt.archived and attempt.end.time <= latest
                    if due and (job_id, attempt) not in self._refused:
                        yield job_id, attempt
            if len(wanted) < PAGE:
                return
            place = entries[-1]

    def archive(self, job_id: str, attempt: AttemptSummary) -> None:
        """Archive one attempt that has ended. Safe to repeat, also by several at once.

        Raises:
            NotArchived: what Redis has is not what the end record says, or it could not be read back.
            ArchiveUnavailable, StoreUnavailable: as always.
        """
        end, archive = attempt.end, self._store.archive
        if end is None:
            raise NotArchived("it has not ended")
        with tempfile.NamedTemporaryFile(prefix="tailer-archive-") as file:
            writer, written = Writer(file), hashlib.sha256()
            whole = True
            for element, told in self._elements(job_id, attempt, end):
                writer.add(element)
                written.update(element)
                whole = whole and told
            writer.close(attempt)
            file.flush()
            name = archive.write(job_id, attempt, Path(file.name))
        read = hashlib.sha256()
        for element in archive.read(name):
            read.update(element)
        if read.digest() != written.digest():
            raise NotArchived(f"{name} is not in the archive as it was written")
        # A worker that was thought lost may come back, and goes on in its list.
        release = self._release if whole and end.outcome != "lost" else None
        noted = self._store.shelve(job_id, attempt.number, ended=end.time, release=release)
        if not noted and self._store.was_deleted(job_id):
            archive.delete(job_id)

    def _elements(self, job_id: str, attempt: AttemptSummary, end: End) -> Iterator[tuple[bytes, bool]]:
        """Yield all elements of an attempt, each with whether it is as it was written; check them against its end."""
        reader = self._store.near.reader(job_id, Cursor(attempt.number))
        output, whole, last = hashlib.sha256(), True, None
        while records := reader.read():
            for last in records:
                if isinstance(last, Chunk):
                    output.update(last.data)
                elif isinstance(last, Hole):
                    whole = False
                yield encode(last), not (isinstance(last, Hole) and last.cause in {UNREADABLE, MISSING})
        if last != end:
            raise NotArchived(f"Redis has {reader.offset} of its {end.bytes} bytes, and not its end")
        if whole and end.sha256 not in {None, output.hexdigest()}:
            raise NotArchived("its checksum is not that of its end record")
