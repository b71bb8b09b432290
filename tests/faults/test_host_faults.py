"""Faults of the machine: a full disk, no more files to open, a clock that is set back, and output at full speed."""

import contextlib
import os
import resource
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tailer.embedded import EmbeddedServer
from tests.proxy import Proxy
from tests.waiting import wait_until

FULL = {"causes": ["Redis was unreachable and the worker's buffers were full"], "most_missing": 4 << 30}
SMALL = {"TAILER_BUFFER": "64KiB"}
"""So little memory that output goes to the disk soon."""
FAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], check=False)
    if mounted.returncode:
        pytest.xfail("nothing can be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@contextlib.contextmanager
def no_more_files(pid, more=0):
    """Let the process open no file beyond those it has, but for so many, for the block."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    highest = max(int(fd.name) for fd in Path(f"/proc/{pid}/fd").iterdir())
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1 + more, before[1]))
    yield
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def without_redis(trial, seconds=2.0, **options):
    """A running trial whose logs' server is away for so long, and then there again."""
    server = trial.hold(EmbeddedServer())
    proxy = trial.hold(Proxy(server.url))
    trial.begin(logs=proxy.url, direct=server.url, **options)
    return proxy


def test_disk_full(trial, tiny_disk):
    """The disk under the worker's spill file is full while Redis hangs for 2 s."""
    proxy = without_redis(trial, env={**SMALL, "TMPDIR": str(tiny_disk)}, shape="blocks", rate=400)
    proxy.hold()
    time.sleep(2)
    assert os.statvfs(tiny_disk).f_bavail < 8
    proxy.let_go()
    trial.recover()
    assert trial.finish(**FULL).holes


@pytest.mark.whole
def test_worker_without_files(trial):
    """The worker may open no more files while Redis hangs for 2 s."""
    proxy = without_redis(trial, env=SMALL, shape="blocks", rate=400)
    with no_more_files(trial.task.worker.pid):
        proxy.hold()
        time.sleep(2)
        proxy.let_go()
        trial.recover()
    assert trial.finish(**FULL).holes


def test_web_without_files(trial):
    """The web process may open no more files while forty more clients come."""
    trial.begin()
    (web,) = trial.web.workers()
    port = int(trial.web.url.rpartition(":")[2])
    request = f"GET /jobs/{trial.task.job.id}/log HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    with no_more_files(web), contextlib.ExitStack() as held:
        for _ in range(40):
            client = held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=0.05))
            client.sendall(request)
            with contextlib.suppress(TimeoutError):
                assert client.recv(100).split()[1] == b"503"
    trial.recover()
    trial.finish()
    assert not any(follower.broken for follower in trial.crowd.followers)


@pytest.mark.whole
def test_clock_set_back(trial, tmp_path):
    """The clock of worker and web process is set back by an hour."""
    if not FAKETIME:
        pytest.skip("no libfaketime: run scripts/system-packages")
    clock = tmp_path / "clock"
    clock.write_text("+0s")
    fake = {"FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    trial.begin(env={**fake, "LD_PRELOAD": str(FAKETIME[0])})
    earlier = tmp_path / "earlier"
    earlier.write_text("-3600s")
    earlier.replace(clock)
    trial.write_on(100_000)
    trial.recover()
    trial.finish()
    assert trial.times() < -3000


@pytest.mark.whole
def test_flood_without_redis(trial):
    """The job writes as fast as it can for 60 s while Redis is away, and more than all buffers hold."""
    server = trial.hold(EmbeddedServer())
    trial.begin(logs=server.url, env={"TAILER_CONSOLE": "0"}, shape="blocks", rate=0)
    server.stop()
    time.sleep(trial.seconds(60, short=8))
    server.start()
    trial.recover(60)
    assert trial.finish(**FULL, later=60, timeout=120).holes
