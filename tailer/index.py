"""Which jobs have a log: the sorted sets that lists of jobs are made from. ``tailer.store`` has their keys."""

from __future__ import annotations

from typing import Any

import redis

INDEX = "tailer:jobs"
UNTIL = "{tailer:jobs}:until"
"""In a cluster a job's keys are elsewhere, but these two are in one slot."""

_TOUCH = """
-- KEYS the two sets; ARGV job, its time, ms for which it is known, "1" to keep the time that it has. The sets
-- themselves are there for as long as their last job.
if ARGV[4] == '1' then redis.call('ZADD', KEYS[1], 'NX', ARGV[2], ARGV[1])
else redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1]) end
redis.call('ZADD', KEYS[2], ARGV[2] + ARGV[3], ARGV[1])
for _, job in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[2], 'LIMIT', 0, 100)) do
  redis.call('ZREM', KEYS[1], job)
  redis.call('ZREM', KEYS[2], job)
end
for _, key in ipairs(KEYS) do
  if redis.call('PTTL', key) < tonumber(ARGV[3]) then redis.call('PEXPIRE', key, ARGV[3]) end
end
"""


class JobIndex:
    """Knows jobs by the time of their last start or end, for twice as long as their logs live, or for ``least``.

    Jobs that are not ``listed`` are not put in.

    All methods raise redis-py's errors. Times are in milliseconds.
    """

    def __init__(self, connection: redis.Redis, least: int = 0, *, listed: bool = True) -> None:
        self._connection = connection
        self._listed = listed
        self._least = least
        self._touch = connection.register_script(_TOUCH)

    def touch(self, job_id: str, now: int, life: int, *, only_if_missing: bool = False) -> None:
        """Put the job on top, or just see to it that it is there; its log lives for ``life`` more."""
        if not self._listed:
            return
        known = max(2 * life, self._least)
        self._touch(keys=[INDEX, UNTIL], args=[job_id, now, known, int(only_if_missing)])

    def remove(self, job_id: str) -> None:
        """Forget the job."""
        self._connection.zrem(INDEX, job_id)
        self._connection.zrem(UNTIL, job_id)

    def has(self, job_id: str) -> bool:
        """Return whether the job has a log, or had one not long ago."""
        return self._connection.zscore(INDEX, job_id) is not None

    def page(self, highest: int | str, start: int, size: int) -> list[tuple[bytes, float]]:
        """Return ids and times of so many jobs, newest first, of those that are not newer than ``highest``."""
        found: Any = self._connection.zrevrangebyscore(INDEX, highest, "-inf", start=start, num=size, withscores=True)
        return list(found)
