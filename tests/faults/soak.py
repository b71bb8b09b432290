"""The soak: `make soak`. Hundreds of jobs and followers for SOAK_MINUTES (30), and a fault every 20 s.

Everything runs on this machine: a Redis that keeps an append-only file, two web processes, a pool of workers. A job
writes two lines a second for half a minute to a minute and a half. Followers come and go, in all formats, to either
web process, and come back from their cursor when their stream breaks. When a job has ended, its log is compared with
the job's own account, and each of its followers with the log. Figures go to docs/guarantees.md; whatever was not as
promised is printed, and the exit code is then 1.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import rq
from redis.exceptions import RedisError
from rq.job import Job

from bench import report
from bench.usage import memory
from tailer.embedded import EmbeddedServer
from tailer.errors import TailerError
from tailer.records import Chunk, End, Record
from tailer.store import Cursor, LogStore, connect
from tests.faults.account import SHAPES, Account
from tests.faults.followers import FORMS, Crowd, Follower
from tests.faults.received import Received
from tests.faults.strikes import STRIKES
from tests.faults.table import PAGE
from tests.faults.web import Web
from tests.processes import MARK, Running, leftovers, running
from tests.stack import BIN, ROOT, children, clean

MINUTES = float(os.environ.get("SOAK_MINUTES", "30"))
JOBS = int(os.environ.get("SOAK_JOBS", "200"))
FOLLOWERS = int(os.environ.get("SOAK_FOLLOWERS", "500"))
FAULT_S = 20.0
SHAPE = SHAPES["short"]
RATE = 2.0
"""Lines a second and job: with so many, two cores are busy, and no more than that."""
LASTS_S = (30, 90)
STAYS_S = (5, 60)
SILENT_S = 10.0
"""A job that writes nothing for so long has died, which its account cannot say."""
LOOK_S = 5.0
"""How often what is in use is looked at, and the jobs that have not begun."""
LATE_S = 60.0
"""Within how long after a job's end its log must have ended, and all its followers have seen that."""
CAUSES = {"the worker was killed"}
KEPT = {"TAILER_TTL": "180", "TAILER_KEEP_TAIL": "4GiB"}
"""Old logs must go soon, or Redis would not stay flat; those that are there are whole."""
GROWTH = 1.25
"""How much more memory, or files, the last third of the time may show than the second."""
_MIB = 1 << 20


@dataclass
class Work:
    """A job, and those who follow it or have done so."""

    job_id: str
    account: Account
    followers: list[Follower] = field(default_factory=list)
    ended: float | None = None
    gone: float | None = None  # since when it has neither begun nor waited in the queue


@dataclass
class Tally:
    """What the soak came to."""

    jobs: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    followed: int = 0
    to_the_end: int = 0
    broken: int = 0
    written: int = 0
    received: int = 0
    holes: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    doubled: int = 0
    longest: float = 0.0
    problems: list[str] = field(default_factory=list)


class Soak:
    """All of it, for the block."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.random = random.Random(20)
        self.works: dict[str, Work] = {}
        self.samples: list[dict[str, float]] = []
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Self:
        hold = self._held.enter_context
        self._directory = Path(hold(tempfile.TemporaryDirectory(prefix="tailer-soak-")))
        self.server = hold(EmbeddedServer(extra=("--appendonly", "yes", "--appendfsync", "everysec")))
        self.connection = hold(connect(self.server.url))
        self.store = LogStore(self.connection)
        self.queue = rq.Queue("soak", connection=self.connection)
        self.webs = [hold(Web(self.server.url, env=KEPT)) for _ in range(2)]
        self.crowd = hold(Crowd(*(web.url for web in self.webs), step=0.1))
        os.environ[MARK] = uuid.uuid4().hex  # by which the jobs' processes are found that outlive their worker
        self._held.callback(_end_all, os.environ[MARK])
        pool = clean([str(BIN / "rq"), "worker-pool", "-u", self.server.url, "-w", "worker.Worker"], KEPT)
        self.pool: Running = hold(running([*pool, "-n", str(JOBS), "soak"], cwd=ROOT, env=KEPT))
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    @property
    def workers(self) -> list[int]:
        """The pids of the workers."""
        return children(self.pool.pid)

    @property
    def following(self) -> list[Follower]:
        """Those who follow just now."""
        return [follower for work in self.works.values() for follower in work.followers if not follower.done]

    def run(self, seconds: float) -> None:
        """Let it go on for so long, and then end."""
        over = time.monotonic() + seconds
        next_fault = time.monotonic() + FAULT_S
        next_look = 0.0
        strikes = _in_turn(self.random)
        while time.monotonic() < over:
            self._add_jobs()
            self._add_followers()
            self._judge()
            if time.monotonic() >= next_fault:
                name = next(strikes)
                STRIKES[name](self)
                self.tally.faults[name] += 1
                next_fault += FAULT_S
            if time.monotonic() >= next_look:
                self.samples.append(self._sample())
                self._look_for_those_that_never_began()
                next_look = time.monotonic() + LOOK_S
            time.sleep(0.2)
        for work in self.works.values():
            work.account.until = 0
        deadline = time.monotonic() + LATE_S + 20
        while self.works and time.monotonic() < deadline:
            self._judge()
            if time.monotonic() >= next_look:
                self._look_for_those_that_never_began()
                next_look = time.monotonic() + LOOK_S
            time.sleep(0.2)
        for work in self.works.values():
            self._problem(work, "not ended")

    def _add_jobs(self) -> None:
        """Keep as many as there are workers, and a few in the queue."""
        while len(self.works) < JOBS + 5:
            job_id = uuid.uuid4().hex
            account = Account.made(self._directory / job_id)
            account.go, account.until = 1, int(RATE * self.random.uniform(*LASTS_S))
            work = self.works[job_id] = Work(job_id, account)
            try:
                self._enqueue(job_id)
            except RedisError:
                # It may have been done all the same; then it is a job like others.
                del self.works[job_id]
                with contextlib.suppress(RedisError):
                    if Job.exists(job_id, connection=self.connection):
                        self.works[job_id] = work
                return

    def _enqueue(self, job_id: str) -> None:
        path = str(self._directory / job_id)
        times = {"result_ttl": 60, "failure_ttl": 60, "job_timeout": 600}
        self.queue.enqueue("tests.faults.jobs.numbered", path, "short", RATE, job_id=job_id, **times)

    def _add_followers(self) -> None:
        """Let some leave whose time is over, and as many come."""
        chance = 0.2 / (sum(STAYS_S) / 2)
        following = self.following
        for follower in following:
            if self.random.random() < chance:
                follower.close()
        running_jobs = [work for work in self.works.values() if work.account.began and not work.ended]
        for _ in range(FOLLOWERS - len(following) if running_jobs else 0):
            work = self.random.choice(running_jobs)
            work.followers.append(self.crowd.follow(work.job_id, self.random.choice(list(FORMS)), SHAPE))
            self.tally.followed += 1

    def _judge(self) -> None:
        """Look after the jobs that are over."""
        now = time.monotonic()
        for work in list(self.works.values()):
            account = work.account
            silent = account.began and now - max(account.began, account.last) > SILENT_S
            if account.began:
                work.ended = account.ended or (account.last if silent else None)
            if not work.ended:
                continue
            try:
                end = self._end_of(work)
                if end is None or not all(follower.done for follower in work.followers):
                    self._too_late(work, now, end)
                    continue
                self._account_for(work, end)
            except (RedisError, TailerError):
                continue  # it is away just now
            except AssertionError as error:
                self._problem(work, str(error))
            self._forget(work)

    def _look_for_those_that_never_began(self) -> None:
        """A job whose worker lost Redis before it ran has no account; its log, if there is one, ends all the same.

        If its worker could not end it, whoever follows it does; nobody did, as it never began, so now somebody does.
        One that RQ has popped without another trace is lost: RQ keeps it nowhere, and nobody has run it.
        """
        now = time.monotonic()
        with contextlib.suppress(RedisError, TailerError):
            waiting = set(self.queue.job_ids)
            for work in [work for work in self.works.values() if not work.account.began and not work.ended]:
                if work.job_id in waiting:
                    work.gone = None
                    continue
                work.gone = work.gone or now
                if self._end_of(work):
                    work.ended = now
                elif now - work.gone > LATE_S and self.store.summary(work.job_id):
                    work.ended = now
                    work.followers.append(self.crowd.follow(work.job_id, "text", SHAPE))
                elif now - work.gone > LATE_S:
                    self.tally.jobs["lost by RQ before they ran"] += 1
                    self._forget(work)

    def _problem(self, work: Work, what: str) -> None:
        """Keep what was not as promised, with what the workers have said of the job."""
        said = [line for line in self.pool.text().splitlines() if work.job_id in line]
        account = work.account
        state = f"{account.done} of {account.until} lines, last {time.monotonic() - account.last:.1f} s ago"
        with contextlib.suppress(RedisError, TailerError):
            state += f", RQ says {self.connection.hget(f'rq:job:{work.job_id}', 'status')!r}, {self._end_of(work)}"
        self.tally.problems.append("\n  ".join([f"{work.job_id}: {what}: {state}", *said]))

    def _end_of(self, work: Work) -> End | None:
        summary = self.store.summary(work.job_id)
        return summary.last.end if summary and summary.last else None

    def _too_late(self, work: Work, now: float, end: End | None) -> None:
        assert work.ended
        if now - work.ended > LATE_S:
            waiting = [(one.form, one.at, one.broken) for one in work.followers if not one.done]
            self._problem(work, f"end {end} after {LATE_S} s; {waiting} wait")
            self._forget(work)

    def _account_for(self, work: Work, end: End) -> None:
        """Compare the log with the job's account, and all its followers with the log."""
        reader, records = self.store.reader(work.job_id, Cursor()), list[Record]()
        while more := reader.read():
            records += more
        truth = Received(SHAPE)
        truth.records(records)
        tally = self.tally
        tally.jobs[end.outcome] += 1
        tally.written += truth.check(work.account, SHAPE)
        tally.holes.update({cause: length for length, cause in truth.holes})
        tally.longest = max(tally.longest, work.account.longest)
        assert (end.bytes, end.dropped) == (truth.at, truth.missing), end
        assert end.sha256 in {None, truth.sha256}, end
        assert truth.causes <= CAUSES, truth.causes
        for follower in work.followers:
            got = follower.received
            tally.received += got.length
            tally.broken += follower.broken
            tally.lost += got.lost
            tally.doubled += got.doubled
            tally.to_the_end += follower.over
            assert follower.over or follower.refused == "closed", (follower.form, follower.refused)
            assert not got.wrong, (follower.form, got.wrong)
            assert got.sha256 == _sha256_up_to(records, got.at), (follower.form, got.at)
            assert got.at == end.bytes or not follower.over, (follower.form, got.at, end)

    def _forget(self, work: Work) -> None:
        del self.works[work.job_id]
        for follower in work.followers:
            follower.close()
            self.crowd.followers.remove(follower)
        (self._directory / work.job_id).unlink()

    def _sample(self) -> dict[str, float]:
        """What is in use now: MiB, and open files."""
        webs = [pid for web in self.webs for pid in web.workers()]
        workers = self.workers
        return {
            "web process, MiB": max(map(_mib, webs), default=0),
            "web process, open files": max(map(_files, webs), default=0),
            "worker, MiB": sum(map(_mib, workers)) / max(1, len(workers)),
            "worker, open files": max(map(_files, workers), default=0),
            "Redis, MiB": _mib(self.server.pid),
            "jobs in flight": sum(bool(work.account.began and not work.ended) for work in self.works.values()),
            "followers": len(self.following),
        }

    def thirds(self, name: str) -> tuple[float, float]:
        """The means of a sample's second and last third: the first is for warming up."""
        values = [sample[name] for sample in self.samples]
        third = max(1, len(values) // 3)
        second, last = values[third : 2 * third] or values, values[2 * third :] or values
        return sum(second) / len(second), sum(last) / len(last)


def _in_turn(rng: random.Random) -> Iterator[str]:
    """All strikes again and again, in another order each time."""
    while True:
        yield from rng.sample(list(STRIKES), len(STRIKES))


def _sha256_up_to(records: list[Record], position: int) -> str:
    """Of the output before that position."""
    digest = hashlib.sha256()
    for record in records:
        if isinstance(record, Chunk) and record.offset < position:
            digest.update(record.data[: position - record.offset])
    return digest.hexdigest()


def _mib(pid: int) -> float:
    with contextlib.suppress(OSError, StopIteration):  # it has ended
        return memory(pid) / _MIB
    return 0.0


def _files(pid: int) -> int:
    with contextlib.suppress(OSError):
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return 0


def _end_all(mark: str) -> None:
    """Kill the jobs' processes that are still there."""
    for pid in leftovers(mark):
        if pid in children(os.getpid()):
            continue
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def figures(soak: Soak, minutes: float) -> list[tuple[str, str]]:
    """What is told of a soak."""
    tally = soak.tally
    holes = "; ".join(f"{size:,}: {cause}" for cause, size in tally.holes.items()) or "0"
    told = [
        ("time", f"{minutes:g} min"),
        ("faults", ", ".join(f"{name} {count}" for name, count in sorted(tally.faults.items()))),
        ("jobs", ", ".join(f"{count:,} {outcome}" for outcome, count in tally.jobs.most_common())),
        ("followers that came", f"{tally.followed:,}, of whom {tally.to_the_end:,} stayed to the end"),
        ("streams that broke, and were resumed", f"{tally.broken:,}"),
        ("bytes written", f"{tally.written:,}"),
        ("bytes received, by all followers", f"{tally.received:,}"),
        ("bytes in holes", holes),
        ("bytes lost or doubled", f"{tally.lost + tally.doubled:,}"),
        ("longest that a job waited for a write", f"{tally.longest * 1000:.0f} ms"),
    ]
    for name in soak.samples[0]:
        second, last = soak.thirds(name)
        told.append((f"{name}: mean of the second and of the last third of the time", f"{second:.0f}, {last:.0f}"))
    return told


def main() -> int:
    """Soak, print, publish; returns the exit code."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of workers would compile all of it at each start
    with Soak() as soak:
        soak.run(MINUTES * 60)
        equipment = report.equipment(soak.server)
    problems = soak.tally.problems
    for name in list(soak.samples[0])[:5]:
        second, last = soak.thirds(name)
        if last > second * GROWTH + 2:
            problems.append(f"{name} grew from {second:.0f} to {last:.0f}")
    text = report.table(("", "figure"), figures(soak, MINUTES)) + f"\n{equipment}.\n"
    print(text)
    if problems or soak.tally.lost or soak.tally.doubled:
        print("\n".join(problems))
        return 1
    report.write("soak", text, PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
