"""Faults of workers and of the processes of their jobs: last words, true ends, and jobs that live on."""

import signal


def test_horse_killed(trial):
    """SIGKILL of the job's process."""
    trial.begin()
    for task in trial.workers:
        task.kill_horse(signal.SIGKILL)
    trial.finish("killed")


def test_worker_killed(trial):
    """SIGKILL of the worker; the job and its log go on."""
    trial.begin()
    for task in trial.workers:
        task.worker.signal(signal.SIGKILL)
        task.worker.wait()
    trial.recover()
    trial.finish(causes=["the worker was killed"], most_missing=100_000, checksum=False)
