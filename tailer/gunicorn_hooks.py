"""What gunicorn has to use and to call for each of its workers: import all into a `gunicorn.conf.py`.

gunicorn reads that before gevent has patched Python's modules, so that nothing of Tailer may be imported here yet.
"""

from __future__ import annotations

import errno
import gc
import logging
import re
import resource
import time
from collections.abc import Callable
from typing import Any, Protocol

from gunicorn import glogging  # type: ignore[import-untyped]

from tailer.logs import use_json

MACOS_FILES = 10_240
"""``OPEN_MAX``: the most that macOS lets a process ask for where its limit is "unlimited" (setrlimit(2))."""
NO_FILES_S = 0.1
"""How long nobody is let in while the process may not open more files."""


_CREDENTIAL = re.compile(r"\b(link=)[^&\s]+")
"""A link's, in a URL: see ``tailer.links``."""


class Worker(Protocol):
    """A worker of gunicorn; ``alive`` until it is told to stop."""

    alive: bool
    pid: int
    accept: Callable[..., Any]


class Logger(glogging.Logger):  # type: ignore[misc]
    """gunicorn's, in the format that ``TAILER_LOG_FORMAT`` names, and without credentials."""

    def setup(self, cfg: Any) -> None:
        """Set up all that gunicorn and its workers tell. Called in gunicorn's own process."""
        from tailer.errors import SettingsError  # noqa: PLC0415 (see above)
        from tailer.settings import log_format  # noqa: PLC0415

        super().setup(cfg)
        self.access_log.addFilter(_without_credentials)
        try:
            if log_format() == "json":
                use_json("gunicorn.error", "gunicorn.access")
        except SettingsError:
            return  # The application will say so, and not start.


logger_class = Logger


def _without_credentials(record: logging.LogRecord) -> bool:
    """Keep the credentials of links out of access logs, and tell programs of a request by fields."""
    if isinstance(told := record.args, dict):
        for name, value in told.items():
            if isinstance(value, str) and "link=" in value:
                told[name] = _CREDENTIAL.sub(r"\1***", value)
        job = re.search("/jobs/([^/]+)", str(told.get("U")))
        fields = {
            "client": told.get("h"),
            "method": told.get("m"),
            "path": told.get("U"),
            "status": int(told["s"]),
            "bytes": told.get("B"),
            "seconds": float(told["L"]),
            "request": told.get("{x-request-id}o"),
            "job": job and job[1],
        }
        record.fields = {name: value for name, value in fields.items() if value is not None}
    return True


def post_worker_init(worker: Worker) -> None:
    """Prepare a web process for thousands of followers, and let its hubs know when it is told to stop."""
    # The garbage collector walks all that lives: with a thousand followers that held everybody up for 75 to 95 ms.
    # What the program itself consists of never dies, and followers are freed without it.
    gc.freeze()
    gc.set_threshold(50_000, 50, 1000)
    # A file descriptor each; many systems allow 1024 until a program asks for more.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (most, min(MACOS_FILES, most)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
            break
        except (ValueError, OSError):
            continue  # What cannot be had is done without.
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

    from tailer.settings import metrics_directory  # noqa: PLC0415

    del server
    if metrics_directory():
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
