"""The web side of a trial: a gunicorn that is stopped and started again on its port."""

from __future__ import annotations

import contextlib
import os
import signal
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.processes import Running, free_port
from tests.web_servers import served


class Web:
    """A gunicorn on the Redis at that URL, started for the block; `url` is the same for its whole life.

    `options` are those of gunicorn; `env` are variables, such as Tailer's settings.
    """

    def __init__(self, redis_url: str, *options: str, env: Mapping[str, str] | None = None) -> None:
        self._redis_url = redis_url
        self._env = {**(env or {}), "GUNICORN_CMD_ARGS": " ".join(options)}
        self._port = free_port()
        self._held = contextlib.ExitStack()
        self.url = f"http://127.0.0.1:{self._port}"
        self.process: Running | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def start(self) -> None:
        """Start it, and return when it listens."""
        web = served("gthread", self._redis_url, port=self._port, env=self._env)
        _, self.process = self._held.enter_context(web)

    def stop(self, sign: int = signal.SIGTERM) -> None:
        """End it with this signal, SIGKILL being sent to all its processes; returns when it is gone."""
        assert self.process
        if sign == signal.SIGKILL:
            os.killpg(self.process.pid, sign)
        else:
            self.process.signal(sign)
        self.process.wait(20)
        self._held.close()

    def figure(self, name: str) -> float:
        """One of the figures that it tells Prometheus."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))

    def workers(self) -> list[int]:
        """The pids of the processes that serve."""
        assert self.process
        try:
            return [
                int(pid)
                for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            ]
        except OSError:  # it has ended
            return []
