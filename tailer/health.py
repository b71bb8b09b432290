"""Whether both Redis answer, asked over connections of their own, so that the answer comes in time."""

from __future__ import annotations

from typing import Self

import redis

from tailer.errors import StoreUnavailable
from tailer.settings import Settings
from tailer.store import connect, redis_errors

PATIENCE_S = 1.0
"""How long a Redis may take to be reached, and then to answer. Kubernetes gives a probe one second by default."""


class Health:
    """``logs`` is the Redis with the logs, ``rq`` that of RQ: the same object where they are one."""

    def __init__(self, logs: redis.Redis, rq: redis.Redis) -> None:
        self.logs = logs
        self.rq = rq

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Return one for the servers that the settings name. Connects to nothing yet."""
        rq = connect(settings.rq_url, timeout=PATIENCE_S)
        return cls(connect(settings.log_url, timeout=PATIENCE_S) if settings.log_url else rq, rq)

    def check(self) -> None:
        """Raise ``StoreUnavailable`` unless both answer."""
        with redis_errors():
            self.logs.ping()
            if self.rq is not self.logs:
                self.rq.ping()

    def answers(self) -> dict[str, bool]:
        """Return by ``logs`` and ``rq`` whether that Redis answers."""
        logs = _answers(self.logs)
        return {"logs": logs, "rq": logs if self.rq is self.logs else _answers(self.rq)}


def _answers(connection: redis.Redis) -> bool:
    try:
        with redis_errors():
            connection.ping()
    except StoreUnavailable:
        return False
    return True
