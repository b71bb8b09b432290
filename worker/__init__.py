"""RQ's workers, whose jobs' output can be followed: ``rq worker -w worker.Worker``."""

from worker.classes import HerokuWorker, SimpleWorker, SpawnWorker, Worker

__all__ = ["HerokuWorker", "SimpleWorker", "SpawnWorker", "Worker"]
