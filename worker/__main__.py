"""``python -m worker``: RQ's own ``rq worker`` command with Tailer's worker class and settings.

Takes all of its options and arguments. On Heroku (``DYNO`` is set) the class is ``worker.HerokuWorker``.
"""

from __future__ import annotations

import sys

from rq.cli.cli import main

from tailer.errors import SettingsError, StoreUnavailable, UntrustedRedis
from tailer.settings import Settings
from tailer.store import connect, redis_errors


def run(arguments: list[str]) -> None:
    """Run the worker until it is told to stop; leaves the process."""
    try:
        settings = Settings.from_env()
        _check_certificate(settings.rq_url)
    except (SettingsError, UntrustedRedis) as error:
        sys.exit(f"tailer: {error}")
    chosen = "worker.HerokuWorker" if settings.dyno else "worker.Worker"
    main(
        ["worker", "--url", settings.rq_url, "--worker-class", chosen, *arguments],
        prog_name="python -m worker",
    )


def _check_certificate(url: str) -> None:
    """Raise ``UntrustedRedis``, which says what to do. All other trouble with Redis RQ itself tells of."""
    if not url.startswith("rediss:"):
        return
    try:
        with connect(url) as connection, redis_errors():
            connection.ping()
    except UntrustedRedis:
        raise
    except StoreUnavailable:
        return


if __name__ == "__main__":
    run(sys.argv[1:])
