"""A worker that is killed while its job runs: the job finishes as under plain RQ, and so does its log."""

import signal
from pathlib import Path

import pytest

from tailer.records import Chunk, Hole
from tests.stack import Log, Stack, children
from tests.waiting import wait_until

FORKING = ("worker.Worker", "worker.SpawnWorker")


def numbered(count: int) -> bytes:
    """What a job has written that printed so many numbers."""
    return b"".join(b"%d\n" % number for number in range(count))


def check_accounts(log: Log, written: bytes) -> None:
    """Every byte that was written is in the log, in its place, or in a hole that says why it is not."""
    position = 0
    for record in log.records:
        if isinstance(record, Chunk | Hole):
            assert record.offset == position
            assert record.line == written.count(b"\n", 0, position) + 1
            position = record.end
            missing = isinstance(record, Hole)
            assert missing or record.data == written[record.offset : record.end]
    assert position == len(written) == log.end.bytes
    assert log.end.lines == written.count(b"\n")
    assert log.end.dropped == sum(hole.length for hole in log.holes)
    assert {hole.cause for hole in log.holes} <= {"the worker was killed"}


@pytest.mark.parametrize("mode", ["separate", "pty"])
@pytest.mark.parametrize("pause", [0.001, 0], ids=["slow", "flooding"])
@pytest.mark.parametrize("worker_class", FORKING)
def test_job_that_prints(stack: Stack, tmp_path: Path, worker_class: str, pause: float, mode: str):
    """A job whose worker is killed while it prints finishes, and its log goes on; what is missing is a hole."""
    queue, path = stack.queue(), tmp_path / "go"
    job = queue.enqueue("tests.jobs.count_until", str(path), pause)
    with stack.worker(queue, worker_class=worker_class, env={"TAILER_CAPTURE": mode}) as worker:
        stack.wait_for_output(job.id, b"\n100\n")
        worker.signal(signal.SIGKILL)
        worker.wait()
        bytes_then = stack.store.summary(job.id).last.bytes
        wait_until(lambda: stack.store.summary(job.id).last.bytes > bytes_then, 10, "output after the worker's death")
        path.touch()
        stack.wait_for(job, "finished")
        log = stack.log(job.id)
    assert (log.end.outcome, log.end.status, log.end.final) == ("finished", "finished", True)
    check_accounts(log, numbered(job.return_value(refresh=True)))
    assert log.data().endswith(b"\n%d\n" % (job.return_value() - 1))


@pytest.mark.parametrize("worker_class", FORKING)
def test_pipes_full(stack: Stack, tmp_path: Path, worker_class: str):
    """A job that stands still because its worker did not read any more goes on when the worker is killed."""
    queue, path = stack.queue(), tmp_path / "started"
    job = queue.enqueue("tests.jobs.write_more_than_fits", str(path))
    with stack.worker(queue, worker_class=worker_class) as worker:
        wait_until(path.exists, 20)
        worker.signal(signal.SIGSTOP)
        (horse,) = children(worker.pid)
        wait_until(lambda: blocked_in_write(horse), 10, "full pipe")
        worker.signal(signal.SIGKILL)
        worker.wait()
        stack.wait_for(job, "finished")
        log = stack.log(job.id)
    assert log.end.outcome == "finished"
    check_accounts(log, numbered(1_000_000))


def blocked_in_write(pid: int) -> bool:
    """Whether the process waits for room in a pipe."""
    return "pipe_write" in Path(f"/proc/{pid}/wchan").read_text()


@pytest.mark.parametrize("worker_class", FORKING)
def test_idle_job(stack: Stack, tmp_path: Path, worker_class: str):
    """A job whose worker is killed while it waits, behind half a line, finishes with a whole log."""
    queue, path = stack.queue(), tmp_path / "prompted"
    job = queue.enqueue("tests.jobs.prompt", str(path))
    with stack.worker(queue, worker_class=worker_class) as worker:
        stack.wait_for_output(job.id, b"Password: ")
        worker.signal(signal.SIGKILL)
        worker.wait()
        path.unlink()
        stack.wait_for(job, "finished")
        log = stack.log(job.id)
    assert (log.end.outcome, log.end.status) == ("finished", "finished")
    check_accounts(log, b"Password: ")


@pytest.mark.parametrize("worker_class", FORKING)
def test_killed_at_once(stack: Stack, worker_class: str):
    """A worker that is killed in the very moment in which it has started a job leaves it to finish by itself."""
    queue = stack.queue()
    job = queue.enqueue("tests.jobs.hello")
    with stack.worker(queue, worker_class=worker_class) as worker:
        wait_until(lambda: job.id in worker.text() and children(worker.pid), 20, "work horse")
        worker.signal(signal.SIGKILL)
        worker.wait()
        stack.wait_for(job, "finished")
        log = stack.log(job.id)
    assert log.end.outcome == "finished"
    check_accounts(log, b"hello\n")


@pytest.mark.parametrize("worker_class", ["tests.user_code.ForsakenWorker", "tests.user_code.ForsakenSpawnWorker"])
def test_killed_when_the_job_is_over(stack: Stack, worker_class: str):
    """A worker that is killed when RQ has noted the end of its job leaves one attempt, with the job's end."""
    queue = stack.queue()
    job = queue.enqueue("tests.jobs.hello")
    with stack.worker(queue, worker_class=worker_class) as worker:
        assert worker.wait(20) == -signal.SIGKILL
        log = stack.log(job.id)
    assert len(stack.store.summary(job.id).attempts) == 1
    assert (log.end.outcome, log.end.status, log.end.attempt) == ("finished", "finished", 1)
    check_accounts(log, b"hello\n")


def test_job_that_fails(stack: Stack, tmp_path: Path):
    """A job that fails after its worker was killed has its traceback and a true end record in the log."""
    queue, path = stack.queue(), tmp_path / "go"
    job = queue.enqueue("tests.jobs.wait_and_fail", str(path))
    with stack.worker(queue) as worker:
        stack.wait_for_output(job.id, b"waiting\n")
        worker.signal(signal.SIGKILL)
        worker.wait()
        path.touch()
        stack.wait_for(job, "failed")
        log = stack.log(job.id)
    assert (log.end.outcome, log.end.status, log.end.reason) == ("failed", "failed", "ValueError: not wanted")
    assert log.stderr.endswith(b"ValueError: not wanted\n")


def test_simple_worker(stack: Stack, tmp_path: Path):
    """A SimpleWorker that is killed takes its job along; all that the job wrote is kept, and the end says so."""
    queue = stack.queue()
    job = queue.enqueue("tests.jobs.wait_for", str(tmp_path / "never"))
    with stack.worker(queue, worker_class="worker.SimpleWorker") as worker:
        stack.wait_for_output(job.id, b"waiting\n")
        worker.signal(signal.SIGKILL)
        worker.wait()
        log = stack.log(job.id)
    assert (log.end.outcome, log.end.reason) == ("lost", "the worker died")
    assert log.data() == b"waiting\n"
