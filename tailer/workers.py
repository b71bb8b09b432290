"""RQ's workers, as their hashes in Redis tell of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis
from rq.worker_registration import REDIS_WORKER_KEYS

from tailer.store import redis_errors

CAPTURE_FIELD = "tailer"
"""Field of RQ's hash of a worker in which ours write their capture mode. RQ's own workers don't have it."""
VERSION_FIELD = "tailer_version"
"""Field in which ours write their version of Tailer."""
_PREFIX = REDIS_WORKER_KEYS.removesuffix("s") + ":"
"""Of a worker's hash; with RQ's own prefix, which is a setting from RQ 3 on."""


@dataclass(frozen=True, slots=True)
class WorkerState:
    """A worker that is registered and has not let its hash expire.

    ``capture`` is ``None`` if it does not capture. ``version`` is Tailer's, ``rq`` RQ's; "" if it does not tell.
    """

    name: str
    queues: tuple[str, ...]
    capture: str | None
    host: str = ""
    pid: str = ""
    version: str = ""
    rq: str = ""
    python: str = ""


def live_workers(connection: redis.Redis) -> list[WorkerState]:
    """Return RQ's live workers by name; raises ``StoreUnavailable``.

    A worker that was killed outright stays in the list until its hash expires, minutes later, as it does for RQ.
    """
    with redis_errors():
        keys: Any = connection.smembers(REDIS_WORKER_KEYS)
        with connection.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hgetall(key)
            hashes = pipe.execute()
    found = [_state(key, values) for key, values in zip(keys, hashes, strict=True) if values and b"death" not in values]
    return sorted(found, key=lambda worker: worker.name)


def _state(key: bytes, values: Mapping[bytes, bytes]) -> WorkerState:
    text = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in values.items()}
    return WorkerState(
        name=key.decode(errors="replace").removeprefix(_PREFIX),
        queues=tuple(filter(None, text.get("queues", "").split(","))),
        capture=text.get(CAPTURE_FIELD),
        host=text.get("hostname", ""),
        pid=text.get("pid", ""),
        version=text.get(VERSION_FIELD, ""),
        rq=text.get("version", ""),
        python=text.get("python_version", "").partition(" ")[0],
    )
