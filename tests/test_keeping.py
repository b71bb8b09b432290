"""How long, and how much of, a log is kept: what settings, queues and jobs say of it."""

import logging

import pytest
import redis
from rq.job import Job

from tailer.settings import Settings
from worker.keeping import settings_for

SETTINGS = Settings(ttl=1000, ttl_failed=5000, ttl_queues=(("mail", 3600), ("low-*", 600)))


def kept(queue="default", meta=None):
    """ttl, ttl_finished, ttl_failed, keep_head and keep_tail for a job with that."""
    job = Job.create("tests.jobs.hello", connection=redis.Redis(), origin=queue)
    if meta is not None:
        job.meta = meta
    found = settings_for(job, SETTINGS)
    return found.ttl, found.ttl_finished, found.ttl_failed, found.keep_head, found.keep_tail


HEAD, TAIL = Settings.keep_head, Settings.keep_tail
USUAL = (1000, None, 5000, HEAD, TAIL)


@pytest.mark.parametrize(
    ("queue", "given", "expected"),
    [
        ("default", None, USUAL),
        ("mail", None, (3600, None, None, HEAD, TAIL)),
        ("mailing", None, USUAL),
        ("low-prio", {}, (600, None, None, HEAD, TAIL)),
        ("mail", {"ttl": 60}, (60, None, None, HEAD, TAIL)),
        ("default", {"ttl": "7d"}, (604_800, None, None, HEAD, TAIL)),
        ("default", {"ttl_finished": "1h"}, (1000, 3600, 5000, HEAD, TAIL)),
        ("mail", {"ttl_failed": "2h"}, (3600, None, 7200, HEAD, TAIL)),
        ("default", {"keep_head": 0, "keep_tail": "1GiB"}, (1000, None, 5000, 0, 1 << 30)),
    ],
)
def test_the_job_counts_before_its_queue_and_that_before_the_rest(queue, given, expected, caplog):
    """Each only for what it says."""
    assert kept(queue, None if given is None else {"tailer": given, "other": object()}) == expected
    assert not caplog.records


@pytest.mark.parametrize(
    ("meta", "told"),
    [
        ({"tailer": "1h"}, "is no dictionary"),
        ({"tailer": {"ttl": 59}}, "'ttl'] is 59: use seconds, or such as 12h or 7d"),
        ({"tailer": {"ttl": True}}, "is True: use a number"),
        ({"tailer": {"ttl": 1.5}}, "is 1.5: use a number"),
        ({"tailer": {"ttl": None}}, "is None: use a number"),
        ({"tailer": {"ttl": float("nan")}}, "use a number"),
        ({"tailer": {"keep_tail": "9"}}, "use at least 64KiB"),
        ({"tailer": {"keep_head": -1}}, "use 0 for none"),
        ({"tailer": {"keep": 1}}, "use one of ttl, ttl_finished, ttl_failed, keep_head, keep_tail"),
        ({"tailer": {3: 1, ("a",): 2}}, "use one of"),
        ({"tailer": {"ttl": "9" * 10_000}}, "use seconds"),
    ],
)
def test_what_cannot_be_used_is_told_and_left_out(meta, told, caplog):
    """The job runs, and its log is kept as any other."""
    with caplog.at_level(logging.WARNING):
        assert kept(meta=meta) == USUAL
    assert told in caplog.text
    assert max(len(record.message) for record in caplog.records) < 500


def test_a_meta_that_fails_hurts_nobody(caplog):
    """Whatever it is that a job has put there."""

    class Hostile(dict):
        def get(self, *_):
            raise RuntimeError("no")

    assert kept(meta=Hostile()) == USUAL
    assert "kept as any other" in caplog.text


def test_a_worker_keeps_logs_as_it_is_told(stack):
    """By outcome, by queue and by job; a bad value is told in the worker's log."""
    usual, brief = stack.queue(), stack.queue()
    env = {"TAILER_TTL_FINISHED": "1h", "TAILER_TTL_FAILED": "30d", "TAILER_TTL_QUEUES": f"{brief.name}=10m"}
    jobs = {
        3600: usual.enqueue("tests.jobs.hello"),
        30 * 86_400: usual.enqueue("tests.jobs.fail"),
        600: brief.enqueue("tests.jobs.hello"),
        120: brief.enqueue("tests.jobs.hello", meta={"tailer": {"ttl": 120}}),
        3599: usual.enqueue("tests.jobs.hello", meta={"tailer": {"ttl": "soon"}}),
    }
    console = stack.work(usual, brief.name, env=env)
    assert "meta['tailer']['ttl'] is 'soon': use seconds" in console
    for seconds, job in jobs.items():
        assert stack.log(job.id).end
        assert seconds - 60 < stack.connection.ttl(f"tailer:{{{job.id}}}:1") <= seconds + 1
