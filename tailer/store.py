"""The log store: all that Tailer keeps in Redis, and every command it sends for it.

Every key of a job carries the hash tag ``{JOB}``, so that a Redis Cluster holds a job in one slot.

=========================  ========  ===========================================================================
key                        type      what
=========================  ========  ===========================================================================
``tailer:{JOB}:N``         list      the log of attempt N (from 1): one element a record, see ``tailer.records``
``tailer:{JOB}``           hash      ``attempts`` the highest N; ``x.EXECUTION`` the N of an RQ execution; and per
                                     attempt ``N.end`` bytes, ``N.lines`` newlines, ``N.started`` ms,
                                     ``N.about`` the attempt record's JSON, ``N.ended`` the end record's JSON,
                                     ``N.archived`` the time (ms) of the end with which it was archived
``tailer:{JOB}:N:alive``   string    there while a worker writes the attempt; 15 s, refreshed every 5 s
``tailer:{JOB}:wake``      channel   a message after every change: the number of the attempt; after an append of one
                                     small element also its index in the list, and the element, behind a space each
``tailer:jobs``            zset      job ids by the time (ms) of their last start or end
``tailer:{.figures}``      zset      and hashes ``tailer:{.figures}:QUEUE``: see ``tailer.figures``
=========================  ========  ===========================================================================

Life time: the hash and the lists live for ``ttl`` seconds after the worker's last sign of life (``TAILER_TTL``, a
week); entries of ``tailer:jobs`` for twice as long, so that "expired" can be told from "never was". Nothing is
deleted at the end of a job: late readers find the whole log. With an archive (``tailer.archived``) the list of an
archived attempt goes earlier, and the hash and the entry later, so that it is still listed and attempts count on.

Writing is one script each for starting, appending and ending, atomic and safe to repeat. An append names the
offset at which it belongs: one that was applied already changes nothing, one that would leave a gap is refused
with the offset that the store really has. Reading never writes.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from tailer.cluster import Cluster
from tailer.errors import (
    AttemptMissing,
    CorruptRecord,
    LogClosed,
    StoreUnavailable,
    TailerError,
    UnknownJob,
    UntrustedRedis,
)
from tailer.reader import Cursor as Cursor  # noqa: PLC0414 (it is part of this module's interface)
from tailer.reader import LogReader
from tailer.records import (
    Attempt,
    Chunk,
    End,
    Hole,
    Record,
    attempt_from_json,
    decode,
    encode,
    end_from_json,
)
from tailer.settings import CLUSTER, SENTINEL, cluster_url, sentinel_url

logger = logging.getLogger(__name__)

ALIVE_MS = 15_000
"""Life of the alive key. A worker refreshes it every third of that."""
JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")
"""RQ's own rule for job ids (``rq.job.JOB_ID_PATTERN``), with an upper bound: an id becomes part of a key."""
INDEX = "tailer:jobs"
MAX_CONNECTIONS = 32
"""Connections of one process to one Redis. More callers than that take turns; redis-py's other pool would fail them."""
TURN_S = 30.0
"""How long a caller waits for its turn: thousands of clients that come at once take some seconds, in no fair order."""

_KEEP = """
-- KEYS meta, list, alive, the lists of the attempts before
local function keep(ttl)
  for index, key in ipairs(KEYS) do if index ~= 3 then redis.call('PEXPIRE', key, ttl) end end
end
"""

_START = (
    _KEEP
    + """
-- ARGV number, execution, attempt element, its JSON, now ms, ttl ms, channel. Returns the number alone if it is
-- another one, whose keys are not among these.
local number = ARGV[1]
local known = redis.call('HGET', KEYS[1], 'x.' .. ARGV[2])
if known and known ~= number then return {known} end
if not known then
  if tonumber(number) <= tonumber(redis.call('HGET', KEYS[1], 'attempts') or '0') then return false end
  redis.call('HSET', KEYS[1], 'attempts', number, 'x.' .. ARGV[2], number, number .. '.end', '0',
    number .. '.lines', '0', number .. '.started', ARGV[5], number .. '.about', ARGV[4])
  -- A list without its hash is what an eviction left of another log.
  redis.call('DEL', KEYS[2])
  redis.call('RPUSH', KEYS[2], ARGV[3])
  keep(ARGV[6])
end
redis.call('SET', KEYS[3], '1', 'PX', 15000)
redis.call('PUBLISH', ARGV[7], number)
return {number, redis.call('HGET', KEYS[1], number .. '.end'), redis.call('HGET', KEYS[1], number .. '.lines')}
"""
)

_APPEND = """
-- KEYS meta, list; ARGV number, offset, offset after, lines after, ttl ms, channel, element...
local number = ARGV[1]
local at = redis.call('HGET', KEYS[1], number .. '.end')
if not at then return 'missing' end
local ended = redis.call('HGET', KEYS[1], number .. '.ended')
if ended then
  -- A worker thought lost that comes back goes on; its real end record will be the last one.
  if not string.find(ended, '"outcome":"lost"', 1, true) then return 'closed' end
end
if at ~= ARGV[2] then return at end
local length
-- Lua's stack takes some 8,000 arguments at once.
for i = 7, #ARGV, 1000 do length = redis.call('RPUSH', KEYS[2], unpack(ARGV, i, math.min(i + 999, #ARGV))) end
if ended then redis.call('HDEL', KEYS[1], number .. '.ended') end
redis.call('HSET', KEYS[1], number .. '.end', ARGV[3], number .. '.lines', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
-- A larger element is worth a round trip of whoever wants it, and not a copy for everybody who listens.
local told = #ARGV == 7 and #ARGV[7] <= 2048
redis.call('PUBLISH', ARGV[6], told and number .. ' ' .. length - 1 .. ' ' .. ARGV[7] or number)
return ARGV[3]
"""

_END = (
    _KEEP
    + """
-- ARGV number, offset, element and JSON if it is the last attempt, element and JSON if not, ttl ms,
-- channel, "1" to take back a lost end
local number = ARGV[1]
local at = redis.call('HGET', KEYS[1], number .. '.end')
if not at then return 'missing' end
local ended = redis.call('HGET', KEYS[1], number .. '.ended')
if ended == ARGV[4] or ended == ARGV[6] then return at end
if ended and not (ARGV[9] == '1' and string.find(ended, '"outcome":"lost"', 1, true)) then return 'closed' end
if at ~= ARGV[2] then return at end
local last = tonumber(redis.call('HGET', KEYS[1], 'attempts')) <= tonumber(number)
redis.call('RPUSH', KEYS[2], last and ARGV[3] or ARGV[5])
redis.call('HSET', KEYS[1], number .. '.ended', last and ARGV[4] or ARGV[6])
redis.call('DEL', KEYS[3])
keep(ARGV[7])
redis.call('PUBLISH', ARGV[8], number)
return at
"""
)

_KEEP_ALIVE = (
    _KEEP
    + """
-- ARGV number, ttl ms
if redis.call('HEXISTS', KEYS[1], ARGV[1] .. '.end') == 0 then return 0 end
redis.call('SET', KEYS[3], '1', 'PX', 15000)
keep(ARGV[2])
return 1
"""
)

_LOCATE = """
-- KEYS list; ARGV what ('offset', 'line' or 'time'), value. Returns the index of the first element that reaches
-- value, the offset at which it begins, and the element. Headers are in order, so a binary search does. One that
-- cannot be read is taken for one that reaches value if the next readable one does, unless value begins in that one.
local value = tonumber(ARGV[2])
local low, high = 0, redis.call('LLEN', KEYS[1])
local function header(index)
  return string.match(redis.call('LINDEX', KEYS[1], index), '^%l (%d+) (%d+) (%d+) (%d+) (%d+) ')
end
local function readable(index)
  while index < high do
    local time, offset, length, line, lines = header(index)
    if time then return index, tonumber(time), tonumber(offset), tonumber(length), tonumber(line), tonumber(lines) end
    index = index + 1
  end
end
local function reaches(time, offset, length, line, lines)
  if ARGV[1] == 'time' then return time >= value end
  if ARGV[1] == 'line' then return line + lines >= value end
  return offset >= value or offset + length > value
end
while low < high do
  local middle = math.floor((low + high) / 2)
  local index, time, offset, length, line, lines = readable(middle)
  if not index or reaches(time, offset, length, line, lines) then high = middle else low = index + 1 end
end
high = redis.call('LLEN', KEYS[1])
local index, _, offset, _, line = readable(low)
if index ~= low then
  if index and ((ARGV[1] == 'line' and line < value) or (ARGV[1] == 'offset' and offset < value)) then
    low = index
  else
    offset = 0
    for before = low - 1, 0, -1 do
      local time, start, length = header(before)
      if time then offset = start + length break end
    end
  end
end
return {low, offset, redis.call('LINDEX', KEYS[1], low)}
"""


@dataclass(frozen=True, slots=True)
class AttemptSummary:
    """What is known of an attempt without reading its log."""

    number: int
    started: int
    bytes: int
    lines: int
    about: Attempt | None
    end: End | None
    archived: bool = False
    """Whether the archive has all of it."""


@dataclass(frozen=True, slots=True)
class LogSummary:
    """What is known of a job's log without reading it. ``attempts`` are in order; there is at least one."""

    job_id: str
    attempts: Sequence[AttemptSummary] = field(default_factory=list)

    @property
    def last(self) -> AttemptSummary:
        """The newest attempt."""
        return self.attempts[-1]

    def attempt(self, number: int) -> AttemptSummary | None:
        """Return that attempt, ``None`` if the store does not have it."""
        return next((attempt for attempt in self.attempts if attempt.number == number), None)

    def after(self, number: int) -> AttemptSummary | None:
        """Return the attempt that follows ``number``, if there is one."""
        return next((attempt for attempt in self.attempts if attempt.number > number), None)


def connect(url: str, *, timeout: float = 5.0) -> redis.Redis:
    """Return a client with explicit timeouts (seconds) and without redis-py's own retries.

    redis-py repeats a command whose answer did not come, up to ten times, which appends twice what is not safe to
    repeat and keeps a caller waiting for a minute. Tailer repeats by itself, where it knows that it may.
    """
    options: dict[str, Any] = {
        "max_connections": MAX_CONNECTIONS,
        "timeout": TURN_S,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "health_check_interval": 30,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
    }
    if not url.startswith("unix:"):
        options["socket_keepalive"] = True
    if url.startswith(CLUSTER):
        places, credentials = cluster_url(url)
        return Cluster(places, {**credentials, **options})
    if url.startswith(SENTINEL):
        return redis.Redis(connection_pool=_found_by_sentinels(url, options))
    return redis.Redis(connection_pool=redis.BlockingConnectionPool.from_url(url, **options))


class _SentinelPool(SentinelConnectionPool, redis.BlockingConnectionPool):
    """Connections to whichever server the sentinels name as the master when they are opened."""


def _found_by_sentinels(url: str, options: dict[str, Any]) -> _SentinelPool:
    sentinels, name, credentials = sentinel_url(url)
    asked = {key: options[key] for key in ("socket_timeout", "socket_connect_timeout", "retry")}
    manager = Sentinel(sentinels, sentinel_kwargs=asked)  # type: ignore[no-untyped-call]
    return _SentinelPool(name, manager, **credentials, **options)  # type: ignore[no-untyped-call]


def check_job_id(job_id: str) -> str:
    """Return ``job_id`` if RQ would accept it; raises ``UnknownJob`` otherwise, so that it never becomes a key."""
    if not JOB_ID.fullmatch(job_id):
        raise UnknownJob(job_id)
    return job_id


def meta_key(job_id: str) -> str:
    """Name of the hash of a job, and the start of its other keys."""
    return f"tailer:{{{check_job_id(job_id)}}}"


def list_key(job_id: str, attempt: int) -> str:
    """Name of the list that holds an attempt's log."""
    return f"{meta_key(job_id)}:{attempt}"


def alive_key(job_id: str, attempt: int) -> str:
    """Name of the key that is there while a worker writes the attempt."""
    return f"{list_key(job_id, attempt)}:alive"


def _written_keys(job_id: str, attempt: int) -> list[str]:
    """Keys that a script may touch: a cluster that moves a slot looks whether it has those that are declared."""
    before = [list_key(job_id, number) for number in range(1, attempt)]
    return [meta_key(job_id), list_key(job_id, attempt), alive_key(job_id, attempt), *before]


def wake_channel(job_id: str) -> str:
    """Name of the channel on which changes of a job's log are told."""
    return f"{meta_key(job_id)}:wake"


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turn redis-py's errors into ``StoreUnavailable``, with Redis's own words.

    A key of the wrong type becomes ``CorruptRecord``: it would not help to wait. Nor would it with a certificate that
    is not trusted, ``UntrustedRedis``.
    """
    try:
        yield
    except redis.RedisError as error:
        if "WRONGTYPE Operation" in str(error):
            raise CorruptRecord(f"Redis: {error}") from error
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise UntrustedRedis(str(error)) from error
        raise StoreUnavailable(f"Redis: {error}" if str(error) else f"Redis: {type(error).__name__}") from error


class LogStore:
    """Reads and writes logs. Thread-safe; holds no state but the connection.

    All methods raise ``StoreUnavailable`` when Redis cannot be reached or refuses, and ``UnknownJob`` for a job id
    that RQ would not accept. ``ttl`` is in seconds, and so is ``remember``, for how long at least entries of the index
    are kept. Logs that are not ``listed`` appear in no list of jobs.
    """

    def __init__(
        self, connection: redis.Redis, *, ttl: int = 7 * 24 * 3600, remember: int = 0, listed: bool = True
    ) -> None:
        self.connection = connection
        self._listed = listed
        self._ttl_ms = ttl * 1000
        self._index_ms = max(2 * ttl, remember) * 1000
        self._start = connection.register_script(_START)
        self._append = connection.register_script(_APPEND)
        self._end = connection.register_script(_END)
        self._keep_alive = connection.register_script(_KEEP_ALIVE)
        self._locate = connection.register_script(_LOCATE)

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
                args: list[Any] = [number, attempt.execution, element, _payload(element), attempt.time, self._ttl_ms]
                found = self._start(keys=_written_keys(job_id, number), args=[*args, wake_channel(job_id)])
                if found and found[1:]:
                    self._touch_index(job_id)
                    return Cursor(int(found[0]), int(found[1])), int(found[2])
                if found:
                    number = int(found[0])
                elif attempt.number:
                    break
                else:
                    number = int(self.connection.hget(meta_key(job_id), "attempts") or 0) + 1
        raise LogClosed(f"attempt {attempt.number} of job {job_id!r} belongs to another execution")

    def _touch_index(self, job_id: str, *, only_if_missing: bool = False) -> None:
        if not self._listed:
            return
        now = now_ms()
        with self.connection.pipeline(transaction=False) as pipe:
            pipe.zadd(INDEX, {job_id: now}, nx=only_if_missing)
            pipe.zremrangebyscore(INDEX, "-inf", now - self._index_ms)
            pipe.pexpire(INDEX, self._index_ms)
            pipe.execute()

    def append(self, job_id: str, at: Cursor, elements: Sequence[bytes], *, end: int, lines: int) -> int:
        """Add ``elements``, which stand for the bytes from ``at`` to ``end``; returns the log's end offset now.

        A return value of ``end`` means that they are stored, by this call or an earlier one. Any other value means
        that nothing was added, because the log ends there: send again from that offset. ``lines`` counts all
        newlines before ``end``.

        Raises:
            AttemptMissing: the store has no such attempt (any more).
            LogClosed: the attempt has its end record.
        """
        keys = [meta_key(job_id), list_key(job_id, at.attempt)]
        args: list[Any] = [at.attempt, at.offset, end, lines, self._ttl_ms, wake_channel(job_id), *elements]
        with redis_errors():
            answer = self._append(keys=keys, args=args)
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
        args += [self._ttl_ms, wake_channel(job_id), "0" if end.outcome == "lost" else "1"]
        with redis_errors():
            answer = self._end(keys=_written_keys(job_id, end.attempt), args=args)
            if self._listed:
                self.connection.zadd(INDEX, {job_id: now_ms()})
        return self._offset(job_id, end.attempt, answer)

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
            known = self._keep_alive(keys=_written_keys(job_id, attempt), args=[attempt, self._ttl_ms])
            if known:
                # A job that runs for longer than entries are kept would drop out of the list of jobs.
                self._touch_index(job_id, only_if_missing=True)
        if not known:
            raise AttemptMissing(f"the store has no attempt {attempt} of job {job_id!r}")

    def delete(self, job_id: str) -> None:
        """Remove all of a job's log. Followers are told that it is gone."""
        key = meta_key(job_id)
        with redis_errors():
            attempts = int(self.connection.hget(key, "attempts") or 0)
            keys = [name(job_id, n) for n in range(1, attempts + 1) for name in (list_key, alive_key)]
            self.connection.delete(key, *keys)
            self.connection.zrem(INDEX, job_id)
            self.connection.publish(wake_channel(job_id), "0")

    # Reading.

    @property
    def near(self) -> LogStore:
        """What answers from Redis alone, for those who must not wait for an archive."""
        return self

    def kept(self, job_id: str) -> LogSummary | None:  # noqa: ARG002 (a store without an archive)
        """Return what the archive, if there is one, knows of a log that Redis does not have."""
        return None

    def check(self, job_id: str, attempt: int) -> None:
        """Raise what keeps the attempt from being read, if that shows beforehand: see ``tailer.archived``."""

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
            return self.connection.zscore(INDEX, check_job_id(job_id)) is not None and self.summary(job_id) is None

    def summary(self, job_id: str) -> LogSummary | None:
        """Return what is known of a job's log, ``None`` if it has none."""
        return self.summaries([job_id])[0]

    def summaries(self, job_ids: Sequence[str]) -> list[LogSummary | None]:
        """Return ``summary`` of each job, in one round trip."""
        with redis_errors(), self.connection.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hgetall(meta_key(job_id))
            return [_summary(job_id, values) for job_id, values in zip(job_ids, pipe.execute(), strict=True)]

    def jobs(self, *, limit: int = 50, before: tuple[int, str] | None = None) -> list[tuple[int, str]]:
        """Return time (ms) of the last start or end, and id, of jobs with a log, newest first.

        ``before`` is the last entry of the page before.
        """
        highest = "+inf" if before is None else before[0]
        entries: list[tuple[int, str]] = []
        start, size = 0, limit + 1
        while True:
            with redis_errors():
                found: Any = self.connection.zrevrangebyscore(
                    INDEX, highest, "-inf", start=start, num=size, withscores=True
                )
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

        One round trip. If there is none, index and offset are those behind the last one, and the bytes ``None``.
        """
        with redis_errors():
            index, offset, element = self._locate(keys=[list_key(job_id, attempt)], args=[what, value])
        return index, offset, element

    def elements(self, job_id: str, attempt: int, first: int, last: int) -> list[bytes]:
        """Return the elements of an attempt's list from index ``first`` to ``last``, as far as they are there."""
        with redis_errors():
            found: Any = self.connection.lrange(list_key(job_id, attempt), first, last)
        return list(found)

    def reader(self, job_id: str, at: Cursor) -> LogReader:
        """Return a reader that begins at ``at``."""
        return LogReader(self, check_job_id(job_id), at)

    def fetch(self, readers: Sequence[LogReader]) -> list[list[Record | None] | TailerError]:
        """Return what ``LogReader.fetch`` does for each of them, in one round trip for all that know their index.

        A log that cannot be read has an error in its place.
        """
        with redis_errors(), self.connection.pipeline(transaction=False) as pipe:
            for reader in readers:
                if reader.index is not None:
                    pipe.lrange(list_key(reader.job_id, reader.attempt), *reader.span())
            answers = iter(pipe.execute(raise_on_error=False))
        return [_fetched(reader, None if reader.index is None else next(answers)) for reader in readers]


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


def _summary(job_id: str, values: dict[bytes, bytes]) -> LogSummary | None:
    text = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in values.items()}
    numbers = sorted(int(name[:-4]) for name in text if re.fullmatch(r"[1-9][0-9]*\.end", name))
    if not numbers:
        return None
    return LogSummary(job_id, [_attempt_summary(number, text) for number in numbers])


def _attempt_summary(number: int, text: dict[str, str]) -> AttemptSummary:
    end = end_from_json(text.get(f"{number}.ended", ""))
    return AttemptSummary(
        number=number,
        started=_count(text.get(f"{number}.started")),
        bytes=_count(text.get(f"{number}.end")),
        lines=_count(text.get(f"{number}.lines")),
        about=attempt_from_json(text.get(f"{number}.about", "")),
        end=end,
        archived=end is not None and text.get(f"{number}.archived") == str(end.time),
    )


def _count(text: str | None) -> int:
    """Read a number that somebody else may have overwritten."""
    return int(text) if text and re.fullmatch("[0-9]{1,18}", text) else 0
