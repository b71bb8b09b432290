"""What Prometheus is told, by real web processes with real clients."""

import contextlib
import os
import signal

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.stack import Stack, children, curl, web_process
from tests.waiting import wait_until
from tests.written import Written


@pytest.fixture
def web(server):
    """A web process of the test's own, whose figures nobody else changes."""
    with Stack.on(server.url) as stack:
        yield stack


def figures(stack: Stack) -> dict[str, float]:
    """What it tells now, but for the histogram's buckets."""
    families = text_string_to_metric_families(stack.get("/metrics").body.decode())
    return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}


def running(stack: Stack) -> Written:
    """A log that somebody writes."""
    log = Written(stack.store)
    log.rq_job(stack.connection, "started")
    return log


def test_followers_and_their_logs_are_counted(web):
    """All who follow, each log once; who leaves a quiet log without a word is gone from the count within 5 s."""
    logs = [running(web), running(web)]
    with web.follow(logs[0].job_id), web.follow(logs[1].job_id, formats=["text"]):
        wait_until(lambda: figures(web)["tailer_followers"] == 4)
        assert figures(web)["tailer_followed_logs"] == 2
    wait_until(lambda: figures(web)["tailer_followers"] == 0, 5)
    assert figures(web)["tailer_followed_logs"] == 0


def test_output_is_counted_once_and_what_is_sent_for_each(web):
    """And how long it took is measured."""
    log = running(web)
    with web.follow(log.job_id, formats=["text"]) as one, web.follow(log.job_id, formats=["text"]) as other:
        log.write(b"x" * 999 + b"\n")
        wait_until(lambda: len(one["text"].body) == len(other["text"].body) == 1000)
        log.write(b"second\n")
        wait_until(lambda: figures(web)["tailer_output_bytes_total"] == 1007)
        told = figures(web)
    assert told["tailer_sent_bytes_total"] >= 2014
    assert told["tailer_delay_seconds_count"] >= 1


def test_any_of_several_processes_tells_the_sum(server):
    """Whichever is asked; those of processes that were killed count no longer."""
    with web_process(server.url, env={"WEB_CONCURRENCY": "2"}) as (url, process), Stack.on(server.url) as other:
        stack = Stack(server.url, url, other.connection, other.store)
        log = running(stack)
        with contextlib.ExitStack() as held:
            for _ in range(8):
                held.enter_context(curl(stack.path(log.job_id))).connected()
            wait_until(lambda: figures(stack)["tailer_followers"] == 8)
            for pid in children(process.pid):
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: figures(stack)["tailer_followers"] == 0)
