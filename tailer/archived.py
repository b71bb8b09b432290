"""Logs of which the archive has what Redis has no more: the same store, with the same answers.

Archiving leaves a log's hash in Redis, so that jobs are listed, attempts counted and access decided as before, without
a look into the archive. The lists go. Where the hash is gone as well, the archive tells of a log by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis

from tailer import sealed
from tailer.errors import LogExpired
from tailer.settings import Settings
from tailer.store import (
    INDEX,
    Cursor,
    LogStore,
    LogSummary,
    connect,
    list_key,
    meta_key,
    options,
    redis_errors,
    tail_key,
)

if TYPE_CHECKING:
    from tailer.archive import Archive

_SHELVE = """
-- KEYS meta, lists; ARGV number, time of the archived end, how long at least the hash lives (ms), how long at most the
-- lists do, or "" for as long as they would anyway. Returns whether the attempt is there, and has ended.
if redis.call('HEXISTS', KEYS[1], ARGV[1] .. '.ended') == 0 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1] .. '.archived', ARGV[2])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
for list = 2, 3 do
  if ARGV[4] ~= '' and redis.call('PTTL', KEYS[list]) > tonumber(ARGV[4]) then
    redis.call('PEXPIRE', KEYS[list], ARGV[4])
  end
end
return 1
"""

_HOLD = """
-- KEYS meta, lists; ARGV how long all live at least (ms)
for _, key in ipairs(KEYS) do
  local left = redis.call('PTTL', key)
  if left >= 0 and left < tonumber(ARGV[1]) then redis.call('PEXPIRE', key, ARGV[1]) end
end
"""


def open_store(settings: Settings, *, patience: float = 10.0) -> LogStore:
    """Return the store that the settings name. Connects to nothing yet. ``patience``: see ``Objects``."""
    connection = connect(settings.log_url or settings.rq_url)
    if settings.archive is None:
        return LogStore.of(connection, settings)
    from tailer.archive import Archive  # noqa: PLC0415 (only for those who have an archive)
    from tailer.objects import Objects  # noqa: PLC0415

    archive = Archive(Objects(settings.archive, patience=patience))
    return ArchivedStore(connection, archive, **options(settings))


class ArchivedStore(LogStore):
    """A ``LogStore`` that reads from the archive what Redis no longer has; that part raises ``ArchiveUnavailable``.

    Lists of jobs, and what answers for several of them at once, are of those that Redis remembers.
    """

    def __init__(self, connection: redis.Redis, archive: Archive, *, remember: int = 0, **kept: Any) -> None:
        super().__init__(connection, remember=remember, **kept)
        self.archive = archive
        self._near = LogStore(connection, remember=remember, **kept)
        self._remember_ms = max(self._life_ms, remember * 1000)
        self._shelve = connection.register_script(_SHELVE)
        self._hold = connection.register_script(_HOLD)

    @property
    def near(self) -> LogStore:
        """The part that is in Redis."""
        return self._near

    def kept(self, job_id: str) -> LogSummary | None:
        """Return what the archive knows of a log."""
        super().kept(job_id)
        return self.archive.summary(job_id)

    # Reading.

    def check(self, job_id: str, attempt: int) -> None:
        """Raise ``ArchiveUnavailable`` if the archive is needed and away, ``LogExpired`` if it has the log no more."""
        file = self._gone(job_id, attempt)
        if file and not self.archive.elements(file, 0, 0):
            raise LogExpired(job_id)

    def summary(self, job_id: str) -> LogSummary | None:
        """Return what is known of a job's log, ``None`` if it has none, here or there."""
        found = super().summary(job_id)
        if found is None:
            return self.kept(job_id)
        first = found.attempts[0].number
        if first == 1:
            return found
        # A worker has rebuilt its attempt after Redis had lost all.
        earlier = self.kept(job_id)
        before = [one for one in earlier.attempts if one.number < first] if earlier else []
        return LogSummary(job_id, [*before, *found.attempts])

    def end_of(self, job_id: str, attempt: int) -> Cursor:
        """Return the cursor behind all that the attempt has."""
        summary = self.summary(job_id)
        here = summary.attempt(attempt) if summary else None
        return Cursor(attempt, here.bytes if here else 0)

    def find(self, job_id: str, attempt: int, what: str, value: int) -> tuple[int, int, bytes | None]:
        """Return what ``LogStore.find`` does."""
        found = super().find(job_id, attempt, what, value)
        if found[2] is None and (file := self._gone(job_id, attempt)):
            return self.archive.find(file, what, value)
        return found

    def elements(self, job_id: str, attempt: int, first: int, last: int) -> list[bytes] | None:
        """Return what ``LogStore.elements`` does, or fewer of them."""
        found = super().elements(job_id, attempt, first, last)
        if not found and (file := self._gone(job_id, attempt)):
            # What the archive has is not sealed: there it is not needed.
            return self.archive.elements(file, first, last) if first < sealed.FIRST else None
        return found

    def _gone(self, job_id: str, attempt: int) -> str | None:
        """Return the file of an attempt whose list Redis does not have, if the archive has one."""
        with redis_errors(), self.connection.pipeline(transaction=False) as pipe:
            pipe.exists(list_key(job_id, attempt))
            pipe.hmget(meta_key(job_id), *[f"{attempt}.{name}" for name in ("end", "started", "archived")])
            there, (end, started, archived) = pipe.execute()
        if there:
            return None
        if end is None:
            return self.archive.file(job_id, attempt)
        return self.archive.name(job_id, attempt, int(started)) if archived else None

    # Writing.

    def shelve(self, job_id: str, attempt: int, *, ended: int, release: int | None) -> bool:
        """Note that the archive has the attempt as it ended at ``ended`` (ms); returns whether Redis still has it.

        ``release`` is for how many seconds more at most its lists are kept; ``None`` leaves them their time.
        """
        keys = [meta_key(job_id), list_key(job_id, attempt), tail_key(job_id, attempt)]
        left = "" if release is None else max(1, release * 1000)
        with redis_errors():
            if self._budget and release is not None:
                self._budget.release(job_id, release * 1000)
            return bool(self._shelve(keys=keys, args=[attempt, ended, self._remember_ms, left]))

    def hold(self, job_id: str, attempt: int) -> None:
        """Give a log that could not be archived its whole time anew."""
        keys = [meta_key(job_id), list_key(job_id, attempt), tail_key(job_id, attempt)]
        with redis_errors():
            self._hold(keys=keys, args=[self._life_ms])

    def was_deleted(self, job_id: str) -> bool:
        """Return whether somebody has deleted the log: one that has expired is still in the index."""
        with redis_errors():
            return self.connection.zscore(INDEX, job_id) is None and self.near.summary(job_id) is None

    def delete(self, job_id: str) -> None:
        """Remove all of a job's log, here and there."""
        super().delete(job_id)
        self.archive.delete(job_id)
