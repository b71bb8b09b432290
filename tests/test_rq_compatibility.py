"""Whatever works with RQ's workers works with ours: each behaviour is tried with both, and must turn out the same."""

from collections.abc import Callable, Generator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from rq import Callback, Queue, Retry
from rq.command import send_kill_horse_command, send_shutdown_command, send_stop_job_command
from rq.job import Dependency, Job
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry
from rq.serializers import JSONSerializer
from rq.suspension import resume, suspend
from rq.worker import BaseWorker

from tailer.embedded import EmbeddedServer
from tailer.store import connect
from tests import user_code
from tests.stack import Stack, worker_process
from tests.waiting import wait_until
from worker import SpawnWorker

NAMES = ("Worker", "SimpleWorker")
SPAWNING = pytest.param("SpawnWorker", marks=pytest.mark.whole)
FORKING = ("Worker", SPAWNING)
Behaviour: TypeAlias = Callable[[Queue], Generator[None, None, Any]]
"""Enqueues jobs; goes on when a worker has done them, and returns what came of it."""
BEHAVIOURS: dict[str, Behaviour] = {}


def behaviour(function: Behaviour) -> Behaviour:
    """Try this one; all of them share one worker of each class."""
    BEHAVIOURS[function.__name__] = function
    return function


@pytest.mark.parametrize("name", ["Worker", SPAWNING, "SimpleWorker"])
def test_behaviours(stack: Stack, name: str):
    """Each behaviour turns out with our worker as it does with RQ's."""
    rqs, ours = (outcomes(stack, f"{package}.{name}") for package in ("rq.worker", "worker"))
    for one in BEHAVIOURS:
        assert ours[one] == rqs[one], one


def outcomes(stack: Stack, worker_class: str) -> dict[str, Any]:
    """What comes of each behaviour when a worker of this class has done all their jobs."""
    queue, found = stack.queue(), dict[str, Any]()
    begun = {name: function(queue) for name, function in BEHAVIOURS.items()}
    for one in begun.values():
        next(one)
    stack.work(queue, worker_class=worker_class, timeout=60)
    for name, one in begun.items():
        try:
            next(one)
        except StopIteration as stop:
            found[name] = stop.value
    return found


def facts(job: Job) -> dict[str, Any]:
    """What RQ keeps of a job that has run, without what differs from run to run."""
    job.refresh()
    result = job.latest_result()
    return {
        "status": job.get_status().value,
        "meta": job.meta,
        "retries left": job.retries_left,
        "ran": job.started_at is not None and job.ended_at is not None,
        "by": bool(job.worker_name),
        "ttl": round(job.connection.ttl(job.key), -2),
        "results": [one.type for one in job.results()],
        "value": result.return_value if result else None,
        "error": [line for line in result.exc_string.splitlines() if not line.startswith(("  ", "Traceback"))]
        if result and result.exc_string
        else None,
        "executions": len(job.get_executions()),
        "registries": [
            job.id in registry(queue=Queue(job.origin, connection=job.connection)).get_job_ids(cleanup=False)
            for registry in (StartedJobRegistry, FinishedJobRegistry, FailedJobRegistry)
        ],
    }


def told(queue: Queue, name: str) -> list[str]:
    """What jobs and callbacks have told under this name: see `tests.user_code`."""
    return [word.decode() for word in queue.connection.lrange(user_code.key(queue.name, name), 0, -1)]


@behaviour
def result(queue: Queue) -> Generator[None, None, Any]:
    """A job's return value and its meta are kept."""
    job = queue.enqueue("tests.user_code.work", "value", meta={"before": 1}, result_ttl=1000)
    yield
    assert (job.return_value(), job.get_meta()) == ("value", {"before": 1, "during": 2})
    return facts(job)


@behaviour
def failure(queue: Queue) -> Generator[None, None, Any]:
    """A job's exception is kept."""
    job = queue.enqueue("tests.jobs.fail", failure_ttl=1000)
    yield
    assert "ValueError: no π" in job.latest_result().exc_string
    return facts(job)


@behaviour
def no_such_function(queue: Queue) -> Generator[None, None, Any]:
    """A function that isn't there fails its job."""
    job = queue.enqueue("tests.jobs.no_such_function")
    yield
    assert facts(job)["status"] == "failed"
    return facts(job)


@behaviour
def no_such_module(queue: Queue) -> Generator[None, None, Any]:
    """A module that isn't there fails its job."""
    job = queue.enqueue("no_such_module.function")
    yield
    assert facts(job)["status"] == "failed"
    return facts(job)


@behaviour
def unreadable_data(queue: Queue) -> Generator[None, None, Any]:
    """Data that can't be read fails its job."""
    job = queue.enqueue("tests.jobs.hello")
    job.connection.hset(job.key, "data", b"garbage")
    yield
    assert facts(job)["status"] == "failed"
    return facts(job)


@behaviour
def unpicklable_result(queue: Queue) -> Generator[None, None, Any]:
    """A value that can't be kept fails its job."""
    job = queue.enqueue("tests.user_code.return_lock")
    yield
    return facts(job)


@behaviour
def coroutine(queue: Queue) -> Generator[None, None, Any]:
    """A coroutine function is run."""
    job = queue.enqueue("tests.user_code.work_later")
    yield
    assert job.return_value() == "later"
    return facts(job)


@behaviour
def timeout(queue: Queue) -> Generator[None, None, Any]:
    """A job that takes too long is ended by an exception."""
    job = queue.enqueue("tests.jobs.overtime", job_timeout=1)
    yield
    assert "JobTimeoutException" in job.latest_result().exc_string
    return facts(job)


@behaviour
def system_exit(queue: Queue) -> Generator[None, None, Any]:
    """A job that calls `sys.exit` has failed."""
    job = queue.enqueue("sys.exit", 2)
    yield
    return facts(job)


@behaviour
def no_result(queue: Queue) -> Generator[None, None, Any]:
    """A job with `result_ttl=0` leaves nothing behind."""
    job = queue.enqueue("tests.jobs.hello", result_ttl=0)
    yield
    assert not Job.exists(job.id, connection=queue.connection)
    return queue.connection.keys(f"rq:*{job.id}*")


@behaviour
def callbacks(queue: Queue) -> Generator[None, None, Any]:
    """Callbacks get the job and its result or exception, and run in order with it."""
    good = queue.enqueue(
        "tests.user_code.work",
        "value",
        on_success=Callback("tests.user_code.on_success"),
        on_failure=Callback("tests.user_code.on_failure"),
    )
    bad = queue.enqueue(
        "tests.jobs.fail",
        on_success=Callback("tests.user_code.on_success"),
        on_failure=Callback("tests.user_code.on_failure"),
    )
    yield
    assert told(queue, good.id) == ["success value"]
    assert told(queue, bad.id) == ["failure ValueError"]
    return facts(good), facts(bad)


@behaviour
def callbacks_that_fail(queue: Queue) -> Generator[None, None, Any]:
    """A callback that fails fails its job."""
    good = queue.enqueue("tests.user_code.work", "value", on_success=Callback("tests.user_code.fail_again"))
    bad = queue.enqueue("tests.jobs.fail", on_failure=Callback("tests.user_code.fail_again"))
    yield
    return facts(good), facts(bad)


@behaviour
def dependencies(queue: Queue) -> Generator[None, None, Any]:
    """Dependents run when they may, in order, and only then."""
    first = queue.enqueue("tests.user_code.tell", "order", "first")
    second = queue.enqueue("tests.user_code.tell", "order", "second", depends_on=first)
    queue.enqueue("tests.user_code.tell", "order", "third", depends_on=[first, second])
    failed = queue.enqueue("tests.jobs.fail")
    never = queue.enqueue("tests.jobs.hello", depends_on=failed)
    anyway = queue.enqueue("tests.jobs.hello", depends_on=Dependency(jobs=[failed], allow_failure=True))
    yield
    assert told(queue, "order") == ["first", "second", "third"]
    return facts(never), facts(anyway)


@behaviour
def retries(queue: Queue) -> Generator[None, None, Any]:
    """A failing job is retried as often as it may."""
    job = queue.enqueue("tests.user_code.tell_and_fail", "retries", retry=Retry(max=2))
    yield
    assert told(queue, "retries") == ["x", "x", "x"]
    return facts(job)


@behaviour
def rate_limits(queue: Queue) -> Generator[None, None, Any]:
    """Jobs with a rate limit run one after the other, and free their places. There are none before RQ 3."""
    try:
        from rq.rate_limit import RateLimit  # noqa: PLC0415
    except ImportError:
        yield
        return None
    limit = RateLimit(key=queue.name, concurrency=1)
    jobs = [queue.enqueue("tests.jobs.hello", rate_limit=limit) for _ in range(3)]
    assert [job.get_status().value for job in jobs] == ["queued", "rate_limited", "rate_limited"]
    yield
    return [facts(job)["status"] for job in jobs]


@behaviour
def environment(queue: Queue) -> Generator[None, None, Any]:
    """A job can find out which job it is."""
    job = queue.enqueue("tests.user_code.who_am_i")
    yield
    assert job.return_value()[0] == job.id
    return {**facts(job), "value": job.return_value()[1:] == [job.id, True]}


# With workers of their own.


class Tried:
    """A worker class on a queue of its own."""

    def __init__(self, stack: Stack, worker_class: str) -> None:
        self.stack = stack
        self.worker_class = worker_class
        self.queue = stack.queue()

    def work(self, *arguments: str, **options: Any) -> str:
        """Run a worker in burst mode; returns what it wrote to its console."""
        return self.stack.work(self.queue, *arguments, **{"worker_class": self.worker_class, **options})

    def worker(self, *arguments: str, **options: Any) -> Any:
        """Run a worker for a block."""
        return self.stack.worker(self.queue, *arguments, **{"worker_class": self.worker_class, **options})

    def told(self, name: str) -> list[str]:
        """What was told under this name."""
        return told(self.queue, name)


Pair: TypeAlias = Callable[[Callable[[Tried], Any]], Any]


@pytest.fixture(params=NAMES)
def pair(request: pytest.FixtureRequest, stack: Stack) -> Pair:
    """A function that tries something with RQ's class and with ours, and returns what came of it for both."""
    return lambda attempt: [attempt(Tried(stack, f"{package}.{request.param}")) for package in ("rq.worker", "worker")]


@pytest.fixture(params=FORKING)
def forking_pair(request: pytest.FixtureRequest, stack: Stack) -> Pair:
    """The same for the classes that run a job in a process of its own."""
    return lambda attempt: [attempt(Tried(stack, f"{package}.{request.param}")) for package in ("rq.worker", "worker")]


def test_exception_handlers(pair: Pair):
    """Exception handlers run in order until one of them returns False."""

    def attempt(tried: Tried) -> Any:
        job = tried.queue.enqueue("tests.jobs.fail")
        names = ("first_handler", "false_handler", "first_handler")
        tried.work(*(word for name in names for word in ("--exception-handler", f"tests.user_code.{name}")))
        return tried.told(job.id), facts(job)

    rqs, ours = pair(attempt)
    assert ours == rqs
    assert ours[0] == ["first ValueError", "false ValueError"]


def test_without_default_handler(pair: Pair):
    """With RQ's own exception handler disabled, a failed job leaves no result."""

    def attempt(tried: Tried) -> Any:
        job = tried.queue.enqueue("tests.jobs.fail")
        tried.work("--disable-default-exception-handler")
        return facts(job)

    rqs, ours = pair(attempt)
    assert ours == rqs
    assert ours["results"] == []


def test_custom_classes(pair: Pair):
    """Custom job and queue classes are used."""

    def attempt(tried: Tried) -> Any:
        job = tried.queue.enqueue("tests.jobs.hello")
        tried.work("--job-class", "tests.user_code.TellingJob", "--queue-class", "tests.user_code.TellingQueue")
        return sorted(set(tried.told("classes"))), facts(job)

    rqs, ours = pair(attempt)
    assert ours == rqs
    assert ours[0] == ["job", "queue"]


def test_serializer(pair: Pair):
    """Jobs in another serialization run and keep their results."""

    def attempt(tried: Tried) -> Any:
        tried.queue = tried.stack.queue(serializer=JSONSerializer)
        job = tried.queue.enqueue("tests.user_code.work", {"a": [1, "π"]})
        tried.work("--serializer", "rq.serializers.JSONSerializer")
        return job.return_value(refresh=True), job.get_status(refresh=True).value

    rqs, ours = pair(attempt)
    assert ours == rqs == ({"a": [1, "π"]}, "finished")


def test_max_jobs_and_at_front(pair: Pair):
    """A worker stops after so many jobs, and takes those at the front first."""

    def attempt(tried: Tried) -> Any:
        for word, front in (("third", False), ("second", True), ("first", True)):
            tried.queue.enqueue("tests.user_code.tell", "order", word, at_front=front)
        tried.work("--max-jobs", "2")
        return tried.told("order"), len(tried.queue)

    rqs, ours = pair(attempt)
    assert ours == rqs == (["first", "second"], 1)


def test_round_robin(pair: Pair):
    """The dequeue strategies work."""

    def attempt(tried: Tried) -> Any:
        other = tried.stack.queue()
        jobs = [queue.enqueue("tests.jobs.hello") for _ in range(2) for queue in (other, tried.queue)]
        tried.work("--dequeue-strategy", "round_robin", other.name)
        return [jobs.index(job) for job in sorted(jobs, key=lambda job: job.refresh() or job.started_at)]

    rqs, ours = pair(attempt)
    assert ours == rqs == [0, 1, 2, 3]


def test_scheduler(pair: Pair):
    """A worker with a scheduler runs jobs when their time has come."""

    def attempt(tried: Tried) -> Any:
        job = tried.queue.enqueue_in(timedelta(seconds=1), "tests.jobs.hello")
        with tried.worker("--with-scheduler"):
            tried.stack.wait_for(job, "finished")
        return facts(job)

    rqs, ours = pair(attempt)
    assert ours == rqs


def test_life_of_a_worker(pair: Pair):
    """A worker has its name, registers its birth, counts what it does and registers its death."""

    def attempt(tried: Tried) -> Any:
        name = f"worker-{tried.queue.name}"
        with tried.worker("--name", name, ready=True) as process:
            jobs = [tried.queue.enqueue(f"tests.jobs.{job}") for job in ("hello", "fail", "hello")]
            tried.stack.wait_for(jobs[-1], "finished")
            (known,) = BaseWorker.all(queue=tried.queue)
            counts = known.successful_job_count, known.failed_job_count, known.total_working_time > 0
            send_shutdown_command(tried.stack.connection, name)
            code = process.wait()
        return (
            known.name == name,
            known.pid == process.pid,
            counts,
            code,
            BaseWorker.all(queue=tried.queue),
            tried.stack.connection.hexists(f"rq:worker:{name}", "death"),
            {job.get_status(refresh=True).value for job in jobs},
            {job.worker_name == name for job in jobs},
        )

    rqs, ours = pair(attempt)
    assert ours == rqs
    assert ours[2] == (2, 1, True)


def test_suspension(server: EmbeddedServer, tmp_path: Path, pair: Pair):
    """A worker that is suspended while it works takes no other job until it is resumed."""

    def attempt(tried: Tried) -> Any:
        # All workers of a server are suspended together, so it is one of its own.
        queue, path = Queue(tried.queue.name, connection=connect(server.url)), tmp_path / tried.queue.name
        first = queue.enqueue("tests.jobs.wait_for", str(path))
        with worker_process(server.url, queue.name, worker_class=tried.worker_class) as process:
            tried.stack.wait_for(first, "started")
            suspend(queue.connection)
            second = queue.enqueue("tests.jobs.hello")
            path.touch()
            process.says("suspended, run `rq resume`")
            before = tried.stack.status(first), tried.stack.status(second)
            resume(queue.connection)
            tried.stack.wait_for(second, "finished")
        return before

    rqs, ours = pair(attempt)
    assert ours == rqs == ("finished", "queued")


def test_stop_command(forking_pair: Pair):
    """A stopped job is stopped, once, and its callback runs."""

    def attempt(tried: Tried) -> Any:
        job = tried.queue.enqueue(
            "tests.user_code.tell_and_wait",
            on_stopped=Callback("tests.user_code.on_stopped"),
            retry=Retry(max=3),
        )
        with tried.worker("--burst") as process:
            wait_until(lambda: tried.told("started"), 20)
            send_stop_job_command(tried.stack.connection, job.id)
            code = process.wait()
        return code, tried.told(job.id), facts(job)

    rqs, ours = forking_pair(attempt)
    assert ours == rqs
    assert ours[1] == ["stopped"]
    assert ours[2]["status"] == "stopped"


def test_killed_horse(forking_pair: Pair):
    """A job whose process is killed fails, and the worker's handler for that is called."""

    def attempt(tried: Tried) -> Any:
        package, _, kind = tried.worker_class.rpartition(".")
        tried.worker_class = f"tests.user_code.Telling{'Rq' if package == 'rq.worker' else ''}{kind}"
        name = f"worker-{tried.queue.name}"
        job = tried.queue.enqueue("tests.user_code.tell_and_wait")
        itself = tried.queue.enqueue("tests.jobs.kill_itself")
        with tried.worker("--burst", "--name", name) as process:
            wait_until(lambda: tried.told("started"), 20)
            send_kill_horse_command(tried.stack.connection, name)
            code = process.wait()
        return code, tried.told(job.id), tried.told(itself.id), facts(job), facts(itself)

    rqs, ours = forking_pair(attempt)
    assert ours == rqs
    assert ours[1] == ours[2] == ["killed 9"]


def test_worker_pool(stack: Stack):
    """A pool of our workers does all jobs, on several workers at once."""
    queue = stack.queue()
    jobs = [queue.enqueue("tests.user_code.who_am_i") for _ in range(8)]
    stack.work(queue, "--num-workers", "2", command="rq worker-pool")
    assert [job.return_value(refresh=True) for job in jobs] == [[job.id, job.id, True] for job in jobs]
    assert all(stack.log(job.id).end.outcome == "finished" for job in jobs)


def test_an_rq_that_spawns_its_own_class_only_is_refused(stack: Stack, monkeypatch: pytest.MonkeyPatch):
    """With RQ 2 our SpawnWorker takes no job, and says which class to use; its horse would capture nothing."""
    monkeypatch.setattr("rq.version.VERSION", "2.12.0")
    one = SpawnWorker([stack.queue()], connection=stack.connection)
    with pytest.raises(SystemExit, match=r"SpawnWorker needs RQ 3, and this is RQ 2\.12\.0; use worker\.Worker"):
        one.bootstrap()
