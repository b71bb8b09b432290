"""The command line: `tailer follow|jobs|link|run|up|demo|doctor`."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
from contextlib import closing
from dataclasses import asdict
from typing import Any

import click
from rq import Queue
from rq.cli.helpers import parse_function_args
from rq.exceptions import TimeoutFormatError
from rq.utils import parse_timeout

from tailer import __version__
from tailer.client import RemoteLog, Web
from tailer.demo import demo as run_demo
from tailer.direct import DirectLog
from tailer.doctor import examine
from tailer.errors import ExitCode, TailerError
from tailer.findings import FAIL, WARN, Finding
from tailer.hub import Hub
from tailer.listing import ListQuery, page
from tailer.query import LogQuery
from tailer.settings import DAY_S, Settings, web_url
from tailer.stack import up as run_up
from tailer.store import connect, redis_errors
from tailer.terminal import WIDEST_LINE, Screen, exit_code, jobs_table, printable
from tailer.workers import live_workers

PATIENCE_S = 300.0
DEFAULT_PORT = 8000


class Commands(click.Group):
    """A group whose commands end with one line and an exit code, never with a traceback, where an error is known."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except TailerError as error:
            click.echo(f"tailer: {printable(str(error), widest=WIDEST_LINE)}", err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            sys.exit(ExitCode.SIGNALLED + signal.SIGINT)
        except BrokenPipeError:
            # Nobody reads on. Python would complain when it flushes stdout on its way out.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            sys.exit(ExitCode.SIGNALLED + signal.SIGPIPE)


def _url(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    try:
        return web_url(value) if value else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _examples(*lines: str) -> str:
    """Return the end of a help text; click must not fill its lines."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


url_option = click.option(
    "--url", callback=_url, metavar="URL", help="Ask this web side of Tailer (TAILER_URL); without one, Redis."
)
queue_option = click.option("-q", "--queue", metavar="QUEUE")


@click.group(
    cls=Commands,
    epilog=_examples("tailer demo", "tailer follow 5f0c1a", "tailer COMMAND --help"),
)
@click.version_option(__version__)
def main() -> None:
    """See what RQ jobs print, while they print it.

    Settings come from the environment: REDIS_URL, TAILER_REDIS_URL, TAILER_URL and others.

    Exit codes: 0 the job finished, 1 it failed, 2 wrong usage or no connection, 3 it was stopped or canceled,
    128 + N it was killed by signal N.
    """
    # What matters reaches the user as a line of ours; the rest of the log is for servers.
    logging.basicConfig(level=logging.ERROR, format="tailer: %(message)s")


@main.command(
    epilog=_examples(
        "tailer follow 5f0c1a",
        "tailer follow 5f0c1a --tail 20 --timestamps",
        "tailer follow 5f0c1a --no-follow --stderr 2>&1 | less -R",
        "tailer follow 5f0c1a --url https://logs.example.org",
    )
)
@click.argument("job_id", metavar="JOB")
@click.option("--no-follow", is_flag=True, help="Print what is there now, and leave.")
@click.option("-n", "--tail", metavar="N", help="Begin with the last N lines; all: with the first.")
@click.option("--since", metavar="TIME", help="Begin at a time: 2026-11-23T09:30:00Z, unix seconds, or 10m ago.")
@click.option("--until", metavar="TIME", help="End at a time.")
@click.option("--offset", metavar="CURSOR", help="Begin at a cursor, ATTEMPT:OFFSET.")
@click.option("--attempt", metavar="N", help="That attempt only.")
@click.option("-t", "--timestamps", is_flag=True, help="Begin each line with the time at which it was read (UTC).")
@click.option("--stdout", is_flag=True, help="Standard output only.")
@click.option("--stderr", is_flag=True, help="Standard error only.")
@click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=PATIENCE_S,
    show_default=True,
    metavar="SECONDS",
    help="Give up after so long without a connection.",
)
@click.option("--raw", is_flag=True, help="Send a terminal all that the job sends, also what steers it.")
@url_option
def follow(
    job_id: str, *, no_follow: bool, patience: float, raw: bool, url: str | None, **options: str | bool | None
) -> None:
    """Print a job's output as it comes, until the job is over.

    The job's bytes go to stdout as they are; to a terminal, without what would do more to it than colours, links and
    going back to the beginning of the line. What Tailer has to say goes to stderr: how the job ended if it did not
    finish well, and where bytes are missing. Survives restarts of the web side, and of Redis, without losing or
    repeating a byte.
    """
    given = {name: "1" if value is True else str(value) for name, value in options.items() if value}
    query = LogQuery.parse({**given, "follow": "0" if no_follow else "1"})
    settings = Settings.from_env()
    _follow(settings, url or settings.url, job_id, query, patience, raw=raw)


def _follow(
    settings: Settings,
    url: str | None,
    job_id: str,
    query: LogQuery,
    patience: float = PATIENCE_S,
    *,
    raw: bool = False,
) -> None:
    """Show the log, and leave with the job's outcome."""
    screen = Screen(query.options, raw=raw)
    log: RemoteLog | DirectLog
    if url:
        log = RemoteLog(Web(url, settings.token), job_id, query, patience=patience, notice=screen.tell)
    else:
        log = DirectLog(Hub.open(settings), job_id, query, patience=patience, notice=screen.tell)
    sys.exit(exit_code(screen.show(log.events())))


@main.command(
    epilog=_examples(
        "tailer jobs",
        "tailer jobs --status failed --limit 10",
        "tailer jobs --queue mail --json | jq -r '.jobs[].job_id'",
    )
)
@queue_option
@click.option("-s", "--status", metavar="STATUS", help="RQ's status, or how the job ended: failed, killed, lost, ...")
@click.option("-n", "--limit", metavar="N", default="50", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print what GET /jobs answers.")
@url_option
def jobs(queue: str | None, status: str | None, limit: str, *, as_json: bool, url: str | None) -> None:
    """List jobs: those that wait in a queue first, then those with a log, newest first."""
    named = {"queue": queue, "status": status, "limit": limit}
    given = {name: value for name, value in named.items() if value}
    query = ListQuery.parse(given)
    settings = Settings.from_env()
    if where := url or settings.url:
        found = Web(where, settings.token).get("/jobs", given)
    else:
        hub = Hub.open(settings)
        found = page(hub.store, hub.jobs, query)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo(jobs_table(found["jobs"]), nl=False)


@main.command(
    epilog=_examples(
        "tailer link 5f0c1a --url https://logs.example.org",
        "tailer link 5f0c1a --for 10m",
        "curl -N $(tailer link 5f0c1a --log)",
    )
)
@click.argument("job_id", metavar="JOB")
@click.option("--for", "duration", metavar="TIME", default="1h", show_default=True, help="How long it is valid.")
@click.option("--log", "as_log", is_flag=True, help="Print the URL of the log itself, for programs.")
@url_option
def link(job_id: str, duration: str, *, as_log: bool, url: str | None) -> None:
    """Print a URL that reads one job's log, and nothing else, for a while.

    Whoever has it needs no token. The web side signs it with TAILER_SECRET_KEY.
    """
    settings = Settings.from_env()
    where = url or settings.url
    if not where:
        raise click.UsageError("name the web side with --url or TAILER_URL")
    web = Web(where, settings.token)
    made = web.link(job_id, duration)
    try:
        click.echo(printable(made["log_url" if as_log else "url"], widest=WIDEST_LINE))
    except (KeyError, TypeError, AttributeError):
        raise web.stranger() from None


@main.command(
    # What comes behind the function is the function's.
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
    epilog=_examples(
        "tailer run mymodule.nightly_import 2026-11-23",
        "tailer run --queue mail --timeout 10m mymodule.send to=ann 'retries:=3'",
    ),
)
@queue_option
@click.option("--timeout", metavar="SECONDS", help="RQ's job timeout: 180, 10m, 1h; -1 for none.")
@click.argument("function", metavar="MODULE.FUNCTION")
@click.argument("arguments", metavar="[ARGS]...", nargs=-1, type=click.UNPROCESSED)
def run(queue: str | None, timeout: str | None, function: str, arguments: tuple[str, ...]) -> None:
    """Enqueue a job, follow it, and leave with its outcome.

    Arguments are written as for `rq enqueue`: text, :JSON, %PYTHON for literals; name=text, name:=JSON, name%=PYTHON
    for keywords; @FILE instead of a value reads it from a file.
    """
    if not re.fullmatch(r"\w+(\.\w+)+", function):
        raise click.BadParameter("use MODULE.FUNCTION", param_hint="MODULE.FUNCTION")
    positional, named = parse_function_args(arguments)  # type: ignore[no-untyped-call]
    try:
        seconds = parse_timeout(timeout)
    except TimeoutFormatError as error:
        raise click.BadParameter(str(error), param_hint="--timeout") from None
    settings = Settings.from_env()
    query = LogQuery.parse({})
    connection = connect(settings.rq_url)
    with redis_errors():
        target = Queue(queue or "default", connection=connection)
        job = target.enqueue_call(function, positional, named, timeout=seconds)
    screen = Screen(query.options)
    screen.tell(f"job {job.id} in queue {target.name}")
    listening = [worker for worker in live_workers(connection) if target.name in worker.queues]
    if not listening:
        screen.tell(f"no worker listens to it: start one with `python -m worker {target.name}`")
    elif not any(worker.capture for worker in listening):
        screen.tell("none of its workers captures output: start them with `rq worker -w worker.Worker`")
    _follow(settings, None, job.id, query)


@main.command(epilog=_examples("tailer up", "tailer up --port 8080 --workers 4", "REDIS_URL=redis://host tailer up"))
@click.option("-p", "--port", type=click.IntRange(1, 65_535), default=DEFAULT_PORT, show_default=True)
@click.option("-w", "--workers", type=click.IntRange(1, 64), default=1, show_default=True)
def up(port: int, workers: int) -> None:
    """Run Redis, workers and the web side in one terminal, for this machine only, until Ctrl-C.

    Redis is an embedded one that keeps nothing, unless REDIS_URL names yours.
    """
    sys.exit(run_up(Settings.from_env(), port=port, workers=workers))


@main.command(epilog=_examples("tailer demo", "DEMO_KEEP=1 tailer demo"))
def demo() -> None:
    """Show a job being followed: half a minute, on free ports, leaving nothing behind.

    With DEMO_KEEP=1 all of it stays up until Ctrl-C, to be looked at.
    """
    sys.exit(run_demo(Settings.from_env()))


@main.command(
    epilog=_examples(
        "tailer doctor",
        "tailer doctor --url https://logs.example.org",
        "tailer doctor --url https://logs.example.org --idle 120",
        "tailer doctor --json | jq -r '.findings[] | select(.level == \"fail\") | .text'",
    )
)
@click.option(
    "--idle",
    type=click.FloatRange(min=0, max=DAY_S),
    metavar="SECONDS",
    help="How long a followed log is silent; by default a second more than the heartbeat.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--strict", is_flag=True, help="Leave with 2 also where there are warnings.")
@url_option
def doctor(*, idle: float | None, as_json: bool, strict: bool, url: str | None) -> None:
    """Look at settings, Redis, workers and the web side, and say what to do where something is wrong.

    One line for each finding: ok, warn (it works, and something may be lost or late), fail (it does not work) or skip
    (it could not be looked at). With a URL, a log of its own is written to Redis, followed through that URL in every
    format, and removed; this takes some seconds more than the heartbeat, 20 s unless set otherwise.

    Leaves with 2 if something fails, else with 0.
    """
    bad = {FAIL, WARN} if strict else {FAIL}
    found = list[Finding]()
    with closing(examine(url, idle, lambda line: click.echo(f"tailer: {line}", err=True))) as findings:
        for finding in findings:
            found.append(finding)
            if not as_json:
                click.echo(f"{finding.level:<4}  {finding.subject}: {printable(finding.text, widest=600)}")
    failed = any(finding.level in bad for finding in found)
    if as_json:
        click.echo(json.dumps({"ok": not failed, "findings": [asdict(finding) for finding in found]}, indent=2))
    sys.exit(ExitCode.TROUBLE if failed else ExitCode.FINISHED)


if __name__ == "__main__":
    main(prog_name="tailer")
