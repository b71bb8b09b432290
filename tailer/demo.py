"""`tailer demo`: all of Tailer on free ports of this machine, with a job to look at, for half a minute."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click
from rq import Queue

from tailer.client import RemoteLog, Web
from tailer.embedded import EmbeddedServer, free_port
from tailer.errors import ExitCode, TailerError, WebUnavailable
from tailer.query import LogQuery
from tailer.settings import Settings, environment
from tailer.stack import checkout, leave_properly
from tailer.store import LogStore, connect
from tailer.terminal import Screen

START_S = 20.0
"""For the web side to answer; it takes two seconds, and longer on a busy machine."""
TAIL = 10
"""Lines shown of the job that fails: the last ones it printed, and its traceback."""
WORDS = 1500
"""Characters shown of what web and worker said last, if something goes wrong."""


def demo(settings: Settings) -> int:
    """Show a job that ends well and one that fails, and end; with ``DEMO_KEEP=1`` stay until Ctrl-C.

    Returns the exit code. Nothing is left running. Nothing that is running already is used, or touched.

    Raises:
        EmbeddedServerError, TailerError: it cannot be started here; what its processes said last is on stderr then.
    """
    leave_properly()
    with tempfile.TemporaryDirectory(prefix="tailer-demo-", ignore_cleanup_errors=True) as scratch:
        _show(Path(scratch, "up.log"), keep=settings.demo_keep)
    click.secho("\nWith your own jobs: rq worker -w worker.Worker", bold=True)
    return ExitCode.FINISHED


def _show(log: Path, *, keep: bool) -> None:
    port = free_port()
    with EmbeddedServer() as server, _stack(server.url, port, log) as processes:
        web = f"http://127.0.0.1:{port}"
        connection = connect(server.url)
        queue = Queue(connection=connection)
        job = queue.enqueue("tailer.demo_jobs.nightly_report")
        click.secho("\nTailer shows what a background job prints, while it prints it.\n", bold=True)
        click.echo(f"  all jobs         {web}/jobs")
        click.echo(f"  this job         {web}/jobs/{job.id}")
        click.echo(f"  its log          {web}/jobs/{job.id}/log")
        click.echo(f"  web and worker   {log}")
        _follow(web, job.id)
        failing = queue.enqueue("tailer.demo_jobs.import_prices")
        _wait_over(LogStore(connection), failing.id)
        click.secho(f"\nThat job ended well. This one does not; its last {TAIL} lines:", bold=True)
        _follow(web, failing.id, tail=TAIL)
        if keep:
            click.secho(f"\nAll of it stays up until Ctrl-C. Enqueue jobs with REDIS_URL={server.url}", bold=True)
            with suppress(KeyboardInterrupt):
                processes.wait()


@contextmanager
def _stack(url: str, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `tailer up` on this Redis for the block, its words in ``log``; ``TailerError`` if it does not start."""
    # None of the user's places: a demo must not print into their logs, nor run their jobs.
    env = environment(REDIS_URL=url, RQ_REDIS_URL="", TAILER_REDIS_URL="", TAILER_URL="", TAILER_TOKENS="")
    argv = [sys.executable, "-m", "tailer.cli", "up", "--port", str(port)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, cwd=checkout() or log.parent
        )
    try:
        _wait_ready(Web(f"http://127.0.0.1:{port}"), process)
        yield process
    except TailerError:
        click.echo(log.read_text(errors="replace")[-WORDS:], err=True)
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        while process.poll() is None:
            try:
                process.wait()
            except KeyboardInterrupt:  # It is ending already.
                continue


def _wait_ready(web: Web, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            web.open("/readyz").close()
            return
        except WebUnavailable:
            time.sleep(0.1)
    raise TailerError("the demo could not start; what web and worker said is above")


def _wait_over(store: LogStore, job_id: str) -> None:
    """Wait until the log has its end record: only then are its last lines the last ones."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        summary = store.summary(job_id)
        if summary and summary.last.end:
            return
        time.sleep(0.05)
    raise TailerError(f"job {job_id} did not end")


def _follow(web: str, job_id: str, *, tail: int | None = None) -> None:
    """Follow with the real curl, as anybody would; where there is none, with Tailer's own client."""
    query = f"?tail={tail}" if tail else ""
    url = f"{web}/jobs/{job_id}/log{query}"
    click.secho(f"\n$ curl -N '{url}'" if query else f"\n$ curl -N {url}", bold=True)
    sys.stdout.flush()
    if curl := shutil.which("curl"):
        # Quiet where stdout is no terminal too; and no proxy stands between this machine and itself.
        code = subprocess.run([curl, "-N", "-sS", "--noproxy", "*", url], check=False).returncode
        if code:
            raise TailerError(f"curl left with {code}")
        return
    parameters = {"tail": str(tail)} if tail else {}
    follow = LogQuery.parse(parameters)
    screen = Screen(follow.options)
    screen.show(RemoteLog(Web(web), job_id, follow, patience=START_S, notice=screen.tell).events())
