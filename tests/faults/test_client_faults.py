"""Faults of clients: they are killed, stall, leave or come in crowds. Nobody else notices, and they lose nothing."""

import subprocess
import threading
import time

import pytest

from tests.faults.received import Received
from tests.swarm import Swarm
from tests.waiting import wait_until
from tests.web_servers import connections_to

STALLED_BUFFER = 4096
CROWD = 2000
CATCH_UP_S = 60
"""For what three followers missed in a minute, 40 MB each: decoding it takes the suite itself most of that time."""


class Curl(threading.Thread):
    """Runs `curl` on a job's text, which is SIGKILLed every so many seconds while `killed` is set, and run again.

    What each of them had written counts, and the next one asks for what is behind that.
    """

    form = "curl"

    def __init__(self, url, shape, pause):
        super().__init__(daemon=True)
        self.received = Received(shape)
        self.over = False
        self.refused = None
        self.broken = 0
        self.killed = threading.Event()
        self._url, self._pause = url, pause

    @property
    def at(self):
        """Where it is."""
        return self.received.at

    @property
    def done(self):
        """Whether it does not run any more."""
        return not self.is_alive()

    def run(self):
        """Follow to the end."""
        while not self.over:
            argv = ["curl", "-sN", f"{self._url}?offset=1:{self.at}"]
            with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
                timer = threading.Timer(self._pause, process.kill)
                if self.killed.is_set():
                    timer.start()
                while data := process.stdout.read1(1 << 16):
                    self.received.data(data)
                self.over = process.wait() == 0
                self.broken += not self.over
                timer.cancel()


def test_killed(trial):
    """Clients are killed and come back every 200 ms: `curl` by SIGKILL, others by a reset of their connection."""
    trial.begin()
    curl = Curl(f"{trial.address}/jobs/{trial.task.job.id}/log", trial.shape, 0.2)
    trial.followers.append(curl)
    curl.killed.set()
    curl.start()
    for _ in range(10):
        time.sleep(0.2)  # the pace is the fault
        for follower in trial.crowd.followers:
            follower.leave("reset")
    curl.killed.clear()
    trial.recover()
    trial.finish()
    assert all(follower.broken >= 5 for follower in [curl, *trial.crowd.followers])


@pytest.mark.timeout(180)
def test_stalled(trial):
    """Clients take nothing for 60 s, until their sockets are full, and then read on."""
    trial.begin(rate=1000)
    others = list(trial.followers)
    stalled = [trial.follow(form, buffer=STALLED_BUFFER) for form in ("text", "sse", "ndjson")]
    wait_until(lambda: all(follower.at for follower in stalled), 20)
    for follower in stalled:
        follower.stall()
    until = time.monotonic() + trial.seconds(60, short=3)
    while time.monotonic() < until:
        trial.write_on(200_000)
        trial.reach(trial.written(), 10, others)  # nobody waits for those who stall
    assert all(follower.at < trial.written() - 1_000_000 for follower in stalled)
    for follower in stalled:
        follower.go_on()
    trial.recover(CATCH_UP_S)
    trial.finish()


@pytest.mark.whole
@pytest.mark.timeout(180)
def test_one_byte_a_second(trial):
    """Clients read one byte a second for 60 s, and then as usual."""
    trial.begin(rate=1000)
    others = list(trial.followers)
    slow = [trial.follow(form, buffer=STALLED_BUFFER) for form in ("text", "sse", "ndjson")]
    wait_until(lambda: all(follower.at for follower in slow), 20)
    for follower in slow:
        follower.stall()
    until = time.monotonic() + trial.seconds(60, short=3)
    while time.monotonic() < until:
        time.sleep(1)  # the pace is the fault
        for follower in slow:
            follower.stream.take(1)
        trial.reach(trial.written(), 10, others)
    assert all(follower.at < trial.written() - 1_000_000 for follower in slow)
    for follower in slow:
        follower.go_on()
    trial.recover(CATCH_UP_S)
    trial.finish()


def test_half_closed(trial):
    """Clients close their half of the connection, are taken to have left, and come back."""
    trial.begin()
    for follower in trial.crowd.followers:
        follower.leave("half")
    wait_until(lambda: all(follower.broken for follower in trial.crowd.followers), 5)
    trial.recover()
    trial.finish()


def test_gone_without_a_word(trial):
    """Of a job that prints nothing for a while, 60 clients leave without a word, and are freed within 5 s."""
    trial.begin(rate=0.2)
    stay = connections_to(trial.address)
    followers = trial.web.figure("tailer_followers")
    with Swarm(trial.address) as swarm:
        leaving = [
            swarm.follow(trial.task.job.id, f"?format={form}") for form in ("text", "sse", "ndjson") for _ in range(20)
        ]
        assert connections_to(trial.address) >= stay + len(leaving)
        wait_until(lambda: trial.web.figure("tailer_followers") >= followers + len(leaving), 5)
        began = time.monotonic()
        for number, client in enumerate(leaving):
            client.leave(("close", "reset")[number % 2])
        wait_until(lambda: connections_to(trial.address) <= stay, 5, "they are freed")
        wait_until(lambda: trial.web.figure("tailer_followers") <= followers, 5 - (time.monotonic() - began))
        trial.recovered(began)
    trial.finish()


@pytest.mark.whole
@pytest.mark.timeout(240)
def test_crowd(trial):
    """2,000 clients connect at once, and get every byte."""
    trial.begin(rate=5, shape="short")
    began = time.monotonic()
    for number in range(CROWD):
        trial.follow(("text", "sse", "ndjson")[number % 3])
    trial.reach(trial.written(), 60)
    trial.recovered(began)
    trial.write_on(2000)
    trial.finish(timeout=60)
    assert not any(follower.broken for follower in trial.crowd.followers)
