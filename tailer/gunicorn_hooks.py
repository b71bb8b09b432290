"""What gunicorn has to call for each of its workers: import all into a `gunicorn.conf.py`.

gunicorn reads that before gevent has patched Python's modules, so that nothing of Tailer may be imported here yet.
"""

from __future__ import annotations

import errno
import gc
import resource
import time
from collections.abc import Callable
from typing import Any, Protocol

NO_FILES_S = 0.1
"""How long nobody is let in while the process may not open more files."""


class Worker(Protocol):
    """A worker of gunicorn; ``alive`` until it is told to stop."""

    alive: bool
    pid: int
    accept: Callable[..., Any]


def post_worker_init(worker: Worker) -> None:
    """Prepare a web process for thousands of followers, and let its hubs know when it is told to stop."""
    # The garbage collector walks all that lives: with a thousand followers that held everybody up for 75 to 95 ms.
    # What the program itself consists of never dies, and followers are freed without it.
    gc.freeze()
    gc.set_threshold(50_000, 50, 1000)
    # A file descriptor each; many systems allow 1024 until a program asks for more.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if hasattr(worker, "accept"):
        worker.accept = _patient(worker.accept)
    from tailer.web import hubs  # noqa: PLC0415 (see above)

    for hub in hubs:
        hub.stopping = lambda: not worker.alive


def worker_exit(server: object, worker: Worker) -> None:
    """End the streams whose connections gunicorn no longer has."""
    from tailer.web import hubs  # noqa: PLC0415 (see above)

    del server, worker
    for hub in hubs:
        hub.close()


def child_exit(server: object, worker: Worker) -> None:
    """Count the followers of a process that has ended no longer. Called in gunicorn's own process."""
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415 (see above)

    from tailer.settings import several_processes  # noqa: PLC0415

    del server
    if several_processes():
        mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def _patient(accept: Callable[..., Any]) -> Callable[..., Any]:
    """Return gthread's ``accept`` made to wait while there is no file for another connection.

    It would end the process, and cut all who follow. Those who wait stay in the kernel's queue.
    """

    def patient(*listener: object) -> None:
        try:
            accept(*listener)
        except OSError as error:
            if error.errno not in {errno.EMFILE, errno.ENFILE}:
                raise
            time.sleep(NO_FILES_S)

    return patient
