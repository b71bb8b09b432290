"""What a user's own module brings into a worker: handlers, classes and things done at import.

`rq worker --exception-handler tests.user_code.ignore` imports it into the worker, before any fork.
"""

import asyncio
import ctypes
import logging
import os
import signal
import sys
import threading
import time
from typing import Any

import rq.worker
from rq import Queue, get_current_job
from rq.job import Job

import worker

SAVED_STDOUT = sys.stdout
"""As `from somewhere import stdout` keeps it: what a job writes here is the job's output too."""
LOGGER = logging.getLogger("tests.user_code")
LOGGER.addHandler(logging.StreamHandler())  # keeps the sys.stderr of this moment
LOGGER.setLevel(logging.INFO)
LOGGER.propagate = False

if pending := os.environ.get("USER_CODE_PENDING"):
    # Nobody writes these two out before the worker forks.
    sys.stdout.write(f"Python's {pending}\n")
    ctypes.CDLL(None).puts(f"C's {pending}".encode())


def ignore(*_: object) -> None:
    """An exception handler that leaves everything to the next one."""


def fail_again(*_: object) -> None:
    """A callback that raises an exception itself."""
    raise KeyError("again")


class _Forsaken:
    """Its horse kills it when RQ has noted that the job is over, and goes on when its log is taken over."""

    def handle_job_success(self, *args: Any, **kwargs: Any) -> None:
        """Let RQ do it, and kill the worker."""
        super().handle_job_success(*args, **kwargs)  # type: ignore[misc]
        os.kill(os.getppid(), signal.SIGKILL)
        while "tailer-shipper" not in {thread.name for thread in threading.enumerate()}:
            time.sleep(0.001)


class ForsakenWorker(_Forsaken, worker.Worker):
    """Our Worker that is killed so."""


class ForsakenSpawnWorker(_Forsaken, worker.SpawnWorker):
    """Our SpawnWorker that is killed so."""


class HastyHerokuWorker(worker.HerokuWorker):
    """Gives a job one second instead of six when its dyno stops."""

    imminent_shutdown_delay = 1


# What jobs, callbacks and handlers tell, for tests that compare workers. Told are words, in order, under a name.


def key(queue: str, name: str) -> str:
    """The list of what was told under a name."""
    return f"told:{queue}:{name}"


def _tell(job: Job, word: str, name: str | None = None) -> None:
    job.connection.rpush(key(job.origin, name or job.id), word)


def _current_job() -> Job:
    job = get_current_job()
    assert job
    return job


def tell(name: str, word: str) -> None:
    """A job that tells a word."""
    _tell(_current_job(), word, name)


def tell_and_fail(name: str) -> None:
    """A job that tells that it runs, and fails."""
    tell(name, "x")
    raise RuntimeError("not this time")


def tell_and_wait() -> None:
    """A job that tells that it runs, and runs for a minute."""
    tell("started", "x")
    time.sleep(60)


def work(value: object) -> object:
    """A job that changes its meta, and returns what it was given."""
    job = _current_job()
    job.meta["during"] = 2
    job.save_meta()
    return value


async def work_later() -> str:
    """A job that is a coroutine."""
    await asyncio.sleep(0.01)
    return "later"


def return_lock() -> object:
    """A job whose result no serializer takes."""
    return threading.Lock()


def who_am_i() -> list[str | None]:
    """A job that returns its id, as RQ's function and the environment have it."""
    return [_current_job().id, os.environ.get("RQ_JOB_ID"), "RQ_WORKER_ID" in os.environ]


def on_success(job: Job, _connection: object, result: object) -> None:
    """A callback that tells the result."""
    _tell(job, f"success {result}")


def on_failure(job: Job, _connection: object, kind: type, *_: object) -> None:
    """A callback that tells the exception."""
    _tell(job, f"failure {kind.__name__}")


def on_stopped(job: Job, _connection: object) -> None:
    """A callback that tells that its job was stopped."""
    _tell(job, "stopped")


def first_handler(job: Job, kind: type, *_: object) -> None:
    """An exception handler that tells the exception, and leaves the rest to the next one."""
    _tell(job, f"first {kind.__name__}")


def false_handler(job: Job, kind: type, *_: object) -> bool:
    """An exception handler that tells the exception, and wants no other one to be called."""
    _tell(job, f"false {kind.__name__}")
    return False


class TellingJob(Job):
    """A job that tells when it is performed."""

    def perform(self) -> object:
        """Tell, and do what all jobs do."""
        _tell(self, "job", "classes")
        return super().perform()


class TellingQueue(Queue):
    """A queue that tells when it is asked for jobs."""

    @classmethod
    def dequeue_any(cls, queues: list[Queue], *args: object, **options: object) -> object:
        """Tell, and do what all queues do."""
        queues[0].connection.rpush(key(queues[0].name, "classes"), "queue")
        return super().dequeue_any(queues, *args, **options)


def tell_killed(job: Job, _pid: int, status: int, _usage: object) -> None:
    """Tell by which signal a work horse was killed."""
    _tell(job, f"killed {os.WTERMSIG(status)}")


class _Telling:
    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, work_horse_killed_handler=tell_killed, **options)


class TellingWorker(_Telling, worker.Worker):
    """Our Worker with such a handler."""


class TellingSpawnWorker(_Telling, worker.SpawnWorker):
    """Our SpawnWorker with such a handler."""


class TellingHerokuWorker(_Telling, worker.HerokuWorker):
    """Our HerokuWorker with such a handler."""


class TellingRqWorker(_Telling, rq.worker.Worker):
    """RQ's Worker with such a handler."""


class TellingRqSpawnWorker(_Telling, rq.worker.SpawnWorker):
    """RQ's SpawnWorker with such a handler."""


class TellingRqHerokuWorker(_Telling, rq.worker.HerokuWorker):
    """RQ's HerokuWorker with such a handler."""
