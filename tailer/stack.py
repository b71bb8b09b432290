"""Redis, worker and web side in one command, on this machine only: what `tailer up` runs."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import honcho.environ  # type: ignore[import-untyped]
import honcho.manager  # type: ignore[import-untyped]
import honcho.printer  # type: ignore[import-untyped]

from tailer import gunicorn_up
from tailer.embedded import EmbeddedServer
from tailer.errors import ExitCode, TailerError
from tailer.settings import Settings, environment

SECOND_GRACE_S = 3.0
"""Between the second SIGTERM, at which an RQ worker ends its job too, and SIGKILL."""


def checkout() -> Path | None:
    """Return the current directory if it is Tailer's own checkout, with the Procfile in it."""
    here = Path.cwd()
    return here if here == Path(__file__).parent.parent and (here / "Procfile").is_file() else None


def commands(port: int, workers: int) -> dict[str, str]:
    """Return the shell commands to run, by process name: those of Tailer's Procfile, or what they amount to elsewhere.

    A Procfile of somebody else's is never run: its web process need not be Tailer's.
    """
    python = shlex.quote(sys.executable)
    if directory := checkout():
        procfile = honcho.environ.parse_procfile((directory / "Procfile").read_text()).processes
        web, worker = procfile["web"], procfile["worker"]
    else:
        # Named, so that gunicorn does not read a gunicorn.conf.py of somebody else's that happens to be here.
        web = f"{python} -m gunicorn --config python:tailer.gunicorn_up 'tailer.web:create_app()'"
        worker = f"{python} -m worker"
    # The option wins over PORT, with which gunicorn.conf.py serves the network. `exec` spares a shell in between.
    web = f"exec {web} --bind 127.0.0.1:{port} --graceful-timeout {gunicorn_up.graceful_timeout}"
    return {"web": web, **{f"worker.{number}": f"exec {worker}" for number in range(1, workers + 1)}}


def up(settings: Settings, *, port: int, workers: int) -> int:
    """Run all of it until Ctrl-C, SIGTERM or the first end of a process; returns the exit code.

    That is 0 where it was told to stop, else that of the process that ended. Nothing is left running.

    Raises:
        TailerError: the port is in use.
        EmbeddedServerError: no Redis was named, and none can be started.
    """
    leave_properly()
    _check_port(port)
    with ExitStack() as held:
        url, kind = settings.rq_url, "yours"
        if not settings.rq_url_given:
            url, kind = held.enter_context(EmbeddedServer()).url, "embedded, gone when this ends"
        click.echo(f"web side  http://127.0.0.1:{port}/jobs")
        click.echo(f"Redis     {_without_password(url)} ({kind})")
        if not settings.rq_url_given:
            click.echo(f"elsewhere, enqueue with REDIS_URL={url}")
        manager = _Manager(_Printer(sys.stdout))
        path = os.pathsep.join([str(Path(sys.executable).parent), environment().get("PATH", os.defpath)])
        env = environment(REDIS_URL=url, PORT=str(port), PATH=path)
        for name, command in commands(port, workers).items():
            manager.add_process(name, command, env=env)
        manager.loop()
        return manager.exit_code


def leave_properly() -> None:
    """Let SIGTERM, and SIGHUP from a closed terminal, end this process as an exception does: contexts are left."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(ExitCode.SIGNALLED + number)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))


class _Manager(honcho.manager.Manager):  # type: ignore[misc]
    """honcho's, which lets a job end with its worker instead of leaving it behind."""

    _asked_again: float | None = None

    @property
    def exit_code(self) -> int:
        """0 if the end was asked for, else how the process that ended first did."""
        code: int = self.returncode
        if code in {honcho.manager.SIGNALS[number]["rc"] for number in (signal.SIGINT, signal.SIGTERM)}:
            return ExitCode.FINISHED
        return code if code >= 0 else ExitCode.SIGNALLED - code

    def terminate(self) -> None:
        """Send SIGTERM to all, as soon as all have started: honcho does not know their pids before."""
        if self._all_started():
            super().terminate()
        else:
            threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGTERM]).start()

    def kill(self) -> None:
        """Send what did not end by itself a second SIGTERM before SIGKILL.

        An RQ worker waits for its job at the first one and ends it at the second. SIGKILL would leave it running.
        """
        now = time.monotonic()
        if self._asked_again is None:
            self._asked_again = now
            self._killall()
        elif now - self._asked_again > SECOND_GRACE_S:
            super().kill()


class _Printer(honcho.printer.Printer):  # type: ignore[misc]
    """honcho's, which stops all processes when nobody reads what they say."""

    def write(self, message: Any) -> None:
        """Print one message."""
        try:
            super().write(message)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.output.fileno())
            signal.raise_signal(signal.SIGTERM)


def _check_port(port: int) -> None:
    """Raise an error if the port cannot be had; gunicorn would try it for five seconds first."""
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError as error:
            raise TailerError(f"port {port} cannot be used ({error.strerror}): name another one with --port") from None


def _without_password(url: str) -> str:
    credentials, at, rest = url.rpartition("@")
    return f"{credentials.partition('://')[0]}://…@{rest}" if at else url
