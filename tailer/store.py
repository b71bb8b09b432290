"""The log store: all that Tailer keeps in Redis, and every command it sends for it.

Every key of a job carries the hash tag ``{JOB}``, so that a Redis Cluster holds a job in one slot.

=========================  ========  ===========================================================================
key                        type      what
=========================  ========  ===========================================================================
``tailer:{JOB}:N``         list      the log of attempt N (from 1): one element a record, see ``tailer.records``
``tailer:{JOB}:N:tail``    list      its end, once it is longer than ``keep_head``: see below
``tailer:{JOB}``           hash      ``attempts`` the highest N; ``ttl`` two times to live; ``x.EXECUTION`` the N of an
                                     RQ execution; and per attempt ``N.end`` bytes, ``N.lines`` newlines,
                                     ``N.started`` ms, ``N.about`` the attempt record's JSON, ``N.ended`` the end
                                     record's JSON, ``N.gap`` what its tail list lacks, see ``tailer.scripts``,
                                     ``N.archived`` the time (ms) of the end with which it was archived, ``N.sealed``
                                     there once it was sealed
``tailer:{JOB}:N:alive``   string    there while a worker writes the attempt; 15 s, refreshed every 5 s
``tailer:{JOB}:wake``      channel   a message after every change: the number of the attempt; after an append of one
                                     small element also its index, and the element, behind a space each
``tailer:jobs``            zset      job ids by the time (ms) of their last start or end
``{tailer:jobs}:until``    zset      job ids by the time (ms) at which they are dropped from both
``tailer:{.figures}``      zset      and hashes ``tailer:{.figures}:QUEUE``: see ``tailer.figures``
``{tailer:jobs}:bytes``    hash      with ``max_memory``: bytes that each job's keys take, and ``:total``, their sum
``{tailer:jobs}:expiry``   zset      their job ids by the time (ms) at which their logs expire
``{tailer:jobs}:finished`` zset      those whose job is over, by the time (ms) of their end
=========================  ========  ===========================================================================

Life time: while a job runs, its hash and lists live for the longer of two times after its worker's last sign of life,
``ttl_finished`` and ``ttl_failed``, which its hash remembers (``ttl``, both in ms), and behind its end for the one that
belongs to its outcome. It is in ``tailer:jobs`` for twice as long, so that "expired" can be told from "never was".
Nothing is deleted at the end of a job: late readers find the whole log. With an archive (``tailer.archived``) the lists
of an archived attempt go earlier, and the hash and the entry later, so that it is still listed and attempts count on.

A log is kept whole up to ``keep_head`` bytes. What begins behind them goes to the tail list, and with each further
append the oldest elements there are removed, as long as those that stay hold ``keep_tail`` bytes of output. To readers
the two are one list, with a hole record in the place of what was removed. Indexes count what was removed, so an
element keeps its index for as long as it is there.

When an attempt has ended, its lists may be sealed: small elements become few large ones, see ``tailer.sealed``. Indexes
of these begin at ``sealed.FIRST``, so whoever has a place in a list that is another one by now is told, and looks it up
by offset.

Writing is one script each for starting, appending and ending, atomic and safe to repeat. An append names the
offset at which it belongs: one that was applied already changes nothing, one that would leave a gap is refused
with the offset that the store really has. Reading never writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha1
from typing import Any

import redis
from redis.exceptions import NoScriptError

from tailer import scripts, sealed
from tailer.budget import Budget
from tailer.cluster import Cluster
from tailer.connection import connect, redis_errors
from tailer.errors import AttemptMissing, CorruptRecord, LogClosed, TailerError
from tailer.index import INDEX, JobIndex
from tailer.keys import (
    JOB_ID,
    alive_key,
    all_keys,
    check_job_id,
    list_key,
    meta_key,
    now_ms,
    tail_key,
    wake_channel,
    written_keys,
)
from tailer.reader import Cursor, LogReader
from tailer.records import Attempt, Chunk, End, Hole, Record, decode, encode, header
from tailer.settings import Settings
from tailer.summary import AttemptSummary, LogSummary, parse_summary

__all__ = [
    "ALIVE_MS",
    "INDEX",
    "JOB_ID",
    "AttemptSummary",
    "Cursor",
    "LogStore",
    "LogSummary",
    "check_job_id",
    "connect",
    "list_key",
    "meta_key",
    "now_ms",
    "options",
    "redis_errors",
    "tail_key",
    "wake_channel",
]

ALIVE_MS = 15_000
"""Life of the alive key. A worker refreshes it every third of that."""
_READ_SHA, _LOCATE_SHA = (
    sha1(script.encode(), usedforsecurity=False).hexdigest() for script in (scripts.READ, scripts.LOCATE)
)


def options(settings: Settings) -> dict[str, Any]:
    """Return the arguments of a ``LogStore`` that keeps logs as these settings say."""
    names = ("ttl", "ttl_finished", "ttl_failed", "keep_head", "keep_tail", "max_memory")
    remember = settings.archive_remember if settings.archive else 0
    return {"remember": remember, "seals": settings.seal, **{name: getattr(settings, name) for name in names}}


class LogStore:
    """Reads and writes logs. Thread-safe; holds no state but the connection.

    All methods raise ``StoreUnavailable`` when Redis cannot be reached or refuses, and ``UnknownJob`` for a job id
    that RQ would not accept. A log lives for ``ttl`` seconds, or, once the job is over, for ``ttl_finished`` or, with
    any other outcome, ``ttl_failed``. Of a long log the first ``keep_head`` and the last ``keep_tail`` bytes of output
    are kept, or some more: no chunk is cut for that, and of one ``append`` all is kept until the next. All logs
    together take ``max_memory`` bytes at most, 0 for any number: see ``tailer.budget``. Jobs are listed for at least
    ``remember`` seconds; logs that are not ``listed`` appear in no list of jobs. ``seals`` tells whether finished logs
    are to be packed: see ``seal``.
    """

    def __init__(
        self,
        connection: redis.Redis,
        *,
        ttl: int = Settings.ttl,
        ttl_finished: int | None = None,
        ttl_failed: int | None = None,
        keep_head: int = Settings.keep_head,
        keep_tail: int = Settings.keep_tail,
        max_memory: int = 0,
        remember: int = 0,
        listed: bool = True,
        seals: bool = True,
    ) -> None:
        self.connection = connection
        self.seals = seals
        self.keep_head, self.keep_tail = keep_head, keep_tail
        self._times_ms = [1000 * (ttl if time is None else time) for time in (ttl_finished, ttl_failed)]
        self._index = JobIndex(connection, remember * 1000, listed=listed)
        self._budget = Budget(connection, max_memory) if max_memory else None
        self._start = connection.register_script(scripts.START)
        self._append = connection.register_script(scripts.APPEND)
        self._end = connection.register_script(scripts.END)
        self._keep_alive = connection.register_script(scripts.KEEP_ALIVE)
        self._read = connection.register_script(scripts.READ)
        self._locate = connection.register_script(scripts.LOCATE)
        self._seal = connection.register_script(scripts.SEAL)

    @classmethod
    def of(cls, connection: redis.Redis, settings: Settings) -> LogStore:
        """Return one that keeps logs as these settings say."""
        return cls(connection, **options(settings))

    @property
    def _life_ms(self) -> int:
        """How long a log lives that has no end yet."""
        return max(self._times_ms)

    # Writing: the worker's side.

    def start(self, job_id: str, attempt: Attempt) -> tuple[Cursor, int]:
        """Open the log of an RQ execution; returns where it stands and the newlines before that.

        Safe to repeat: the same execution gets the same attempt. ``attempt.number`` 0 asks for the next free
        number; another one asks for that very number, to rebuild an attempt that Redis has lost.

        Raises:
            LogClosed: that number belongs to another execution.
        """
        number = attempt.number or 1  # Most jobs run once: their number need not be asked for.
        with redis_errors():
            for _ in range(10):
                element = encode(replace(attempt, number=number))
                args: list[Any] = [number, attempt.execution, element, _payload(element), attempt.time]
                args += [wake_channel(job_id), *self._times_ms]
                found = self._start(keys=written_keys(job_id, number), args=args)
                if found and found[1:]:
                    self._index.touch(job_id, now_ms(), self._life_ms)
                    return Cursor(int(found[0]), int(found[1])), int(found[2])
                if found:
                    number = int(found[0])
                elif attempt.number:
                    break
                else:
                    number = int(self.connection.hget(meta_key(job_id), "attempts") or 0) + 1
        raise LogClosed(f"attempt {attempt.number} of job {job_id!r} belongs to another execution")

    def append(self, job_id: str, at: Cursor, elements: Sequence[bytes], *, end: int, lines: int) -> int:
        """Add ``elements``, which stand for the bytes from ``at`` to ``end``; returns the log's end offset now.

        A return value of ``end`` means that they are stored, by this call or an earlier one. Any other value means
        that nothing was added, because the log ends there: send again from that offset. ``lines`` counts all
        newlines before ``end``.

        Raises:
            AttemptMissing: the store has no such attempt (any more).
            LogClosed: the attempt has its end record.
        """
        keys = [name(job_id, at.attempt) for name in (list_key, tail_key)]
        args: list[Any] = [at.attempt, at.offset, end, lines, self._life_ms, wake_channel(job_id)]
        with redis_errors():
            answer = self._append(
                keys=[meta_key(job_id), *keys], args=[*args, self.keep_head, self.keep_tail, *elements]
            )
        return self._offset(job_id, at.attempt, answer)

    def end(self, job_id: str, end: End) -> int:
        """Write the end record; returns the log's end offset, which differs from ``end.bytes`` if nothing was written.

        Safe to repeat. ``final`` becomes false if a later attempt exists already. A log that was ended as lost takes
        a real end record after all; any other second one is refused.

        Raises:
            AttemptMissing, LogClosed: as ``append``.
        """
        args: list[Any] = [end.attempt, end.bytes]
        for final in (end.final, False):
            element = encode(replace(end, final=final))
            args += [element, _payload(element)]
        how = 1 if end.outcome == "finished" else 2
        args += [wake_channel(job_id), "0" if end.outcome == "lost" else "1", how if end.final else 0, *self._times_ms]
        with redis_errors():
            answer = self._end(keys=written_keys(job_id, end.attempt), args=args)
            offset, life = (answer, self._life_ms) if isinstance(answer, bytes) else answer
            self._index.touch(job_id, now_ms(), int(life))
        if self._budget:
            self._budget.weigh(job_id, int(life), over=end.final)
        return self._offset(job_id, end.attempt, offset)

    def _offset(self, job_id: str, attempt: int, answer: bytes) -> int:
        if answer == b"missing":
            raise AttemptMissing(f"the store has no attempt {attempt} of job {job_id!r}")
        if answer == b"closed":
            raise LogClosed(f"attempt {attempt} of job {job_id!r} has its end record")
        return int(answer)

    def keep_alive(self, job_id: str, attempt: int) -> None:
        """Say that a worker still writes this attempt; to be repeated at least every ``ALIVE_MS``.

        Raises:
            AttemptMissing: the store has no such attempt (any more).
        """
        with redis_errors():
            known = self._keep_alive(keys=written_keys(job_id, attempt), args=[attempt, self._life_ms])
            if known:
                # A job that runs for longer than entries are kept would drop out of the list of jobs.
                self._index.touch(job_id, now_ms(), self._life_ms, only_if_missing=True)
                if self._budget:
                    self._budget.weigh(job_id, self._life_ms)
        if not known:
            raise AttemptMissing(f"the store has no attempt {attempt} of job {job_id!r}")

    def delete(self, job_id: str) -> None:
        """Remove all of a job's log. Followers are told that it is gone."""
        with redis_errors():
            _, keys = all_keys(self.connection, job_id)
            self.connection.delete(*keys)
            self._index.remove(job_id)
            if self._budget:
                self._budget.forget(job_id)
            self.connection.publish(wake_channel(job_id), "0")

    def seal(self, job_id: str, attempt: int, *, always: bool = False) -> Iterator[None]:
        """Pack what a finished attempt's lists hold into few large elements, where that saves room, or ``always``.

        In steps of some 10 ms, between each of which it yields, and may be given up. Readers need not know.
        """
        # A generator would look at the id only when its first step is done.
        return self._seal_lists(check_job_id(job_id), attempt, always=always)

    def _seal_lists(self, job_id: str, attempt: int, *, always: bool) -> Iterator[None]:
        summary = self.summary(job_id)
        one = summary.attempt(attempt) if summary else None
        # A worker that was thought lost may come back, and goes on in its list.
        if not (self.seals and one and one.end and one.end.outcome != "lost"):
            return
        keys = list_key(job_id, attempt), tail_key(job_id, attempt)
        with redis_errors():
            counts = [int(self.connection.llen(key)) for key in keys]
            if not (always or sealed.worthwhile(one.bytes - (one.gap.length if one.gap else 0), sum(counts))):
                return
            ended = self.connection.hget(meta_key(job_id), f"{attempt}.ended") or b""
            gain = -1 if always else sealed.GAIN
            head = yield from sealed.pack(self.connection, keys[0], counts[0], gain=gain)
            tail = yield from sealed.pack(self.connection, keys[1], counts[1], gain=gain)
            if head or tail:
                self._seal(keys=[meta_key(job_id), *keys], args=[attempt, ended, *counts, len(head), *head, *tail])
            if self._budget:
                self._budget.weigh(job_id, max(1, self.connection.pttl(keys[0])), over=one.end.final)

    # Reading.

    @property
    def near(self) -> LogStore:
        """What answers from Redis alone, for those who must not wait for an archive."""
        return self

    def kept(self, job_id: str) -> LogSummary | None:
        """Return what the archive, if there is one, knows of a log that Redis does not have."""
        check_job_id(job_id)
        return None

    def check(self, job_id: str, attempt: int) -> None:  # noqa: ARG002 (an archive may have one and lack another)
        """Raise what keeps the attempt from being read, if that shows beforehand: see ``tailer.archived``."""
        check_job_id(job_id)

    def alive(self, job_id: str, attempt: int) -> bool:
        """Return whether a worker writes this attempt, as far as Redis knows."""
        return self.living([(job_id, attempt)])[0]

    def living(self, attempts: Sequence[tuple[str, int]]) -> list[bool]:
        """Return ``alive`` of each attempt of a job, in one round trip."""
        keys = [alive_key(job_id, attempt) for job_id, attempt in attempts]
        together = 1 if isinstance(self.connection, Cluster) else 100  # as one command takes keys of one slot only
        with redis_errors(), self.connection.pipeline(transaction=False) as pipe:
            for start in range(0, len(keys), together):
                pipe.mget(keys[start : start + together])
            return [value is not None for values in pipe.execute() for value in values]

    def expired(self, job_id: str) -> bool:
        """Return whether the job had a log whose life time is over; told for as long again as the log lived."""
        with redis_errors():
            return self._index.has(check_job_id(job_id)) and self.summary(job_id) is None

    def summary(self, job_id: str) -> LogSummary | None:
        """Return what is known of a job's log, ``None`` if it has none."""
        (found,) = self.summaries([job_id])
        if isinstance(found, CorruptRecord):
            raise found
        return found

    def summaries(self, job_ids: Sequence[str]) -> list[LogSummary | CorruptRecord | None]:
        """Return ``summary`` of each job, in one round trip. A log that cannot be read has its error in its place."""
        with redis_errors(), self.connection.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hgetall(meta_key(job_id))
            answers = pipe.execute(raise_on_error=False)
        return [_summary(job_id, answer) for job_id, answer in zip(job_ids, answers, strict=True)]

    def jobs(self, *, limit: int = 50, before: tuple[int, str] | None = None) -> list[tuple[int, str]]:
        """Return time (ms) of the last start or end, and id, of jobs with a log, newest first.

        ``before`` is the last entry of the page before.
        """
        highest = "+inf" if before is None else before[0]
        entries: list[tuple[int, str]] = []
        start, size = 0, limit + 1
        while True:
            with redis_errors():
                found = self._index.page(highest, start, size)
            for job_id, score in found:
                entry = int(score), job_id.decode(errors="replace")
                # Entries of the same millisecond as ``before`` come again.
                if JOB_ID.fullmatch(entry[1]) and (before is None or entry < before):
                    entries.append(entry)
            if len(entries) >= limit or len(found) < size:
                return entries[:limit]
            start += size

    def line(self, job_id: str, attempt: int, line: int) -> Cursor:
        """Return where that line (from 1) begins; the log's end if it does not have so many.

        A line that begins among bytes the log does not have is where these begin, so that a reader learns of them.
        """
        if line <= 1:
            return Cursor(attempt, 0)
        _, offset, element = self.find(job_id, attempt, "line", line)
        record = _readable(element)
        if isinstance(record, Hole) and line == record.line + record.lines:
            behind = _readable(self.find(job_id, attempt, "offset", record.end)[2])
            if isinstance(behind, Chunk | Hole) and not behind.midline:
                offset = record.end
        if isinstance(record, Chunk):
            position = -1
            for _ in range(line - record.line):
                position = record.data.index(b"\n", position + 1)
            offset += position + 1
        return Cursor(attempt, offset)

    def tail(self, job_id: str, lines: int, *, attempt: int | None = None) -> Cursor:
        """Return where the last ``lines`` lines begin, of one attempt or of the whole log.

        An unfinished last line counts as one. With fewer lines than that, it is the beginning.
        """
        summary = self.summary(job_id)
        attempts = [one for one in summary.attempts if attempt in {None, one.number}] if summary else []
        for one in reversed(attempts):
            here = one.lines + self._unfinished(job_id, one)
            if lines <= here:
                return self.line(job_id, one.number, here - lines + 1)
            lines -= here
        return Cursor(attempts[0].number if attempts else 1, 0)

    def _unfinished(self, job_id: str, attempt: AttemptSummary) -> int:
        """Return 1 if the attempt's output does not end with a newline, else 0."""
        if not attempt.bytes:
            return 0
        records = self.reader(job_id, Cursor(attempt.number, attempt.bytes - 1)).read()
        last = next((record for record in records if isinstance(record, Chunk | Hole)), None)
        return int(isinstance(last, Chunk) and last.data[:1] != b"\n")

    def since(self, job_id: str, time: int) -> Cursor:
        """Return where the first bytes read by a worker at or after ``time`` (ms) begin; else the log's end."""
        summary = self.summary(job_id)
        if summary is None:
            return Cursor()
        for attempt in summary.attempts:
            _, offset, element = self.find(job_id, attempt.number, "time", time)
            if element is not None:
                return Cursor(attempt.number, offset)
        return Cursor(summary.last.number, summary.last.bytes)

    def end_of(self, job_id: str, attempt: int) -> Cursor:
        """Return the cursor behind all that the attempt has so far."""
        with redis_errors():
            return Cursor(attempt, int(self.connection.hget(meta_key(job_id), f"{attempt}.end") or 0))

    def find(self, job_id: str, attempt: int, what: str, value: int) -> tuple[int, int, bytes | None]:
        """Return index, offset and bytes of the first element that reaches an ``offset``, a ``line`` or a ``time``.

        Of a sealed one, offset and bytes are those of the first element in it that does.

        One round trip, or a few where the log is over its limit. If there is none, index and offset are those behind
        the last one, and the bytes ``None``.
        """
        keys, meta = [list_key(job_id, attempt)], meta_key(job_id)
        args: list[Any] = [what, value, attempt]
        with redis_errors():
            with self.connection.pipeline(transaction=False) as pipe:
                # In this order, so that the index of what is sealed in between is none of a sealed list.
                pipe.hmget(meta, f"{attempt}.gap", f"{attempt}.sealed")
                pipe.evalsha(_LOCATE_SHA, 1, *keys, *args)
                flags, found = pipe.execute(raise_on_error=False)
            for answer in (flags, found):
                if isinstance(answer, Exception) and not isinstance(answer, NoScriptError):
                    raise answer
            gap, is_sealed = flags
            if isinstance(found, NoScriptError):
                found = self._locate(keys=keys, args=args)
            if gap and not found[3]:
                found = self._locate(keys=[*keys, tail_key(job_id, attempt), meta], args=args)
        index, offset, element, _ = found
        index += sealed.FIRST if is_sealed else 0
        if element is not None and element.startswith(b"p "):
            with suppress(CorruptRecord):
                inner = (one for one in sealed.elements(element) if header(one).reaches(what, value))
                element = next(inner, element)
                offset = header(element).offset
        return index, offset, element

    def elements(self, job_id: str, attempt: int, first: int, last: int) -> list[bytes] | None:
        """Return the elements of an attempt's log from index ``first`` to ``last``, as far as they are there.

        ``last`` -1 is for all of them. Where elements were removed a hole record is among those that are returned,
        whose ``next`` is the index of the one behind it. ``None``: ``first`` is an index of another list than the one
        that is there: one that was sealed, or was not.
        """
        (found,) = self._ranges([(job_id, attempt, first, last)])
        with redis_errors():
            if isinstance(found, Exception):
                raise found
        return None if found is None else list(found)

    def _ranges(self, wanted: Sequence[tuple[str, int, int, int]]) -> list[Any]:
        """Return what ``elements`` does for each, or redis-py's error, in one round trip, or two for long logs."""
        behind: list[tuple[int, list[str], list[int]]] = []
        with redis_errors(), self.connection.pipeline(transaction=False) as pipe:
            for job_id, attempt, first, last in wanted:
                # For nearly all logs this is the whole, and a cluster can do it while it moves the slot.
                pipe.lrange(list_key(job_id, attempt), *sealed.places(first, last))
                pipe.hmget(meta_key(job_id), f"{attempt}.gap", f"{attempt}.sealed")
            answers = pipe.execute(raise_on_error=False)
            found = answers[::2]
            for number, ((job_id, attempt, first, last), flags) in enumerate(zip(wanted, answers[1::2], strict=True)):
                if isinstance(found[number], Exception) or isinstance(flags, Exception):
                    continue
                if (flags[1] is not None) != (first >= sealed.FIRST):
                    found[number] = None
                elif flags[0] is not None and (last < 0 or len(found[number]) <= last - first):
                    keys = [list_key(job_id, attempt), tail_key(job_id, attempt), meta_key(job_id)]
                    base = sealed.FIRST if flags[1] else 0
                    behind.append((number, keys, [attempt, *sealed.places(first, last), base]))
            for _, keys, args in behind:
                pipe.evalsha(_READ_SHA, len(keys), *keys, *map(str, args))
            more = pipe.execute(raise_on_error=False) if behind else []
        for (number, keys, args), answer in zip(behind, more, strict=True):
            with redis_errors():
                found[number] = self._read(keys=keys, args=args) if isinstance(answer, NoScriptError) else answer
        return found

    def reader(self, job_id: str, at: Cursor) -> LogReader:
        """Return a reader that begins at ``at``."""
        return LogReader(self, check_job_id(job_id), at)

    def fetch(self, readers: Sequence[LogReader]) -> list[list[Record | None] | TailerError]:
        """Return what ``LogReader.fetch`` does for each of them, in few round trips for all that know their index.

        A log that cannot be read has an error in its place.
        """
        known = [reader for reader in readers if reader.index is not None]
        answers = iter(self._ranges([(reader.job_id, reader.attempt, *reader.span()) for reader in known]))
        return [_fetched(reader, None if reader.index is None else next(answers)) for reader in readers]


def _summary(job_id: str, answer: Any) -> LogSummary | CorruptRecord | None:
    try:
        with redis_errors():
            if isinstance(answer, Exception):
                raise answer
    except CorruptRecord as error:
        return error
    return parse_summary(job_id, answer)


def _fetched(reader: LogReader, answer: Any) -> list[Record | None] | TailerError:
    """Return what ``reader.fetch`` would, with what Redis answered already, if it was asked."""
    try:
        with redis_errors():
            if isinstance(answer, Exception):
                raise answer
        return reader.fetch(answer)
    except CorruptRecord as error:
        return error


def _payload(element: bytes) -> bytes:
    """Return what stands behind an element's header."""
    return element.partition(b"\n")[2]


def _readable(element: bytes | None) -> Record | None:
    if element is None:
        return None
    try:
        return decode(element)
    except CorruptRecord:
        return None
