"""Faults of workers and of the processes of their jobs: last words, true ends, and jobs that live on."""

import os
import signal
import time

import pytest
from rq.command import send_stop_job_command

from tests.test_outcomes import LOST_S, SLACK_S, memory_limit
from tests.waiting import wait_until

TAKEN_ALONG = {"causes": ["the worker was killed"], "most_missing": 50_000, "checksum": False}
"""What a worker that is killed outright may take along: 50 ms of output."""
LIMIT = 256 << 20
FLOOD = 64 << 20
"""Bytes that a flooding job writes on when its worker is dead."""
TAKEN_OVER = 2.0
"""How many times as long a flood may take that the job's own process drains: see bench/orphaned.py."""


def test_horse_killed(trial):
    """The job's process gets SIGKILL."""
    trial.begin()
    for task in trial.workers:
        task.kill_horse(signal.SIGKILL)
    trial.end_seen()
    trial.finish("killed")


@pytest.mark.whole
def test_segmentation_fault(trial):
    """The job's process dies of a segmentation fault."""
    trial.begin(then="segmentation fault")
    trial.let_end()
    trial.end_seen()
    trial.finish("killed")


@pytest.mark.whole
def test_left(trial):
    """The job leaves by `os._exit(3)`."""
    trial.begin(then="exit")
    trial.let_end()
    trial.end_seen()
    trial.finish("failed")


@pytest.mark.whole
def test_memory_error(trial):
    """The job exceeds its RLIMIT_AS."""
    trial.begin(then="memory error")
    trial.let_end()
    trial.end_seen()
    trial.finish("failed")


@pytest.mark.whole
def test_out_of_memory(trial):
    """The kernel kills the job's process because its control group is out of memory."""
    join = trial.hold(memory_limit(LIMIT))
    trial.begin(then="out of memory", wrapper=["sh", "-c", f'echo $$ > {join} && exec "$@"', "sh"])
    trial.let_end()
    trial.end_seen()
    trial.finish("killed")


@pytest.mark.whole
def test_stopped(trial):
    """The job is stopped by `send_stop_job_command`."""
    trial.begin()
    for task in trial.workers:
        send_stop_job_command(trial.connection, task.job.id)
    trial.end_seen()
    trial.finish("stopped")


@pytest.mark.whole
def test_timed_out(trial):
    """The job exceeds its timeout of 2 s."""
    trial.begin(timeout=2)
    trial.end_seen()
    trial.finish("timeout")


def test_worker_killed(trial):
    """The worker gets SIGKILL; the job and its log go on."""
    trial.begin()
    for task in trial.workers:
        task.worker.signal(signal.SIGKILL)
        task.worker.wait()
    trial.recover()
    trial.finish(**TAKEN_ALONG)


@pytest.mark.whole
def test_spawning_worker_killed(trial):
    """A SpawnWorker gets SIGKILL; the job and its log go on."""
    trial.begin(worker_class="worker.SpawnWorker", plain_class="rq.worker.SpawnWorker")
    for task in trial.workers:
        task.worker.signal(signal.SIGKILL)
        task.worker.wait()
    trial.recover()
    trial.finish(**TAKEN_ALONG)


@pytest.mark.whole
def test_worker_killed_in_a_flood(trial):
    """The worker gets SIGKILL while the job writes as fast as it can; the job and its log go on."""
    # Followers that decode JSON are slower than a flood, and would take the jobs' time of the processors.
    trial.begin(rate=0, live=["text", "tailer on Redis"])
    for task in trial.workers:
        task.worker.signal(signal.SIGKILL)
        task.worker.wait()
    trial.recover()
    trial.write_on(FLOOD)
    trial.let_end()
    wait_until(lambda: all(task.account.ended for task in trial.workers), 30)
    for form in ("sse", "ndjson", "tailer"):
        trial.follow(form)
    trial.finish(**{**TAKEN_ALONG, "most_missing": 16 << 20}, most_slower=TAKEN_OVER)


@pytest.mark.whole
def test_terminated_once(trial):
    """The worker gets SIGTERM; it lets the job finish."""
    trial.begin()
    for task in trial.workers:
        task.worker.signal(signal.SIGTERM)
        wait_until(lambda task=task: "shut down requested" in task.worker.text(), 10)
    trial.recover()
    trial.finish()


@pytest.mark.whole
def test_terminated_twice(trial):
    """The worker gets SIGTERM twice, and kills the job."""
    trial.begin()
    for task in trial.workers:
        task.worker.signal(signal.SIGTERM)
        wait_until(lambda task=task: "shut down requested" in task.worker.text(), 10)
    time.sleep(1.1)  # RQ takes no notice of a second one within a second
    for task in trial.workers:
        task.worker.signal(signal.SIGTERM)
    trial.end_seen()
    trial.finish("killed", status="started")


@pytest.mark.whole
def test_all_terminated(trial):
    """All processes of the worker get SIGTERM at once, as when a container stops."""
    trial.begin()
    for task in trial.workers:
        task.signal_all(signal.SIGTERM)
    trial.end_seen()
    trial.finish("killed")


@pytest.mark.whole
def test_dyno_stopped(trial):
    """All processes of a HerokuWorker get SIGTERM at once; the job finishes in the six seconds that it is given."""
    trial.begin(worker_class="worker.HerokuWorker", plain_class="rq.worker.HerokuWorker")
    for task in trial.workers:
        task.signal_all(signal.SIGTERM)
    trial.recover()
    trial.finish()


@pytest.mark.whole
def test_dyno_stopped_too_soon(trial):
    """The same, and the job does not finish in that time."""
    trial.begin(worker_class="worker.HerokuWorker", plain_class="rq.worker.HerokuWorker")
    for task in trial.workers:
        task.signal_all(signal.SIGTERM)
    trial.end_seen()
    trial.finish("failed")


@pytest.mark.whole
def test_machine_lost(trial):
    """The machine is lost: worker and job get SIGKILL at once."""
    trial.begin()
    for task in trial.workers:
        horses = task.horses
        task.worker.signal(signal.SIGSTOP)  # it must not see its horse go
        for pid in horses:
            os.kill(pid, signal.SIGKILL)
        task.worker.signal(signal.SIGKILL)
        task.worker.wait()
    assert trial.end_seen(LOST_S + 10) <= LOST_S + SLACK_S
    trial.finish("lost", checksum=False, most_unsent=50_000)
