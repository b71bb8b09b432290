"""Every way a job can be or end: what its clients see is what the table in docs/protocol.md says."""

import contextlib
import itertools
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rq import Queue, Repeat, Retry
from rq.command import send_kill_horse_command, send_stop_job_command
from rq.job import Job

from tailer.records import OUTCOMES, End
from tests.processes import Running
from tests.stack import ROOT, Clients, Event, Stack, children, watching_its_horse
from tests.waiting import wait_until

HEADING = "## Every way a job can be or end"
COLUMNS = ("what happens", "status", "outcome", "final", "exit", "signal", "reason", "last line of text", "events")
LOST_S = 20
"""Within how many seconds a log ends whose worker was lost."""
SLACK_S = 3
"""What a loaded machine may add to that."""
CGROUPS = Path("/sys/fs/cgroup")


def table() -> dict[str, tuple[str, ...]]:
    """The rows of the table in docs/protocol.md, by what happens."""
    section = (ROOT / "docs" / "protocol.md").read_text().partition(HEADING)[2].partition("\n## ")[0]
    lines = [line.strip().strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    rows = [tuple(cell.strip() for cell in line) for line in lines]
    assert rows[0] == COLUMNS
    return {row[0]: row for row in rows[2:]}


class Case:
    """A job on its way, with three clients that follow it."""

    def __init__(self, stack: Stack, held: contextlib.ExitStack, directory: Path) -> None:
        self.stack = stack
        self.queue: Queue = stack.queue()
        self.path = str(directory / "path")
        self.job_id = ""
        self._held = held
        self._clients: Clients | None = None

    def enqueue(self, name: str, *args: object, **options: Any) -> Job:
        """Enqueue a job, and follow it."""
        return self.follow(self.queue.enqueue(f"tests.jobs.{name}", args=args, **options))

    def follow(self, job: Job) -> Job:
        """Connect the three clients, anew if there are some already."""
        self.job_id = job.id
        self._clients = self._held.enter_context(self.stack.follow(job.id))
        return job

    @property
    def clients(self) -> Clients:
        """The clients that were connected last."""
        assert self._clients
        return self._clients

    def work(self, *arguments: str, **options: Any) -> str:
        """Run the queue's jobs; returns the worker's console."""
        return self.stack.work(self.queue, *arguments, **options)

    def worker(self, *arguments: str, **options: Any) -> contextlib.AbstractContextManager[Running]:
        """Run a worker for a block."""
        return self.stack.worker(self.queue, *arguments, **options)

    def wait_for_output(self, wanted: bytes) -> None:
        """Return when the job has printed this."""
        self.stack.wait_for_output(self.job_id, wanted)

    def wait_for_status(self, status: str) -> dict[str, Any]:
        """Return what the SSE client was told with this status, as soon as it was."""

        def told() -> dict[str, Any] | None:
            events = [event.json for event in self.clients["sse"].events if event.name == "status"]
            return next((state for state in events if state["status"] == status), None)

        state = wait_until(told, 10, f"event of status {status}")
        assert state
        return state

    def go(self) -> None:
        """Let a job that waits for `path` go on."""
        Path(self.path).touch()

    def seen(self, what: str) -> tuple[str, ...]:
        """Return the row of the table that the three clients' streams amount to; all three must tell the same."""
        events, last = self.clients.events(), self.clients.records()[-1]
        cursor = last.pop("cursor")
        told = End(**last)
        assert events[-1] == Event("end", events[-1].data, f"{cursor}:end")
        assert told.outcome in OUTCOMES
        summary = self.stack.store.summary(self.job_id)
        ends = [attempt.end for attempt in summary.attempts if attempt.end] if summary else []
        # An end that is not in the store was made up for each client, at the moment when the job was seen to be gone.
        differ = {} if told in ends else {"ended_at": told.ended_at}
        assert {**events[-1].json, **differ} == last
        if told not in ends:
            ends.append(told)
        text = self.clients.text().decode(errors="replace")
        own, tailers, line = text.rpartition("[tailer] ") if "[tailer] " in text else (text, "", "")
        output = self._output()
        between = b"\n" if tailers and output and not output.endswith(b"\n") else b""
        assert own.encode() == output + between, text
        assert "".join(event.data for event in events if not event.name) == output.decode()
        if summary:
            late = self.stack.get(f"/jobs/{self.job_id}/log")
            assert late.body == self.clients.text()
        values = (
            "; ".join(_cell(getattr(end, name)) for end in ends)
            for name in ("status", "outcome", "final", "exit", "signal", "reason")
        )
        names = [event.name or "output" for event in events if event.name not in {"status", "ping"}]
        return (
            what,
            *values,
            _cell(f"`{tailers}{line.strip()}`" if tailers else None),
            ", ".join(name for name, _ in itertools.groupby(names)),
        )

    def _output(self) -> bytes:
        """The job's bytes, of all attempts."""
        summary = self.stack.store.summary(self.job_id)
        numbers = [attempt.number for attempt in summary.attempts] if summary else []
        return b"".join(self.stack.log(self.job_id, number).data() for number in numbers)


def _cell(value: object) -> str:
    """A value as the table has it; what differs from run to run is replaced by a letter."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = re.sub(r"after \d+\.\d s", "after T s", str(value))
    return re.sub(r"\(\d+\.\d GiB\)", "(N GiB)", text)


Way = Callable[[Case], None]
WAYS: dict[str, Way] = {}


def way(function: Way) -> Way:
    """Try this way; the function's docstring is what the table calls it."""
    assert function.__doc__
    WAYS[function.__doc__.removesuffix(".")] = function
    return function


@pytest.fixture
def case(stack: Stack, tmp_path: Path) -> Iterator[Case]:
    """A case whose clients end with the test."""
    with contextlib.ExitStack() as held:
        yield Case(stack, held, tmp_path)


def test_table_has_a_row_for_each_way():
    """The table leaves out nothing that is tried here, and promises nothing that is not."""
    assert set(table()) == set(WAYS)


@pytest.mark.parametrize("what", WAYS)
def test_way(what: str, case: Case):
    """What text, SSE and NDJSON clients see of a job that goes this way is what the table says."""
    WAYS[what](case)
    seen = case.seen(what)
    assert seen == table().get(what), f"| {' | '.join(seen)} |"


# Waiting.


@way
def queued(case: Case) -> None:
    """Waits in its queue, then runs."""
    case.queue.enqueue("tests.jobs.silent")
    case.enqueue("hello")
    assert case.wait_for_status("queued")["position"] == 2
    case.work("--max-jobs", "1")
    assert wait_until(lambda: case.clients["sse"].events[-1].json["position"] == 1, 10, "position 1")
    case.work()


@way
def scheduled(case: Case) -> None:
    """Is scheduled, then runs."""
    case.follow(case.queue.enqueue_in(timedelta(seconds=3), "tests.jobs.hello"))
    case.wait_for_status("scheduled")
    with case.worker("--with-scheduler"):
        case.clients.wait()


@way
def deferred(case: Case) -> None:
    """Is deferred until another job has ended, then runs."""
    first = case.queue.enqueue("tests.jobs.silent")
    case.enqueue("hello", depends_on=first)
    case.wait_for_status("deferred")
    case.work()


@way
def started(case: Case) -> None:
    """Runs when the client comes, and finishes."""
    job = case.queue.enqueue("tests.jobs.wait_for", case.path)
    with case.worker("--burst"):
        case.stack.wait_for_output(job.id, b"waiting\n")
        case.follow(job)
        case.wait_for_status("started")
        wait_until(lambda: case.clients["text"].body == b"waiting\n")
        case.go()
        case.clients.wait()


# Ending by itself.


@way
def finished(case: Case) -> None:
    """Finishes."""
    case.enqueue("hello")
    case.work()


@way
def empty(case: Case) -> None:
    """Prints nothing."""
    case.enqueue("silent")
    case.work()
    assert case.clients.text() == b""


@way
def without_result(case: Case) -> None:
    """Finishes with `result_ttl=0`."""
    case.enqueue("hello", result_ttl=0)
    case.work()
    assert not Job.exists(case.job_id, connection=case.stack.connection)


@way
def failed(case: Case) -> None:
    """Raises an exception."""
    case.enqueue("fail")
    case.work()
    log = case.stack.log(case.job_id)
    lines = log.stderr.decode().splitlines()
    assert log.stdout == b"about to fail\n"
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-2:] == ["ValueError: no π", "at all"]
    assert [line.rpartition(" in ")[2] for line in lines if line.startswith("  File ")] == ["fail", "_fail_deeper"]


@way
def timed_out(case: Case) -> None:
    """Exceeds its timeout."""
    case.enqueue("overtime", job_timeout=1)
    case.work()
    assert b"JobTimeoutException" in case.stack.log(case.job_id).stderr


@way
def exited(case: Case) -> None:
    """Leaves by `os._exit(3)`."""
    case.enqueue("leave", 3)
    case.work()


@way
def exited_well(case: Case) -> None:
    """Leaves by `os._exit(0)`."""
    case.enqueue("leave", 0)
    case.work()


@way
def memory_error(case: Case) -> None:
    """Gets a `MemoryError`."""
    case.enqueue("memory_error")
    case.work()


# Ended by somebody.


@way
def killed(case: Case) -> None:
    """Dies of SIGKILL."""
    case.enqueue("kill_itself")
    case.work()
    assert case.stack.log(case.job_id).data() == b"last words"


@way
def crashed(case: Case) -> None:
    """Dies of a segmentation fault."""
    case.enqueue("crash")
    case.work()


@way
def out_of_memory(case: Case) -> None:
    """Is killed by the kernel, out of memory."""
    with memory_limit(256 << 20) as join:
        case.enqueue("eat_memory")
        case.work(wrapper=["sh", "-c", f'echo $$ > {join} && exec "$@"', "sh"])


@way
def stopped(case: Case) -> None:
    """Is stopped by `send_stop_job_command`."""
    case.enqueue("wait_for", case.path)
    with case.worker("--burst"):
        case.wait_for_output(b"waiting\n")
        send_stop_job_command(case.stack.connection, case.job_id)
        case.clients.wait()


@way
def horse_killed(case: Case) -> None:
    """Is killed by `send_kill_horse_command`."""
    case.enqueue("wait_for", case.path)
    with case.worker("--burst", "--name", case.queue.name):
        case.wait_for_output(b"waiting\n")
        send_kill_horse_command(case.stack.connection, case.queue.name)
        case.clients.wait()


@way
def shut_down(case: Case) -> None:
    """Is killed because its worker is shut down at once (two SIGTERM)."""
    case.enqueue("wait_for", case.path)
    with case.worker() as worker:
        case.wait_for_output(b"waiting\n")
        watching_its_horse(worker.pid)
        worker.signal(signal.SIGTERM)
        worker.says("shut down requested")
        with contextlib.suppress(AssertionError):  # RQ takes no notice of the second one within a second.
            wait_until(lambda: case.clients["text"].body != b"waiting\n", 1.1)
        worker.signal(signal.SIGTERM)
        worker.wait()
        case.clients.wait()


@way
def canceled(case: Case) -> None:
    """Is canceled before it runs."""
    case.enqueue("hello").cancel()


@way
def canceled_running(case: Case) -> None:
    """Is canceled while it runs; RQ lets it finish."""
    job = case.enqueue("wait_for", case.path)
    with case.worker("--burst"):
        case.wait_for_output(b"waiting\n")
        job.cancel()
        case.wait_for_status("canceled")
        assert "end" not in [event.name for event in case.clients["sse"].events]
        case.go()
        case.clients.wait()


@way
def deleted(case: Case) -> None:
    """Is deleted before it runs."""
    job = case.enqueue("hello")
    case.wait_for_status("queued")
    job.delete()


@way
def deleted_running(case: Case) -> None:
    """Is deleted while it runs; RQ lets it finish."""
    job = case.enqueue("wait_for", case.path)
    with case.worker("--burst"):
        case.wait_for_output(b"waiting\n")
        job.delete()
        case.go()
        case.clients.wait()


@way
def expired(case: Case) -> None:
    """Outlives its `ttl` in the queue."""
    case.enqueue("hello", ttl=3)
    case.wait_for_status("queued")


@way
def lost(case: Case) -> None:
    """Is lost with its worker (both killed)."""
    case.enqueue("wait_for", case.path)
    with case.worker() as worker:
        case.wait_for_output(b"waiting\n")
        (horse,) = children(worker.pid)
        worker.signal(signal.SIGSTOP)  # It must not see its horse go.
        os.kill(horse, signal.SIGKILL)
        worker.signal(signal.SIGKILL)
        died = time.monotonic()
        worker.wait()
        case.clients["text"].wait(LOST_S + 10)
        assert time.monotonic() - died <= LOST_S + SLACK_S


# More than one attempt.


@way
def retried(case: Case) -> None:
    """Fails and is retried at once."""
    case.enqueue("fail_once", case.path, retry=Retry(max=1))
    case.work()


@way
def retried_later(case: Case) -> None:
    """Fails and is retried after an interval."""
    case.enqueue("fail_once", case.path, retry=Retry(max=1, interval=2))
    with case.worker("--with-scheduler"):
        case.wait_for_status("scheduled")
        case.clients.wait()


@way
def killed_and_retried(case: Case) -> None:
    """Dies of SIGKILL and is retried."""
    case.enqueue("die_once", case.path, retry=Retry(max=1))
    case.work()


@way
def returned_retry(case: Case) -> None:
    """Returns a `Retry`."""
    case.enqueue("return_retry", case.path)
    case.work()


@way
def returned_retry_too_often(case: Case) -> None:
    """Returns a `Retry` once more than it may."""
    case.enqueue("always_return_retry")
    case.work()


@way
def repeated(case: Case) -> None:
    """Is repeated."""
    case.enqueue("count", case.path, repeat=Repeat(times=1))
    case.work()
    assert case.clients.text() == b"run 1\nrun 2\n"


@way
def requeued(case: Case) -> None:
    """Is requeued after it failed."""
    job = case.enqueue("fail_once", case.path)
    case.work()
    assert case.clients.events()[-1].json["outcome"] == "failed"
    job.requeue()
    case.follow(job)
    case.work()


@way
def deleted_before_retry(case: Case) -> None:
    """Is deleted while it waits for a retry."""
    job = case.enqueue("fail_once", case.path, retry=Retry(max=1, interval=600))
    case.work()
    case.wait_for_status("scheduled")
    job.delete()


# Without a log.


@way
def plain(case: Case) -> None:
    """Finishes under a plain `rq.Worker`."""
    case.enqueue("hello")
    case.work(worker_class="rq.Worker")


@way
def plain_failed(case: Case) -> None:
    """Fails under a plain `rq.Worker`."""
    case.enqueue("fail")
    case.work(worker_class="rq.Worker")


def test_unknown_job(stack: Stack):
    """A job that nobody knows gets status 404 and one line, in every format, and so does an impossible id."""
    for job_id in ("nobody", "a.b", "x" * 300):
        for options in ((), ("-H", "Accept: text/event-stream"), ("-H", "Accept: application/x-ndjson")):
            answer = stack.get(f"/jobs/{job_id}/log", *options)
            assert answer.status == 404
            assert b"no job" in answer.body


# A memory limit that the kernel enforces.


@contextlib.contextmanager
def memory_limit(size: int) -> Iterator[str]:
    """Make a memory control group of so many bytes; yields the file into which who wants to join writes its pid."""
    unified = (CGROUPS / "cgroup.controllers").exists()
    group = (CGROUPS if unified else CGROUPS / "memory") / f"tailer-test-{os.getpid()}"
    limits = ("memory.max", "memory.swap.max") if unified else ("memory.limit_in_bytes", "memory.swappiness")
    try:
        group.mkdir()
        (group / limits[0]).write_text(str(size))
        with contextlib.suppress(OSError):  # A system without swap has no such file.
            (group / limits[1]).write_text("0")
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.xfail(f"no memory control group can be made here: {error}")
    try:
        yield str(group / "cgroup.procs")
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text(), 10, "end of the group's processes")
        group.rmdir()
