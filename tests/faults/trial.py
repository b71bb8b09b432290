"""A trial: one fault, with all that it hits. See the package's docstring for how a test leads it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import rq
from rq.job import Job

from tailer.embedded import EmbeddedServer
from tailer.records import End
from tailer.store import Cursor, LogStore, connect
from tests.faults.account import SHAPES, Account
from tests.faults.followers import Command, Crowd, Follower
from tests.faults.peaks import Peaks
from tests.faults.received import Received
from tests.faults.table import Row
from tests.faults.web import Web
from tests.processes import Running, running
from tests.stack import BIN, ROOT, children, clean, worker_process
from tests.waiting import wait_until

LIVE = ("text", "sse", "ndjson", "tailer", "tailer on Redis")
"""Who follows each job: HTTP in its three formats, and `tailer follow` over HTTP and on Redis."""
BEGIN_S = 0.2
"""For how long a job has written before a fault."""
FLOOD = 1000
"""Lines a second that a job without a rate writes at the least."""
TAIL_S = 0.5
"""For how long a job writes on behind the last thing that happened."""
LATER_S = 1.0
"""By how much a job may take longer than without Tailer, on a machine that does other things as well."""
STATUS = {"finished": "finished", "stopped": "stopped", "lost": "started"}
"""What RQ says of a job with such an outcome; else it is "failed"."""
UNSENT = "not sent yet; the outcome is `lost`"

T = TypeVar("T")


class Task:
    """A job on its way in a worker of its own; `account` is what it has written."""

    def __init__(self, job: Job, account: Account, worker: Running) -> None:
        self.job = job
        self.account = account
        self.worker = worker

    @property
    def horses(self) -> list[int]:
        """The processes that its worker has started."""
        return children(self.worker.pid)

    def kill_horse(self, sign: int = signal.SIGKILL) -> None:
        """Send the job's own process a signal."""
        for pid in self.horses:
            os.kill(pid, sign)

    def signal_all(self, sign: int) -> None:
        """Send its worker and the job's own process a signal, in this order."""
        for pid in (self.worker.pid, *self.horses):
            os.kill(pid, sign)

    def ended(self, status: str, timeout: float) -> str:
        """Return RQ's status of the job when it is this one, or as it is after that time."""
        with contextlib.suppress(AssertionError):
            wait_until(lambda: self.status() == status, timeout)
        return self.status()

    def status(self) -> str:
        """RQ's status now."""
        return str(self.job.get_status(refresh=True).value)


class Trial:
    """One fault: `begin`, whatever the test does, `recover`, `finish`; `made` is called with the row of it."""

    def __init__(
        self,
        group: str,
        fault: str,
        place: int,
        directory: Path,
        held: contextlib.ExitStack,
        made: Callable[[Row], None],
        *,
        whole: bool,
    ) -> None:
        self.group = group
        self.fault = fault
        self.place = place
        self.whole = whole
        self.followers: list[Follower | Command] = []
        self._held = held
        self._directory = directory
        self._made = made
        self.web: Web | None = None
        self._recovery: float | None = None

    def seconds(self, whole: float, *, short: float) -> float:
        """How long a fault takes: one of these, for the whole suite or the shorter one."""
        return whole if self.whole else short

    def hold(self, context: contextlib.AbstractContextManager[T]) -> T:
        """Enter a context that is left behind the trial, when all that was started since then is gone."""
        return self._held.enter_context(context)

    def serve(self, *options: str) -> Web:
        """Start another web process on the trial's Redis; `options` are gunicorn's."""
        return self.hold(Web(self.redis_url, *options, env=self._settings))

    def found(
        self,
        *,
        redis: str | None = None,
        logs: str | None = None,
        direct: str | None = None,
        web_options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> Self:
        """Start the servers; `begin` does it, for tests that need nothing of them before.

        `redis` is the URL of RQ's server, by default of one of the trial's own, which is `server`. `logs` is that of
        the logs' server, if it is another one; `direct` is by which way the trial itself reads the log, if that is
        not the way of the others. `web_options` are gunicorn's, `env` settings of the web process and the worker.
        """
        if redis is None:
            self.server = self.hold(EmbeddedServer())
            redis = self.server.url
        self.redis_url, self.log_url = redis, logs or redis
        whole = {"TAILER_KEEP_TAIL": "4GiB"}  # or what a follower lacks could be what is over a log's limit
        self._settings = {**whole, **({"TAILER_REDIS_URL": logs} if logs else {}), **(env or {})}
        self.connection = self.hold(connect(redis))
        self.store = LogStore(self.hold(connect(direct or self.log_url)))
        self.web = self.serve(*web_options)
        return self

    def begin(
        self,
        *,
        shape: str = "lines",
        rate: float = 200,
        then: str = "",
        timeout: float = 600,
        worker_class: str = "worker.Worker",
        plain_class: str = "rq.Worker",
        wrapper: Sequence[str] = (),
        web: str | None = None,
        live: Sequence[str] = LIVE,
        **servers: Any,
    ) -> Self:
        """Start everything; returns when the job has written for a moment, and each follower has that.

        The job, of `tests.faults.jobs.numbered`, has so many seconds of `timeout`. It runs in a worker of
        `worker_class`, and the same job in one of RQ's own; both run by `wrapper`, a command. `web` is the address by
        which followers come, by default that of the web process itself; `live` is who they are. See `found` for the
        `servers`.
        """
        if servers or not self.web:
            self.found(**servers)
        assert self.web
        self.address = web or self.web.url
        self.shape, self.rate, self._then = SHAPES[shape], rate, then
        arguments = (shape, rate, then)
        self.task = self._start(worker_class, arguments, timeout, wrapper, self._settings)
        self.plain = self._start(plain_class, arguments, timeout, wrapper, {})
        kinds = {"worker": lambda: [self.task.worker.pid], "web": self.web.workers}
        self.peaks = self.hold(Peaks(kinds))
        self.crowd = self.hold(Crowd(self.address))
        for form in live:
            self.follow(form)
        for task in self.workers:
            wait_until(lambda task=task: task.status() == "started" and task.horses, 20, "the job's process")
        for task in self.workers:
            task.account.go = 1
        begin = self.shape.total(int((self.rate or FLOOD) * BEGIN_S) + 1)
        self.write_on(begin)
        self.reach(begin, 20)
        return self

    @property
    def workers(self) -> tuple[Task, Task]:
        """The job under Tailer, and under RQ alone, with their workers."""
        return self.task, self.plain

    def follow(self, form: str, buffer: int | None = None) -> Follower | Command:
        """Send another follower; `buffer` is the size of its receive buffer, if it is one of HTTP's own formats."""
        follower: Follower | Command
        if form.startswith("tailer"):
            env = {"REDIS_URL": self.redis_url, "TAILER_REDIS_URL": self.log_url}
            place = [] if form == "tailer on Redis" else ["--url", self.address]
            argv = clean([str(BIN / "tailer"), "follow", self.task.job.id, *place], env)
            follower = Command(self.hold(running(argv, cwd=ROOT, env=env)), self.shape, form)
        else:
            follower = self.crowd.follow(self.task.job.id, form, self.shape, buffer)
        self.followers.append(follower)
        return follower

    def written(self) -> int:
        """The bytes that the job has certainly written so far."""
        return self.shape.total(self.task.account.done)

    def write_on(self, size: int, timeout: float = 20) -> None:
        """Return when the job has written so many bytes more."""
        goal = self.written() + size
        wait_until(lambda: self.written() >= goal, timeout, f"{size} bytes more of the job's")

    def recover(self, timeout: float = 20, among: Collection[Follower | Command] | None = None) -> float:
        """Return how many seconds from now it takes until each follower has all that is written up to now.

        To be called when the fault is over. It is the row's time to recover.
        """
        began = time.monotonic()
        self.reach(self.written(), timeout, among)
        return self.recovered(began)

    def recovered(self, began: float) -> float:
        """Say that the fault is overcome, which began at that moment of the monotonic clock; returns the seconds."""
        self._recovery = time.monotonic() - began
        return self._recovery

    def reach(self, goal: int, timeout: float, among: Collection[Follower | Command] | None = None) -> None:
        """Return when each follower is so far."""
        waiting = list(self.followers if among is None else among)

        def behind() -> bool:
            waiting[:] = [one for one in waiting if one.at < goal and not one.done]
            return bool(waiting)

        try:
            wait_until(lambda: not behind(), timeout)
        except AssertionError:
            places = {follower.form: follower.at for follower in waiting}
            raise AssertionError(f"not within {timeout} s at {goal}: {places}") from None

    def let_end(self) -> None:
        """Have both jobs write on for a moment, up to the same line, and end."""
        most = max(task.account.begun for task in self.workers) + int((self.rate or FLOOD) * TAIL_S)
        for task in self.workers:
            task.account.until = min(task.account.until, most)

    def end_seen(self, timeout: float = 20) -> float:
        """Return how many seconds from now, or from the last line, it takes until each follower has seen the end.

        To be called when the job has died, or was told to. It is the row's time to recover.
        """
        now = time.monotonic()
        self._all_over(timeout)
        return self.recovered(max(now, self.task.account.last))

    def finish(
        self,
        outcome: str = "finished",
        *,
        status: str | None = None,
        causes: Collection[str] = (),
        most_missing: int = 0,
        checksum: bool = True,
        most_unsent: int = 0,
        most_slower: float = 1.0,
        timeout: float = 30,
    ) -> Row:
        """Let the job write on for a moment and end, account for every byte, and make the row.

        Its `outcome` must be this one, and so must RQ's `status`, by default the one that belongs to it. `causes` are
        those that holes may have, and `most_missing` the bytes that may be in them. `checksum` says whether the end
        record has one. `most_unsent` are bytes that nobody could record any more, where the outcome is "lost".
        `most_slower` says how many times as long the job may take as without Tailer, beside `LATER_S`.
        """
        self.let_end()
        truth, end = self._read(timeout)
        self._all_over(timeout)
        written = truth.check(self.task.account, self.shape, unsent=most_unsent)
        unsent = written - truth.at
        assert (end.outcome, end.bytes, end.dropped) == (outcome, truth.at, truth.missing), end
        assert truth.causes <= set(causes), truth.holes
        assert truth.missing <= most_missing, truth.holes
        assert (end.sha256 is not None) is checksum, end
        verified = sum(self._verify(follower, truth, end) for follower in self.followers)
        received = [follower.received for follower in self.followers]
        status = status or STATUS.get(outcome, "failed")
        result, plain_result = (task.ended(status, timeout) for task in self.workers)
        self.peaks.look()
        row = Row(
            group=self.group,
            fault=self.fault,
            place=self.place,
            written=written,
            received=truth.length,
            holes=[*truth.holes, *([(unsent, UNSENT)] if unsent else [])],
            lost=sum(one.lost for one in received),
            doubled=sum(one.doubled for one in received),
            followers=len(self.followers),
            verified=verified,
            outcome=outcome,
            result=result,
            plain_result=plain_result,
            duration=self.task.account.duration,
            plain_duration=self.plain.account.duration,
            recovery=self._recovery,
            worker_peak=self.peaks.bytes["worker"],
            web_peak=self.peaks.bytes["web"],
        )
        assert row.lost == row.doubled == 0, row
        assert row.result == row.plain_result == status, row
        if row.duration and row.plain_duration and not self._then:
            assert row.duration < row.plain_duration * most_slower + LATER_S, row
        self._made(row)
        return row

    def _start(
        self,
        worker_class: str,
        arguments: tuple[str, float, str],
        timeout: float,
        wrapper: Sequence[str],
        env: Mapping[str, str],
    ) -> Task:
        path = self._directory / worker_class
        account = Account.made(path)
        queue = rq.Queue(f"trial-{worker_class}", connection=self.connection)
        job = queue.enqueue("tests.faults.jobs.numbered", str(path), *arguments, job_timeout=timeout)
        worker = worker_process(self.redis_url, queue.name, worker_class=worker_class, env=env, wrapper=wrapper)
        return Task(job, account, self.hold(worker))

    def _read(self, timeout: float) -> tuple[Received, End]:
        """The log as the store has it, when it has ended."""

        def ended() -> End | None:
            summary = self.store.summary(self.task.job.id)
            return summary.last.end if summary else None

        wait_until(ended, timeout, "the end record")
        truth = Received(self.shape)
        reader = self.store.reader(self.task.job.id, Cursor())
        while records := reader.read():
            truth.records(records)
        assert truth.end
        return truth, truth.end

    def _all_over(self, timeout: float) -> None:
        try:
            wait_until(lambda: all(follower.done for follower in self.followers), timeout)
        except AssertionError:
            places = {one.form: (one.at, one.broken) for one in self.followers if not one.done}
            raise AssertionError(f"not over within {timeout} s: {places}") from None

    def _verify(self, follower: Follower | Command, truth: Received, end: End) -> bool:
        """Whether it has compared its bytes with the checksum; AssertionError if anything differs from the log."""
        who, got = follower.form, follower.received
        assert follower.over, (who, follower.refused)
        assert not got.wrong, (who, got.wrong)
        assert (got.length, got.sha256) == (truth.length, truth.sha256), (who, got.length, truth.length)
        assert got.holes == truth.holes, (who, got.holes, truth.holes)
        assert got.end in {None, end}, (who, got.end, end)
        if isinstance(follower, Command):
            assert follower.agrees_with(end), (who, follower.process.wait(), end)
        if end.sha256 is None or truth.missing:
            return False
        assert got.sha256 == end.sha256, who
        return True
