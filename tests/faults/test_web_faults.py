"""Faults of the web side: it is stopped, killed and reloaded under its followers, which go on where they were."""

import contextlib
import os
import signal
import time
import urllib.request

import pytest

from tests.proxy import Proxy
from tests.waiting import wait_until


def wait_for_another(web, before):
    """Return when the web process has other workers than these, and only those."""
    wait_until(lambda: (now := web.workers()) and not set(now) & set(before), 20, "another worker of gunicorn")


def test_killed(trial):
    """All its processes get SIGKILL, and are started again."""
    trial.begin()
    trial.web.stop(signal.SIGKILL)
    trial.write_on(20_000)
    trial.web.start()
    trial.recover()
    trial.finish()


@pytest.mark.whole
def test_worker_killed(trial):
    """The process that serves gets SIGKILL, three times; gunicorn starts it again."""
    trial.begin()
    for _ in range(3):
        before = trial.web.workers()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_for_another(trial.web, before)
        trial.recover()
    trial.finish()


@pytest.mark.whole
def test_terminated(trial):
    """It is told to stop (SIGTERM), and started again."""
    trial.begin()
    trial.web.stop(signal.SIGTERM)
    trial.write_on(20_000)
    trial.web.start()
    trial.recover()
    trial.finish()
    assert all(follower.broken for follower in trial.crowd.followers)


@pytest.mark.whole
def test_reloaded(trial):
    """It is told to reload (SIGHUP), three times."""
    trial.begin()
    for _ in range(3):
        before = trial.web.workers()
        trial.web.process.signal(signal.SIGHUP)
        wait_for_another(trial.web, before)
        trial.recover()
    trial.finish()


@pytest.mark.whole
def test_recycled(trial):
    """Gunicorn recycles its process behind every 40 requests (`max_requests`), four times."""
    trial.begin(web_options=["--max-requests", "40"])
    for _ in range(4):
        before = trial.web.workers()
        while set(before) & set(trial.web.workers()):
            with contextlib.suppress(OSError):  # which is what happens while nobody listens
                urllib.request.urlopen(f"{trial.web.url}/healthz", timeout=5).close()
        wait_for_another(trial.web, before)
        trial.recover()
    trial.finish()


def test_two_behind_one_address(trial, moving):
    """Two of them behind one address; their followers are moved from one to the other every 300 ms."""
    proxy, other = moving
    for number in range(8):
        time.sleep(0.3)  # the pace is the fault
        proxy.lead_to((trial.web, other)[number % 2 == 0].url)
        proxy.cut(reset=number % 3 == 0)
    trial.recover()
    trial.finish()
    assert all(follower.broken >= 4 for follower in trial.crowd.followers)


@pytest.mark.whole
def test_one_of_two_killed(trial, moving):
    """Of two behind one address one gets SIGKILL; its followers go on with the other."""
    proxy, other = moving
    proxy.lead_to(other.url)
    trial.web.stop(signal.SIGKILL)
    trial.recover()
    trial.finish()


@pytest.fixture
def moving(trial):
    """A proxy before the trial's web process, and another web process to lead it to."""
    trial.found()
    with Proxy(trial.web.url) as proxy:
        trial.begin(web=proxy.url)
        yield proxy, trial.serve()
