"""Keeps what all logs take in Redis within a limit: the oldest logs of jobs that are over are dropped for new ones.

How much a log takes is what Redis says of its keys (``MEMORY USAGE``), noted while its job runs and when it is over.
The sum is kept beside it, so that nobody has to add up; logs whose time is over leave it when the next one is noted.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import redis

from tailer.keys import all_keys, now_ms, wake_channel

logger = logging.getLogger(__name__)

BYTES, EXPIRY, FINISHED = (f"{{tailer:jobs}}:{name}" for name in ("bytes", "expiry", "finished"))
SAMPLES = 1000
"""Nodes of a list that Redis looks at to say how large it is: all of most lists, and not too many of a huge one."""
AT_ONCE = 20
"""Most logs that are dropped for a new one."""

_NOTE = """
-- KEYS bytes, expiry, finished; ARGV limit, now ms, job, its bytes (0: it is gone), ms that its log lives, "1" if it is
-- over. Returns the sum, and those that could be dropped if it is over the limit.
local function forget(job)
  local known = redis.call('HGET', KEYS[1], job)
  if known then redis.call('HINCRBY', KEYS[1], ':total', -tonumber(known)) end
  redis.call('HDEL', KEYS[1], job)
  redis.call('ZREM', KEYS[2], job)
  redis.call('ZREM', KEYS[3], job)
end
for _, job in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[2], 'LIMIT', 0, 100)) do forget(job) end
forget(ARGV[3])
if ARGV[4] ~= '0' then
  redis.call('HSET', KEYS[1], ARGV[3], ARGV[4])
  redis.call('HINCRBY', KEYS[1], ':total', ARGV[4])
  redis.call('ZADD', KEYS[2], ARGV[2] + ARGV[5], ARGV[3])
  if ARGV[6] == '1' then redis.call('ZADD', KEYS[3], ARGV[2], ARGV[3]) end
end
for _, key in ipairs(KEYS) do
  if redis.call('PTTL', key) < tonumber(ARGV[5]) then redis.call('PEXPIRE', key, ARGV[5]) end
end
local total = tonumber(redis.call('HGET', KEYS[1], ':total') or 0)
return {total, total > tonumber(ARGV[1]) and redis.call('ZRANGE', KEYS[3], 0, AT_ONCE) or {}}
""".replace("AT_ONCE", str(AT_ONCE))

_DROP = """
-- KEYS meta, other keys of the job; ARGV number of attempts, channel. Returns 0 if the job runs or will run again.
local attempts = redis.call('HGET', KEYS[1], 'attempts')
if not attempts then return 1 end
if attempts ~= ARGV[1] then return 0 end
for number = 1, tonumber(attempts) do
  local at, ended = unpack(redis.call('HMGET', KEYS[1], number .. '.end', number .. '.ended'))
  if at and not ended then return 0 end
  if number == tonumber(attempts) and not string.find(ended or '', '"final":true', 1, true) then return 0 end
end
for _, key in ipairs(KEYS) do redis.call('UNLINK', key) end
redis.call('PUBLISH', ARGV[2], '0')
return 1
"""


class Budget:
    """Holds the sum of all logs below ``limit`` bytes."""

    def __init__(self, connection: redis.Redis, limit: int) -> None:
        self._connection = connection
        self._limit = limit
        self._note = connection.register_script(_NOTE)
        self._drop = connection.register_script(_DROP)

    def weigh(self, job_id: str, life: int, *, over: bool = False) -> None:
        """Note what a job's log takes that lives for ``life`` ms, and whether the job is over.

        If that is too much with all others, the oldest of those that are over are dropped for it.
        """
        try:
            _, keys = all_keys(self._connection, job_id)
            total, oldest = self._noted(job_id, self._size(keys), life, over=over)
            for other in oldest:
                if total <= self._limit:
                    break
                if other != job_id:
                    attempts, keys = all_keys(self._connection, other)
                    if self._drop(keys=keys, args=[attempts, wake_channel(other)]):
                        total, _ = self._noted(other, 0, life)
        except redis.RedisError as error:
            # Whoever waits for a log's end need not wait for this, nor do it again.
            logger.warning("what logs take in Redis cannot be kept within TAILER_MAX_MEMORY: %s", error)

    def forget(self, job_id: str) -> None:
        """Note that a job's log is gone. Raises redis-py's errors."""
        self._noted(job_id, 0, 1)

    def release(self, job_id: str, life: int) -> None:
        """Note that a log will be gone in ``life`` ms, though its job stays known. Raises redis-py's errors."""
        self._connection.zadd(EXPIRY, {job_id: now_ms() + life}, xx=True)

    def _size(self, keys: Sequence[str]) -> int:
        with self._connection.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.memory_usage(key, samples=SAMPLES)
            return sum(size or 0 for size in pipe.execute())

    def _noted(self, job_id: str, size: int, life: int, *, over: bool = False) -> tuple[int, list[str]]:
        args: list[Any] = [self._limit, now_ms(), job_id, size, life, int(over)]
        total, oldest = self._note(keys=[BYTES, EXPIRY, FINISHED], args=args)
        return int(total), [name.decode() for name in oldest]
