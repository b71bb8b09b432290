"""The shipper: brings a job's output to Redis, in batches, each byte once, whatever Redis does meanwhile."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import zstandard

from tailer import figures
from tailer.errors import AttemptMissing, CorruptRecord, LogClosed, StoreUnavailable, TailerError
from tailer.figures import FigureStore
from tailer.logs import CURRENT
from tailer.records import MAX_CHUNK, SYSTEM, Attempt, Chunk, End, Hole, decode, encode
from tailer.store import ALIVE_MS, Cursor, LogStore, now_ms
from worker.backlog import Backlog, Item
from worker.capture import Report
from worker.counts import COUNTS, LogCounts
from worker.cutter import Cutter
from worker.redact import Again, Masks

logger = logging.getLogger("tailer.worker")

INTERVAL_MS = 50
"""Mean time between two batches while output keeps coming; the first ones after a pause go out at once."""
PARTIAL_MS = 100
"""How long an unfinished line is held back for its end."""
SHIP = 8 * MAX_CHUNK
"""Bytes held at which a batch goes out before its time. With fewer, a flood keeps waking this thread."""
MOST_PARTS = 8192
"""Pieces of output held as they came: each costs some 140 bytes beside its own, which a limit of bytes does not see."""
BATCH = 1 << 20
"""Most bytes of elements in one append."""
BACKOFF_S = (0.05, 2.0)


class Shipper(threading.Thread):
    """Sends one attempt's output to a ``LogStore`` from a thread of its own.

    ``take`` never waits for Redis. While Redis is away, output is held in a ``Backlog`` and then dropped with a
    hole record. Failures are logged once per outage and never reach the job. ``stored`` tells whether the store has
    the end record.
    """

    def __init__(
        self,
        store: LogStore,
        job_id: str,
        about: Attempt,
        report: Report,
        *,
        buffer: int,
        spill: int,
        taking_over: bool = False,
    ) -> None:
        super().__init__(name="tailer-shipper", daemon=True)
        self._store = store
        self._counts = LogCounts(about.queue, FigureStore(store.connection))
        self._current = CURRENT.get()
        self._job_id = job_id
        self._about = about
        self._report = report
        self._changed = threading.Condition()
        self._packing = threading.Lock()
        self._hold = buffer
        self._backlog = Backlog(buffer, spill)
        self._cutter = Cutter(*report.position) if taking_over else Cutter()
        self._saw_all = not taking_over
        self._lost_cause = "the worker was killed" if taking_over else "Redis lost it"
        self._cause = figures.WORKER_KILLED if taking_over else figures.REDIS_LOST
        self._compressor = zstandard.ZstdCompressor(level=1)
        self._hole: Hole | None = None
        self._end: End | None = None
        self._abandoned = self._dead = self._astray = False
        self.stored = False
        self._attempt = 0
        self._missing: list[tuple[int, int]] = []
        # Before the one offset, output is or may be stored already; before the other, the log tells so.
        self._tried, self._told = self._cutter.offset, 0
        self._altered = False
        self._last_taken = 0
        self._next_batch = self._last_alive = 0
        self._outage_since: float | None = None
        self._backoff = BACKOFF_S[0]

    # Called by the pump and the worker.

    def take(self, stream: str, data: bytes) -> None:
        """Accept output. Never waits for Redis."""
        if self._feed(stream, data):  # This class's thread cannot keep up with a flood, or waits for Redis.
            self._pack(partial=False)

    def _feed(self, stream: str, data: bytes) -> bool:
        """Accept output; returns whether so much is held that it has to be packed."""
        with self._changed:
            if self._dead:
                return False
            quiet, had_line, was_few = not self._cutter.size, self._cutter.whole_line, self._cutter.size < SHIP
            self._last_taken = now_ms()
            self._cutter.feed(stream, data, self._last_taken)
            self._counts.add(figures.OUTPUT, len(data))
            # Only what changes the moment at which something is due wakes the thread.
            if quiet or self._cutter.whole_line != had_line or (was_few and self._cutter.size >= SHIP):
                self._changed.notify()
            return self._cutter.size >= self._hold or self._cutter.parts >= MOST_PARTS

    def tell(self, line: str) -> None:
        """Put a line of Tailer's own into the log, on a line of its own."""
        with self._changed:
            data = b"\n" * self._cutter.unfinished + f"[tailer] {line}\n".encode()
            self._report.adjust(len(data), data.count(b"\n"))
            self._feed(SYSTEM, data)  # Packing is for those who hold no lock.

    def mask_again(self, again: Again, masks: Masks) -> None:
        """Mask what Redis has surely not got yet; if there was more, say so.

        What is cut already keeps its length, so that all offsets hold. Its checksum is gone with the secret.
        """
        with self._packing, self._changed:
            if self._dead:
                return
            self._backlog.rewrite(self._tried, partial(self._blotted, masks))
            self._told = max(0, self._told - self._cutter.mask_again(again))
            if self._tried > self._told:
                self._told = self._cutter.offset + self._cutter.size
                self.tell("a value is masked from here on; what was stored before this line may show it")

    def _blotted(self, masks: Masks, element: bytes) -> bytes:
        record = decode(element)
        if not isinstance(record, Chunk) or (data := masks.blot(record.data)) == record.data:
            return element
        self._altered = True
        return encode(replace(record, data=data), zstandard.ZstdCompressor(level=1))

    def finish(self, end: End, timeout: float) -> bool:
        """Send all that is left, then ``end`` with its counts filled in; wait for it at most ``timeout`` seconds.

        Returns whether it is done. If it is not, the thread keeps trying until ``abandon``.
        """
        with self._changed:
            self._end = end
            self._changed.notify()
        self.join(timeout)
        return not self.is_alive()

    def abandon(self) -> None:
        """Give up what Redis has not taken. Followers will see this attempt as lost."""
        with self._changed:
            self._abandoned = True
            self._changed.notify()

    # After the end.

    @property
    def held(self) -> int:
        """Bytes of what was sent that are kept, in case the store forgets them."""
        return self._backlog.held

    def look_after(self, patience: float | None = None) -> bool:
        """Return whether the store has the end record still; one that forgot it gets again what is still held.

        For whoever has seen the thread end with ``stored``. Raises ``StoreUnavailable``; once it has begun to send
        again, it goes on for ``patience`` seconds, or for as long as that takes.
        """
        summary = self._store.summary(self._job_id)
        attempt = summary.attempt(self._attempt) if summary else None
        if attempt and attempt.end:
            return True
        CURRENT.set(self._current)
        logger.warning("job %s: Redis has lost the end of its log; sending it again", self._job_id)
        self._astray, self.stored = True, False
        self._ship(patience)
        return self.stored or self._abandoned

    def let_go(self) -> None:
        """Forget what was sent."""
        self._backlog.close()

    def seal(self) -> Iterator[None]:
        """Have the store pack the log, in steps: see ``LogStore.seal``."""
        return self._store.seal(self._job_id, self._attempt)

    # The thread.

    def run(self) -> None:
        """Ship until the end record is stored or the shipper is abandoned."""
        CURRENT.set(self._current)
        try:
            self._ship()
        except Exception:
            logger.exception("job %s: shipping its output failed; the job itself goes on", self._job_id)
            COUNTS.fault()
        with self._changed:
            self._dead = True
            if self._backlog:
                logger.error("job %s: gave up; output after byte %d is not stored", self._job_id, self._first_offset())
                self._counts.add(figures.ABANDONED)
        if self.stored and self._end:
            self._counts.add(f"{figures.JOBS}.{self._end.outcome}")
            self._counts.tell(self._backlog.spilled)
        else:
            self._counts.waited(self._outage_since)
            self.let_go()

    def _first_offset(self) -> int:
        return self._backlog.peek(1)[0].start

    def _ship(self, patience: float | None = None) -> None:
        deadline = None if patience is None else time.monotonic() + patience
        while not self._abandoned and not self.stored and (deadline is None or time.monotonic() < deadline):
            self._step()

    def _step(self) -> None:
        """Do what is due."""
        try:
            if not self._attempt:
                self._open()
            elif self._astray:
                self._rewind()
            self._wait_until_due()
            if self._backlog:
                self._send()
            elif self._hole:
                with self._changed:
                    self._close_hole()
            elif self._end and not self._cutter.size:
                self.stored = self._write_end(self._end)
            if not self.stored and _ticks() - self._last_alive >= ALIVE_MS // 3:
                self._store.keep_alive(self._job_id, self._attempt)
                self._last_alive = _ticks()
                self._counts.tell(self._backlog.spilled)
        except (StoreUnavailable, CorruptRecord) as error:  # a key of another kind may go as it came
            self._back_off(error)
        except AttemptMissing:
            logger.warning("job %s: Redis has lost its log; sending what is still held", self._job_id)
            self._astray = True
        except LogClosed:
            logger.error("job %s: somebody else ended its log", self._job_id)  # noqa: TRY400 (no traceback: it is no bug of ours)
            self._abandoned = True
        else:
            self._recovered()

    def _open(self) -> None:
        cursor, lines = self._store.start(self._job_id, replace(self._about, number=self._attempt))
        self._attempt = self._report.attempt = cursor.attempt
        self._last_alive = _ticks()
        logger.debug("job %s: attempt %d, at byte %d, line %d", self._job_id, cursor.attempt, cursor.offset, lines)

    def _wait_until_due(self) -> None:
        with self._changed:
            while not self._backlog and not self._end and not self._abandoned:
                wait = self._due_in()
                if wait <= 0:
                    break
                self._changed.wait(wait / 1000)
                if _ticks() - self._last_alive >= ALIVE_MS // 3:
                    break
            due = self._cutter.since is not None and (self._end or self._due_in() <= 0)
            held_long = self._cutter.since is not None and self._partial_due_in(self._cutter.since) <= 0
        if due:
            self._pack(partial=bool(self._end) or held_long)

    def _due_in(self) -> int:
        """Milliseconds until something should be cut and sent."""
        cutter = self._cutter
        if cutter.since is None:
            return max(1, self._last_alive + ALIVE_MS // 3 - _ticks())
        if cutter.size >= SHIP:
            return 0
        if not cutter.whole_line:
            return self._partial_due_in(cutter.since)
        return self._next_batch - _ticks()

    def _partial_due_in(self, since: int) -> int:
        held = now_ms() - since
        return PARTIAL_MS - held if held >= 0 else 0  # below 0 the clock was set back

    def _pack(self, *, partial: bool) -> None:
        """Move some of what is held into the backlog, or into a hole if there is no room.

        Compressing is most of the work of this class, so it is done without the lock that ``take`` needs.
        """
        with self._packing:
            with self._changed:
                chunks = self._cutter.cut(partial=partial, most=SHIP)
            items = [_item(chunk, self._compressor) for chunk in chunks]
            with self._changed:
                for chunk, item in zip(chunks, items, strict=True):
                    # A hole that grows goes on until there is room for any chunk: small ones would tear it into many.
                    needed = MAX_CHUNK if self._hole else chunk.length
                    if not (self._backlog.has_room(needed) and self._close_hole() and self._backlog.push(item)):
                        self._drop(chunk)

    def _drop(self, chunk: Chunk) -> None:
        self._counts.missing(figures.BUFFERS_FULL, chunk.length, new=self._hole is None)
        if self._hole is None:
            self._missing.append((chunk.offset, chunk.end))
            logger.error("job %s: Redis is away and all buffers are full; output is dropped from now on", self._job_id)
            cause = "Redis was unreachable and the worker's buffers were full"
            self._hole = Hole(chunk.time, chunk.offset, chunk.line, chunk.lines, chunk.midline, chunk.length, cause)
        else:
            hole = self._hole
            self._missing[-1] = hole.offset, chunk.end
            self._hole = replace(hole, length=hole.length + chunk.length, lines=hole.lines + chunk.lines)

    def _close_hole(self) -> bool:
        """Put the hole that is growing, if any, into the backlog."""
        hole = self._hole
        if hole is None:
            return True
        line = hole.line - 1
        if not self._backlog.push(Item(hole.offset, hole.end, line, line + hole.lines, encode(hole)), always=True):
            return False
        self._hole = None
        return True

    def _send(self) -> None:
        # A rate, not a pause: lines that come every INTERVAL_MS are not held up by the time that sending takes.
        now = _ticks()
        self._next_batch = min(max(self._next_batch + INTERVAL_MS, now), now + INTERVAL_MS)
        with self._changed:
            items = self._backlog.peek(BATCH)
            self._tried = max(self._tried, items[-1].end)
        at = Cursor(self._attempt, items[0].start)
        elements = [item.element for item in items]
        began = time.perf_counter()
        stored = self._store.append(self._job_id, at, elements, end=items[-1].end, lines=items[-1].lines)
        took = time.perf_counter() - began
        if stored != items[-1].end:
            self._rewind()
            return
        self._counts.appended(took, sum(map(len, elements)))
        with self._changed:
            self._backlog.confirm(len(items))

    def _rewind(self) -> None:
        """Find out where the store's log ends, and go on from there."""
        cursor, lines = self._store.start(self._job_id, replace(self._about, number=self._attempt))
        self._astray = False
        self._counts.add(figures.RESENDS)
        with self._packing, self._changed:
            # The hole that is still growing lies behind everything that the backlog has ever held.
            end = (self._hole.offset, self._hole.line - 1) if self._hole else (self._cutter.offset, self._cutter.lines)
            lost = self._backlog.rewind(cursor.offset, lines, end, now_ms(), self._lost_cause)
            if lost:
                # Holes that were lost too are parts of this one.
                first, last = cursor.offset, cursor.offset + lost
                kept = [(start, stop) for start, stop in self._missing if not first <= start < last]
                self._missing = [(first, last), *kept]
        if lost:
            self._counts.missing(self._cause, lost)
            logger.warning("job %s: %d bytes of its log are lost: %s", self._job_id, lost, self._lost_cause)

    def _write_end(self, end: End) -> bool:
        cutter = self._cutter
        # The worker's clock said when the job ended; its last words were drained after that.
        ended_at = max(end.ended_at, self._last_taken / 1000)
        stored = self._store.end(
            self._job_id,
            replace(
                end,
                attempt=self._attempt,
                bytes=cutter.offset,
                lines=cutter.lines,
                dropped=self._dropped(),
                sha256=cutter.sha256 if self._saw_all and not self._altered else None,
                ended_at=ended_at,
            ),
        )
        if stored == cutter.offset:
            return True
        self._rewind()
        return False

    def _dropped(self) -> int:
        """Bytes that the log does not have: they never came to Redis, or it was over its limit."""
        missing = list(self._missing)
        if self._cutter.offset > self._store.keep_head:
            summary = self._store.summary(self._job_id)
            here = summary.attempt(self._attempt) if summary else None
            if here and here.gap:
                missing.append((here.gap.offset, here.gap.end))
        dropped = behind = 0
        for first, last in sorted(missing):
            dropped += max(0, last - max(first, behind))
            behind = max(behind, last)
        return dropped

    def _back_off(self, error: TailerError) -> None:
        if self._outage_since is None:
            self._outage_since = time.monotonic()
            self._counts.add(figures.OUTAGES)
            logger.warning("job %s: its output waits for Redis: %s", self._job_id, error)
        with self._changed:
            self._changed.wait_for(lambda: self._abandoned, self._backoff)
        self._backoff = min(self._backoff * 2, BACKOFF_S[1])

    def _recovered(self) -> None:
        if self._outage_since is not None:
            logger.warning("job %s: Redis is back after %.1f s", self._job_id, time.monotonic() - self._outage_since)
            self._counts.waited(self._outage_since)
            self._outage_since, self._backoff = None, BACKOFF_S[0]


def _item(chunk: Chunk, compressor: zstandard.ZstdCompressor) -> Item:
    line = chunk.line - 1
    return Item(chunk.offset, chunk.end, line, line + chunk.lines, encode(chunk, compressor))


def _ticks() -> int:
    """Milliseconds of a clock that nobody can set."""
    return time.monotonic_ns() // 1_000_000
