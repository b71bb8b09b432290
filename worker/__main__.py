"""``python -m worker``: RQ's own ``rq worker`` command with Tailer's worker class and settings.

Takes all of its options and arguments. On Heroku (``DYNO`` is set) the class is ``worker.HerokuWorker``.
"""

from __future__ import annotations

import sys

from rq.cli.cli import main

from tailer.errors import SettingsError
from tailer.settings import Settings


def run(arguments: list[str]) -> None:
    """Run the worker until it is told to stop; leaves the process."""
    try:
        settings = Settings.from_env()
    except SettingsError as error:
        sys.exit(f"tailer: {error}")
    chosen = "worker.HerokuWorker" if settings.dyno else "worker.Worker"
    main(
        ["worker", "--url", settings.rq_url, "--worker-class", chosen, *arguments],
        prog_name="python -m worker",
    )


if __name__ == "__main__":
    run(sys.argv[1:])
