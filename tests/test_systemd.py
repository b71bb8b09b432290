"""The units of deploy/systemd, run by a systemd: start, reload, and a stop with a job that takes too long or not."""

import re
import sys
import uuid
from pathlib import Path

import pytest
import rq

from tests.processes import free_port
from tests.stack import BIN, ROOT, Stack, curl
from tests.systemd import booted
from tests.waiting import wait_until

UNITS = ROOT / "deploy" / "systemd"
WORKER, WEB = "tailer-worker@1.service", "tailer-web.service"
HERE = f"""
[Unit]
DefaultDependencies=no
[Service]
ProtectHome=tmpfs
BindReadOnlyPaths={ROOT} {Path(sys.prefix)} {Path(sys.base_prefix)}
EnvironmentFile=
"""


@pytest.fixture
def flag():
    """A path that a job of any user sees, and that is not there yet."""
    path = Path("/dev/shm") / f"tailer-test-{uuid.uuid4().hex}"
    yield path
    path.unlink(missing_ok=True)


def units(stack: Stack, directory: Path, port: int) -> dict[str, str]:
    """The units as they are, with what differs here in files beside them, as an operator would do it."""
    environment = directory / "environment"
    environment.write_text(f"REDIS_URL={stack.url}\nWORKER_ARGS={directory.name}\n")
    starts = {}
    for unit in (WEB, "tailer-worker@.service"):
        text = (UNITS / unit).read_text()
        (start,) = re.findall("^ExecStart=/opt/tailer/bin/(.*)$", text, re.MULTILINE)
        start = start.replace("/etc/tailer", str(ROOT))
        log = f"StandardOutput=append:{directory}/{unit}.log\nStandardError=inherit\n"
        starts[unit] = text
        starts[f"{unit}.d/here.conf"] = (
            f"{HERE}EnvironmentFile={environment}\nExecStart=\nExecStart={BIN}/{start}\n{log}"
        )
    starts[f"{WEB}.d/here.conf"] += f'Environment="GUNICORN_CMD_ARGS=--bind 127.0.0.1:{port}"\n'
    # The queue has the test's name; `Environment` of the unit itself is empty, and a file wins over it.
    starts["tailer-worker@.service.d/here.conf"] += f"User=daemon\nWorkingDirectory={ROOT}\nTimeoutStopSec=2\n"
    return starts


def test_the_units_under_systemd(stack, tmp_path, flag):
    """They have no fault that systemd knows of; they start, and stop without a job that is cut off unawares.

    A job that finishes in time does. Another one is ended with its cause in the log, and systemd calls the stop a
    failure. A reload ends streams, and the web side goes on.
    """
    port = free_port()
    queue = rq.Queue(tmp_path.name, connection=stack.connection)
    with booted(tmp_path / "units", units(stack, tmp_path, port)) as system:
        for unit in (WEB, WORKER):
            assert system.run("systemd-analyze", "verify", unit) == ""
        # Of 10, at which a unit takes nothing from its processes; the threshold is in tenths.
        system.run("systemd-analyze", "security", "--offline=true", "--threshold=15", str(UNITS / WEB))
        system.run("systemctl", "start", WEB, WORKER)
        long = queue.enqueue("tests.jobs.wait_for", str(flag))
        url = f"http://127.0.0.1:{port}/jobs/{long.id}/log"
        with curl(url) as before, curl(f"{url}?format=sse") as events:
            wait_until(lambda: before.body == b"waiting\n", 20)
            events.connected()
            system.run("systemctl", "reload", WEB)
            assert before.wait() == 18
            assert events.wait() == 0
        with curl(url) as client:
            client.connected()
            system.run("systemctl", "stop", WORKER)
            assert client.wait() == 0
            assert client.body.startswith(b"waiting\n[tailer] killed")
            assert b"the worker was shut down" in client.body
        assert system.state(WORKER) == "failed timeout"

        system.run("systemctl", "start", WORKER)
        short = queue.enqueue("tests.jobs.wait_for", str(flag))
        stack.wait_for_output(short.id, b"waiting\n")
        system.run("systemctl", "stop", "--no-block", WORKER)
        wait_until(lambda: system.state(WORKER).startswith("deactivating"))
        flag.touch()
        wait_until(lambda: system.state(WORKER) == "inactive success")
        assert stack.log(short.id).end.outcome == "finished"

        system.run("systemctl", "stop", WEB)
        assert system.state(WEB) == "inactive success"
