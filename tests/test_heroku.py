"""The Procfile's formation as Heroku runs it: dynos, a Redis with TLS, a router that cuts idle streams, a restart."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import rq

from tailer.embedded import EmbeddedServer
from tailer.store import LogStore, connect
from tests.certificates import Certificate
from tests.processes import Running, free_port, running
from tests.proxy import Proxy
from tests.stack import BIN, ROOT, Stack, clean, curl
from tests.waiting import wait_until

TOKEN = "a-token-for-all-logs"
IDLE_S = 3.0
"""What the router's 55 s are here; a heartbeat's 15 s are 1 s."""


@dataclass(frozen=True)
class Secured:
    """A Redis that also listens with TLS; `url` leads there, and says nothing of certificates."""

    server: EmbeddedServer
    url: str
    ca: Path


@pytest.fixture
def secured(tmp_path: Path, redis7: EmbeddedServer) -> Iterator[Secured]:
    """A stock Redis with a certificate of its own making, as Heroku's has."""
    made, port = Certificate.made(tmp_path, "127.0.0.1"), free_port()
    tls = ("--tls-port", str(port), "--tls-auth-clients", "no")
    files = ("--tls-cert-file", str(made.chain), "--tls-key-file", str(made.key), "--tls-ca-cert-file", str(made.ca))
    with EmbeddedServer(binary="redis-server", extra=(*tls, *files)) as server:
        yield Secured(server, f"rediss://127.0.0.1:{port}", made.ca)


def descendants(pid: int) -> list[int]:
    """All processes below this one, parents first."""
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [one for child in found for one in (child, *descendants(child))]


class Dyno:
    """One process type of the Procfile, with all that it has started."""

    def __init__(self, process: Running, url: str) -> None:
        self.process = process
        self.url = url

    def stop(self) -> None:
        """Send SIGTERM to all processes in it at once; what is left after 30 s would get SIGKILL."""
        for pid in descendants(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


@contextlib.contextmanager
def dyno(name: str, env: dict[str, str], says: str) -> Iterator[Dyno]:
    """Run a process of the Procfile for the block; `name` is as DYNO tells it."""
    port = free_port()
    env = {**env, "DYNO": name, "PORT": str(port), "PATH": f"{BIN}:{os.environ['PATH']}"}
    argv = [str(BIN / "honcho"), "--env", os.devnull, "start", name.partition(".")[0]]
    with running(clean(argv, env), cwd=ROOT, env=env, ready=says) as process:
        yield Dyno(process, f"http://127.0.0.1:{port}")


def test_a_restart_of_all_dynos_under_followers(secured, tmp_path):
    """Streams live by heartbeats behind a router that cuts idle ones; a restart ends them, and all of it is resumed.

    The job is told of the restart and finishes in the time that it is given.
    """
    go = tmp_path / "go"
    env = {"REDIS_URL": secured.url, "TAILER_REDIS_VERIFY": "0", "TAILER_TRUSTED_PROXIES": "1"}
    env |= {"TAILER_TOKENS": f"all:{TOKEN}", "TAILER_HEARTBEAT": "1", "WEB_CONCURRENCY": "2"}
    credential = ("-H", f"Authorization: Bearer {TOKEN}")
    with contextlib.ExitStack() as held:
        worker = held.enter_context(dyno("worker.1", env, "*** Listening on"))
        web = held.enter_context(dyno("web.1", env, "Booting worker"))
        router = held.enter_context(Proxy(web.url, idle=IDLE_S))
        connection = held.enter_context(connect(secured.server.url))
        stack = Stack(secured.server.url, router.url, connection, LogStore(connection))
        job = rq.Queue(connection=connection).enqueue("tests.jobs.wait_for", str(go))
        follow = {"TAILER_URL": router.url, "TAILER_TOKEN": TOKEN}
        argv = clean([str(BIN / "tailer"), "follow", job.id], follow)
        command = held.enter_context(running(argv, cwd=ROOT, env=follow))
        asked = ("format=text", "format=text&heartbeat=1", "format=sse", "format=ndjson")
        silent, *beating = [held.enter_context(curl(stack.path(job.id, query), *credential)) for query in asked]
        for client in (silent, *beating):
            wait_until(lambda client=client: b"waiting" in client.body, 20)
        assert silent.wait() == 18  # cut: by its header it should have had a last chunk
        had = [len(client.body) for client in beating]
        wait_until(lambda: all(len(client.body) > before for client, before in zip(beating, had, strict=True)))

        restarted = held.enter_context(dyno("web.1", env, "Booting worker"))
        router.lead_to(restarted.url)
        for stopping in (web, worker):
            stopping.stop()
        assert [client.wait() for client in beating] == [18, 0, 18]
        assert beating[1].events[-1].json["status"] == 503
        worker.process.says("Imminent shutdown")
        go.touch()
        assert command.wait(20) == 0, command.text()
        assert command.stdout() == b"waiting\ndone\n"
        worker.process.wait(30)
        web.process.wait(30)
        assert stack.log(job.id).end.outcome == "finished"


def ended(argv: list[str], url: str, **env: str) -> tuple[int, str]:
    """Exit code and last words of a command on that Redis."""
    env["REDIS_URL"] = url
    done = subprocess.run(
        clean(argv, env),
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr.strip()


WORKER = [sys.executable, "-m", "worker", "--burst"]
JOBS = [str(BIN / "tailer"), "jobs"]


def test_an_unknown_certificate_is_refused_with_what_to_do(secured):
    """One line, no traceback, names both ways out; and both work, for the worker and for whatever reads logs."""
    for argv in (WORKER, JOBS):
        code, told = ended(argv, secured.url)
        assert code in {1, 2}
        assert "self-signed certificate" in told
        assert "?ssl_ca_certs=FILE" in told
        assert "TAILER_REDIS_VERIFY=0" in told
        assert "\n" not in told
    assert ended(WORKER, secured.url, TAILER_REDIS_VERIFY="0")[0] == 0
    assert ended(JOBS, f"{secured.url}?ssl_ca_certs={secured.ca}")[0] == 0
