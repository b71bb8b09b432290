"""The faults that hit a soak: each is over when its function returns, or within some seconds by itself."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from tests.stack import children

if TYPE_CHECKING:
    from tests.faults.soak import Soak

AWAY_S = 3.0

Strike = Callable[["Soak"], None]
STRIKES: dict[str, Strike] = {}


def strike(function: Strike) -> Strike:
    """Make it one of those that hit a soak; its docstring is what it is called."""
    assert function.__doc__
    STRIKES[function.__doc__.removesuffix(".")] = function
    return function


@strike
def web_killed(soak: Soak) -> None:
    """Web process SIGKILLed."""
    for pid in soak.random.choice(soak.webs).workers():
        os.kill(pid, signal.SIGKILL)


@strike
def web_restarted(soak: Soak) -> None:
    """Web process stopped and started."""
    web = soak.random.choice(soak.webs)
    web.stop(signal.SIGTERM)
    web.start()


@strike
def web_reloaded(soak: Soak) -> None:
    """Web process reloaded."""
    web = soak.random.choice(soak.webs)
    assert web.process
    web.process.signal(signal.SIGHUP)


@strike
def clients_reset(soak: Soak) -> None:
    """Half of the followers reset."""
    for follower in soak.following[::2]:
        follower.leave("reset")


@strike
def clients_stalled(soak: Soak) -> None:
    """50 followers stalled."""
    stalled = soak.random.sample(soak.following, min(50, len(soak.following)))
    for follower in stalled:
        follower.stall()
    time.sleep(AWAY_S)
    for follower in stalled:
        follower.go_on()


@strike
def redis_stopped(soak: Soak) -> None:
    """Redis SIGSTOPped for 3 s."""
    os.kill(soak.server.pid, signal.SIGSTOP)
    time.sleep(AWAY_S)
    os.kill(soak.server.pid, signal.SIGCONT)


@strike
def redis_killed(soak: Soak) -> None:
    """Redis SIGKILLed and started."""
    soak.server.stop(signal.SIGKILL)
    soak.server.start(patience=60)  # It reads all that it had before it answers, beside hundreds of busy processes.


@strike
def redis_clients_killed(soak: Soak) -> None:
    """Connections of Redis killed."""
    for kind in ("normal", "pubsub"):
        with contextlib.suppress(RedisError):
            soak.connection.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


@strike
def workers_killed(soak: Soak) -> None:
    """10 workers SIGKILLed, whose jobs go on."""
    workers = soak.workers
    for pid in soak.random.sample(workers, min(10, len(workers))):
        os.kill(pid, signal.SIGKILL)


@strike
def jobs_killed(soak: Soak) -> None:
    """10 jobs SIGKILLed."""
    workers = soak.workers
    for worker in soak.random.sample(workers, min(10, len(workers))):
        for pid in children(worker):
            os.kill(pid, signal.SIGKILL)
