"""Faults of the machine: a full disk, no more files to open, a clock that is set back, and output at full speed."""

import contextlib
import os
import resource
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tailer.embedded import EmbeddedServer
from tailer.hub import RESERVED
from tailer.store import Cursor
from tests.faults.test_redis_faults import behind_proxy
from tests.waiting import wait_until

FULL = {"causes": ["Redis was unreachable and the worker's buffers were full"], "most_missing": 1 << 40}
SMALL = {"TAILER_BUFFER": "64KiB"}
"""So little memory that output goes to the disk soon."""
SHORT = {"TAILER_BUFFER": "1MiB", "TAILER_SPILL": "0", "TAILER_CONSOLE": "0"}
"""So little room that a flood fills it soon."""
CLOCK = Path(__file__).with_name("clock.c")
HOUR_MS = 3_600_000


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], check=False)
    if mounted.returncode:
        pytest.xfail("nothing can be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@contextlib.contextmanager
def files(pid, most):
    """Let the process open so many files for the block."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, before[1]))
    yield
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def opened(pid):
    """The highest number of the process's files."""
    return max(int(fd.name) for fd in Path(f"/proc/{pid}/fd").iterdir())


def test_disk_full(trial, tiny_disk):
    """The disk under the worker's spill file is full while Redis hangs for 2 s."""
    proxy = behind_proxy(trial, env={**SMALL, "TMPDIR": str(tiny_disk)}, shape="blocks", rate=1000)
    proxy.hold()
    wait_until(lambda: os.statvfs(tiny_disk).f_bavail == 0, 20, "a full disk")
    time.sleep(2)
    proxy.let_go()
    trial.recover()
    assert trial.finish(**FULL).holes


@pytest.mark.whole
def test_worker_without_files(trial):
    """The worker may open no more files while Redis hangs for 2 s."""
    proxy = behind_proxy(trial, env=SMALL, shape="blocks", rate=400)
    pid = trial.task.worker.pid
    with files(pid, opened(pid) + 1):
        proxy.hold()
        time.sleep(2)
        proxy.let_go()
        trial.recover()
    assert trial.finish(**FULL).holes


@pytest.mark.whole
def test_web_without_files(trial):
    """The web process may open files for a few more followers only, and forty come."""
    trial.begin()
    (web,) = trial.web.workers()
    port = int(trial.web.url.rpartition(":")[2])
    request = f"GET /jobs/{trial.task.job.id}/log HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    answers = []
    with files(web, RESERVED + len(trial.crowd.followers) + 5), contextlib.ExitStack() as held:
        for _ in range(40):
            client = held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=1))
            client.sendall(request)
            answers.append(client.recv(100).split()[1])
    assert set(answers) == {b"200", b"503"}
    trial.recover()
    trial.finish()
    assert not any(follower.broken for follower in trial.crowd.followers)


@pytest.mark.whole
def test_web_out_of_files(trial):
    """The web process may open no more files, and forty clients connect, stay for 2 s and leave."""
    trial.begin()
    (web,) = trial.web.workers()
    address = "127.0.0.1", int(trial.web.url.rpartition(":")[2])
    with files(web, opened(web) + 1), contextlib.ExitStack() as held:
        for _ in range(40):
            held.enter_context(socket.create_connection(address))
        time.sleep(2)
    trial.recover()
    trial.finish()
    assert trial.web.workers() == [web]
    assert not any(follower.broken for follower in trial.crowd.followers)


@pytest.mark.whole
@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_clock_set_back(trial, tmp_path):
    """The clock of worker and web process is set back by an hour."""
    library, moment = tmp_path / "clock.so", tmp_path / "moment"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, CLOCK], check=True)
    trial.begin(env={"LD_PRELOAD": str(library), "CLOCK_SET_BACK": str(moment)}, rate=20)
    moment.touch()
    trial.write_on(10_000)
    assert trial.recover() < 1
    trial.finish()
    reader, times = trial.store.reader(trial.task.job.id, Cursor()), []
    while records := reader.read():
        times += [record.time for record in records]
    assert max(times) - min(times) > HOUR_MS / 2


@pytest.mark.whole
@pytest.mark.timeout(400)
def test_flood_without_redis(trial):
    """The job writes as fast as it can for 60 s while Redis is away, with a buffer of 1 MiB."""
    server = trial.hold(EmbeddedServer())
    trial.begin(logs=server.url, env=SHORT, shape="blocks", rate=0)
    server.stop()
    time.sleep(trial.seconds(60, short=2))
    for task in trial.workers:  # each at its own speed; more than the one cannot be asked of the other
        task.account.until = task.account.begun
    server.start()
    trial.recover(60)
    assert trial.finish(**FULL, timeout=60).holes
