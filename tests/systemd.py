"""A systemd of a test's own: process 1 of a PID namespace, in a control group of its own, with units of the test."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.processes import running
from tests.waiting import wait_until

SYSTEMD = "/lib/systemd/systemd"
BOOT = """
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs tmpfs /etc/systemd/system
cp -r "$1"/. /etc/systemd/system
exec env -i PATH="$PATH" container=test "$2" --system --unit=nothing.target --log-target=console --show-status=no
"""
ENTER = 'echo $$ >"$1/cgroup.procs" && shift && exec unshare -m -u -i -p -C -f --mount-proc --kill-child "$@"'


class Systemd:
    """What has been started, for as long as the block of `booted` lasts."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def run(self, *argv: str, timeout: float = 30) -> str:
        """What a command says beside that systemd, such as systemctl; AssertionError if it does not succeed."""
        enter = ["nsenter", "-t", str(self._pid), "-m", "-p", "-C", *argv]
        done = subprocess.run(enter, capture_output=True, text=True, timeout=timeout, check=False)
        assert done.returncode == 0, (argv, done.stdout, done.stderr)
        return (done.stdout + done.stderr).strip()

    def state(self, unit: str) -> str:
        """Whether it is active, and how it ended: ActiveState and Result."""
        told = self.run("systemctl", "show", "-p", "ActiveState", "-p", "Result", unit)
        named = dict(line.split("=", 1) for line in told.splitlines())
        return f"{named['ActiveState']} {named['Result']}"


@contextlib.contextmanager
def booted(directory: Path, units: Mapping[str, str]) -> Iterator[Systemd]:
    """Boot it with these files of /etc/systemd/system, by their paths in there. Skips where that cannot be done."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    trees = [Path(where) for _, where, kind, *_ in mounts if kind == "cgroup2"]
    if os.geteuid() or not trees or not Path(SYSTEMD).exists() or not shutil.which("nsenter"):
        pytest.skip("to boot a systemd, a test must be root on a Linux with systemd and cgroup v2")
    units = {"nothing.target": "[Unit]\n", **units}
    for name, text in units.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    group = trees[0] / f"tailer-test-{uuid.uuid4().hex[:12]}"
    group.mkdir()
    argv = ["sh", "-c", ENTER, "sh", str(group), "sh", "-c", BOOT, "sh", str(directory), SYSTEMD]
    try:
        with running(argv) as outer:
            children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
            wait_until(lambda: children.read_text() or outer.poll() is not None, 10, "a process 1")
            assert outer.poll() is None, outer.text()
            first = int(children.read_text())
            system = Systemd(first)
            try:
                wait_until(lambda: _up(system), 20, "systemd up")
                yield system
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(first, signal.SIGKILL)  # which ends all in its namespace
                outer.wait()
    finally:
        for path, *_ in os.walk(group, topdown=False):
            wait_until(lambda path=path: _removed(Path(path)), 10)


def _up(system: Systemd) -> bool:
    with contextlib.suppress(AssertionError):
        system.run("systemctl", "is-active", "nothing.target")
        return True
    return False


def _removed(group: Path) -> bool:
    """Whether an empty control group is gone; those whose processes end just now need a moment."""
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.exists()
