"""The command line: `tailer follow|jobs|link|run|up|demo|archive|doctor`.

Each command imports what it needs when it runs: Redis, RQ and the rest take several times as long to load as the
commands themselves, and none needs all of them.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import click

from tailer import __version__
from tailer.errors import ExitCode, TailerError
from tailer.settings import DAY_S, Settings, web_url

PATIENCE_S = 300.0
DEFAULT_PORT = 8000
ARCHIVER_PATIENCE_S = 60.0
"""How long a request of the archiver may take. It writes large files, and nobody waits for it."""


class Commands(click.Group):
    """A group whose commands end with one line and an exit code, never with a traceback, where an error is known."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        _open_stdout()
        try:
            return super().invoke(ctx)
        except TailerError as error:
            from tailer.terminal import WIDEST_LINE, printable

            click.echo(f"tailer: {printable(str(error), widest=WIDEST_LINE)}", err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            sys.exit(ExitCode.SIGNALLED + signal.SIGINT)
        except BrokenPipeError:  # Nobody reads on.
            _drop_stdout()
            sys.exit(ExitCode.SIGNALLED + signal.SIGPIPE)
        except OSError as error:  # a full disk behind stdout, a terminal that is gone
            click.echo(f"tailer: {error}", err=True)
            _drop_stdout()
            sys.exit(ExitCode.TROUBLE)


def _open_stdout() -> None:
    """See to it that whatever is printed can be: to a stdout that was closed, or whose encoding lacks characters."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 (for as long as the process runs)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _drop_stdout() -> None:
    """Keep Python from complaining when it flushes stdout on its way out."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
        "tailer follow 5f0c1a 9ab01c",
        "tailer follow --queue mail --queue default --since 10m",
    )
)
@click.argument("job_ids", metavar="[JOB]...", nargs=-1)
@click.option("-q", "--queue", "queues", metavar="QUEUE", multiple=True, help="All jobs of that queue, as they begin.")
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
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Show names of jobs in colours; auto: on a terminal, unless NO_COLOR is set.",
)
@url_option
def follow(
    job_ids: tuple[str, ...],
    *,
    queues: tuple[str, ...],
    no_follow: bool,
    patience: float,
    raw: bool,
    color: str,
    url: str | None,
    **options: str | bool | None,
) -> None:
    """Print a job's output as it comes, until the job is over; or that of several jobs, or of all jobs of a queue.

    The job's bytes go to stdout as they are; to a terminal, without what would do more to it than colours, links and
    going back to the beginning of the line. What Tailer has to say goes to stderr: how the job ended if it did not
    finish well, and where bytes are missing. Survives restarts of the web side, and of Redis, without losing or
    repeating a byte.

    Of several jobs, or of a queue, come whole lines, each behind the id and the function of its job. It leaves with
    the exit code of the job that ended worst; a queue has no end but Ctrl-C.
    """
    given = {name: "1" if value is True else str(value) for name, value in options.items() if value}
    given["follow"] = "0" if no_follow else "1"
    settings = Settings.from_env()
    where = url or settings.url
    if len(job_ids) == 1 and not queues:
        _follow(settings, where, job_ids[0], given, patience, raw=raw)
    elif not job_ids and not queues:
        raise click.UsageError("Missing argument 'JOB': name jobs, or queues with --queue")
    else:
        _follow_many(settings, where, job_ids, queues, given, patience, raw=raw, color=color)


def _follow_many(
    settings: Settings,
    url: str | None,
    job_ids: Sequence[str],
    queues: Sequence[str],
    given: Mapping[str, str],
    patience: float,
    *,
    raw: bool,
    color: str,
) -> None:
    """Show the logs, and leave with the worst outcome."""
    from tailer.many_query import ManyQuery
    from tailer.many_screen import ManyScreen, wants_colours

    each = {name: [value] for name, value in given.items()}
    query = ManyQuery.parse({**each, "job": job_ids, "queue": queues})
    screen = ManyScreen(query.each.options, colours=wants_colours(color, unwanted=not settings.colours), raw=raw)
    if url:
        from tailer.client import Web
        from tailer.many_client import RemoteLogs

        events = RemoteLogs(Web(url, settings.token), query, patience=patience, notice=screen.tell).events()
    else:
        from tailer.direct import DirectLogs
        from tailer.hub import Hub

        events = DirectLogs(Hub.open(settings), query, patience=patience, notice=screen.tell).events()
    sys.exit(screen.show(events))


def _follow(
    settings: Settings,
    url: str | None,
    job_id: str,
    given: Mapping[str, str],
    patience: float = PATIENCE_S,
    *,
    raw: bool = False,
) -> None:
    """Show the log, and leave with the job's outcome."""
    from tailer.query import LogQuery
    from tailer.terminal import Screen, exit_code

    query = LogQuery.parse(given)
    screen = Screen(query.options, raw=raw)
    if url:
        from tailer.client import RemoteLog, Web

        events = RemoteLog(Web(url, settings.token), job_id, query, patience=patience, notice=screen.tell).events()
    else:
        from tailer.direct import DirectLog
        from tailer.hub import Hub

        events = DirectLog(Hub.open(settings), job_id, query, patience=patience, notice=screen.tell).events()
    sys.exit(exit_code(screen.show(events)))


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
    from tailer.listing import ListQuery, page
    from tailer.terminal import jobs_table

    named = {"queue": queue, "status": status, "limit": limit}
    given = {name: value for name, value in named.items() if value}
    query = ListQuery.parse(given)
    settings = Settings.from_env()
    if where := url or settings.url:
        from tailer.client import Web

        web = Web(where, settings.token)
        found = web.get("/jobs", given)
        if not isinstance(found, dict) or not isinstance(found.get("jobs"), list):
            raise web.stranger()
    else:
        from tailer.hub import Hub

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
    from tailer.client import Web
    from tailer.terminal import WIDEST_LINE, printable

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
    from rq import Queue
    from rq.cli.helpers import parse_function_args
    from rq.exceptions import TimeoutFormatError
    from rq.utils import parse_timeout

    from tailer.formats import Options
    from tailer.store import connect, redis_errors
    from tailer.terminal import Screen
    from tailer.workers import live_workers

    positional, named = parse_function_args(arguments)  # type: ignore[no-untyped-call]
    try:
        seconds = parse_timeout(timeout)
    except TimeoutFormatError as error:
        raise click.BadParameter(str(error), param_hint="--timeout") from None
    settings = Settings.from_env()
    connection = connect(settings.rq_url)
    with redis_errors():
        target = Queue(queue or "default", connection=connection)
        job = target.enqueue_call(function, positional, named, timeout=seconds)
    screen = Screen(Options())
    screen.tell(f"job {job.id} in queue {target.name}")
    listening = [worker for worker in live_workers(connection) if target.name in worker.queues]
    if not listening:
        screen.tell(f"no worker listens to it: start one with `python -m worker {target.name}`")
    elif not any(worker.capture for worker in listening):
        screen.tell("none of its workers captures output: start them with `rq worker -w worker.Worker`")
    _follow(settings, None, job.id, {})


@main.command(epilog=_examples("tailer up", "tailer up --port 8080 --workers 4", "REDIS_URL=redis://host tailer up"))
@click.option("-p", "--port", type=click.IntRange(1, 65_535), default=DEFAULT_PORT, show_default=True)
@click.option("-w", "--workers", type=click.IntRange(1, 64), default=1, show_default=True)
def up(port: int, workers: int) -> None:
    """Run Redis, workers and the web side in one terminal, for this machine only, until Ctrl-C.

    Redis is an embedded one that keeps nothing, unless REDIS_URL names yours.
    """
    from tailer.stack import up as run_up

    sys.exit(run_up(Settings.from_env(), port=port, workers=workers))


@main.command(epilog=_examples("tailer demo", "DEMO_KEEP=1 tailer demo"))
def demo() -> None:
    """Show a job being followed: half a minute, on free ports, leaving nothing behind.

    With DEMO_KEEP=1 all of it stays up until Ctrl-C, to be looked at.
    """
    from tailer.demo import demo as run_demo

    sys.exit(run_demo(Settings.from_env()))


@main.command(
    epilog=_examples(
        "TAILER_ARCHIVE=s3://logs/tailer tailer archive", "TAILER_ARCHIVE=file:///srv/logs tailer archive --once"
    )
)
@click.option("--once", is_flag=True, help="Archive what has ended, and leave; with 2 if some log could not be.")
def archive(*, once: bool) -> None:
    """Put finished logs into the archive that TAILER_ARCHIVE names, until Ctrl-C or SIGTERM.

    One of these processes is enough, more of them do no harm.
    """
    from tailer.archived import ArchivedStore, open_store
    from tailer.archiver import Archiver
    from tailer.logs import use_json

    settings = Settings.from_env()
    logger = logging.getLogger("tailer")
    logger.setLevel(logging.INFO)
    if settings.log_format == "json":
        use_json()
    store = open_store(settings, patience=ARCHIVER_PATIENCE_S)
    if not isinstance(store, ArchivedStore):
        raise click.UsageError("name the archive with TAILER_ARCHIVE")
    archiver = Archiver(store, settings)
    if once:
        swept = archiver.sweep()
        click.echo(f"{swept.archived} logs archived ({swept.bytes} bytes of output), {swept.failed} not")
        sys.exit(ExitCode.TROUBLE if swept.failed else ExitCode.FINISHED)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    logger.info("archiving to %s", settings.archive)
    archiver.run(stop)


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
    from tailer.doctor import examine, report

    with closing(examine(url, idle, lambda line: click.echo(f"tailer: {line}", err=True))) as findings:
        well = report(findings, as_json=as_json, strict=strict)
    sys.exit(ExitCode.FINISHED if well else ExitCode.TROUBLE)


if __name__ == "__main__":
    main(prog_name="tailer")
