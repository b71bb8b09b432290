"""Several hosts on one machine: network namespaces of a test's own, each with one cable to a common switch."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

CLONE_NEWNET = 0x40000000  # sched.h
NETWORK = "10.99.0"


def ip(*arguments: str) -> None:
    """Run iproute2's `ip`; CalledProcessError if it fails."""
    subprocess.run(["ip", *arguments], check=True, timeout=10, capture_output=True)


class Host:
    """One of them. `address` is its IPv4 address; the others reach it while its cable is in."""

    def __init__(self, name: str, switch: str, number: int) -> None:
        self.name = name
        self.address = f"{NETWORK}.{number}"
        self._switch = switch
        self._port = f"port{number}"
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", self._port, "netns", switch)
        ip("-n", switch, "link", "set", self._port, "master", "switch", "up")
        ip("-n", name, "link", "set", "eth0", "up")
        self.take(self.address)

    def take(self, address: str) -> None:
        """Answer to another address too."""
        ip("-n", self.name, "address", "add", f"{address}/24", "dev", "eth0")

    def give(self, address: str) -> None:
        """Answer to it no longer."""
        ip("-n", self.name, "address", "del", f"{address}/24", "dev", "eth0")

    def forget_neighbours(self) -> None:
        """Ask anew who has which address, as a host does that is told of a change."""
        ip("-n", self.name, "neighbour", "flush", "all")

    def pull(self) -> None:
        """Pull its cable: packets get lost in both directions, and nobody is told."""
        ip("-n", self._switch, "link", "set", self._port, "nomaster")

    def plug(self) -> None:
        """Put its cable back."""
        ip("-n", self._switch, "link", "set", self._port, "master", "switch")

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command, to be run on this host."""
        return ["ip", "netns", "exec", self.name, *argv]

    @contextlib.contextmanager
    def here(self) -> Iterator[None]:
        """Be on this host for the block: this thread, and the threads and processes that it starts."""
        with Path("/proc/thread-self/ns/net").open() as before:
            _enter(Path(f"/run/netns/{self.name}"))
            try:
                yield
            finally:
                _enter(Path(before.name), before.fileno())


def _enter(path: Path, fd: int | None = None) -> None:
    opened = os.open(path, os.O_RDONLY) if fd is None else os.dup(fd)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(opened, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"{path}, thread {threading.get_native_id()}")
    finally:
        os.close(opened)


@contextlib.contextmanager
def hosts(*names: str) -> Iterator[list[Host]]:
    """Make hosts of these names for the block. Skips where a test may not make network namespaces."""
    mark = uuid.uuid4().hex[:8]
    spaces = [f"tailer-{mark}-{name}" for name in ("switch", *names)]
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("several hosts need root and iproute2: network namespaces")
    made = []
    try:
        for space in spaces:
            ip("netns", "add", space)
            made.append(space)
        ip("-n", spaces[0], "link", "add", "switch", "type", "bridge")
        ip("-n", spaces[0], "link", "set", "switch", "up")
        yield [Host(space, spaces[0], number) for number, space in enumerate(spaces[1:], 1)]
    finally:
        for space in made:
            ip("netns", "delete", space)
