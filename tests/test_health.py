"""Whether a web process is well, for those who restart it and those who send it requests."""

import contextlib
import os
import signal
import time

import pytest

from tailer.embedded import EmbeddedServer
from tailer.settings import Settings
from tailer.web import create_app, hubs
from tests.stack import Stack

PROBE_S = 4
"""Twice what two Redis may take that let connect and then say nothing, for a slow machine."""


@contextlib.contextmanager
def hanging(server):
    """Stop the server's process for the block: its system accepts connections, and nobody answers."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@pytest.mark.parametrize("which", ["logs", "rq"])
def test_a_redis_that_hangs_is_told_of_in_time(server, which):
    """Be it that of the logs or RQ's: not ready, but alive, and figures come without what it would have told."""
    with EmbeddedServer() as logs, Stack.on(server.url, logs=logs.url) as stack:
        assert stack.get("/readyz").status == 200
        with hanging({"logs": logs, "rq": server}[which]):
            answers = {}
            for path in ("/readyz", "/healthz", "/metrics"):
                began = time.monotonic()
                answers[path] = stack.get(path, "-m", "20")
                assert time.monotonic() - began < PROBE_S, path
        assert [answer.status for answer in answers.values()] == [503, 200, 200]
        told = answers["/metrics"].body.decode()
        assert f'tailer_redis_up{{redis="{which}"}} 0.0' in told
        assert "tailer_followers 0.0" in told
        assert stack.get("/readyz").status == 200


def test_a_process_that_is_told_to_stop_is_not_ready(server):
    """It still answers, and says so, whatever Redis does."""
    app = create_app(Settings(rq_url=server.url))
    client = app.test_client()
    hub = hubs.pop()
    assert client.get("/readyz").status_code == 200
    hub.stopping = lambda: True
    answer = client.get("/readyz")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert client.get("/healthz").status_code == 200
    health = app.extensions["tailer"].health
    health.rq.connection_pool.disconnect()
