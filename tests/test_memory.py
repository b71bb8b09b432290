"""What the web process needs for long logs and slow clients, measured on real ones."""

import contextlib
import hashlib
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tailer.store import LogStore, connect
from tests.stack import curl, web_process
from tests.waiting import wait_until
from tests.written import Written

GROWTH = 16 << 20
"""Bytes that a web process may grow by: its ring, what the allocator keeps, and nothing that grows with the log."""
PIECE = 64 << 10


def lines(number):
    """64 KiB of lines that shrink to little, so that the server holds a long log."""
    line = b"2026-11-23 09:30:00 INFO worker.%d: processed another batch of records\n" % number
    return (line * (PIECE // len(line) + 1))[: PIECE - 1] + b"\n"


def workers_of(pid):
    """The processes that a gunicorn master has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def memory(pid, name):
    """`VmRSS`, what the process holds now, or `VmHWM`, the most that it held; in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0]) << 10


@pytest.fixture
def web(server):
    """A web process of the test's own: its URL, its worker's pid, and a store."""
    with web_process(server.url) as (url, process), connect(server.url) as connection:
        (pid,) = wait_until(lambda: workers_of(process.pid))
        yield url, pid, LogStore(connection, keep_tail=2 << 30)


def write(log, megabytes):
    """Append so many MiB to the log; returns the checksum of them."""
    pieces = [lines(number) for number in range(16)]
    written = hashlib.sha256()
    for number in range(megabytes):
        data = b"".join(pieces[(number + n) % 16] for n in range(16))
        log.write(data)
        written.update(data)
    return written.hexdigest()


def warm_up(url, pid, log):
    """Have the process load what it loads at a first request, and begin to count its memory; returns it now."""
    with curl(f"{url}/jobs/{log.job_id}/log?follow=0&tail=100") as client:
        assert client.wait() == 0
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # sets VmHWM back to VmRSS (proc(5))
    return memory(pid, "VmRSS")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no /proc: not Linux")
@pytest.mark.parametrize("mib", [256, pytest.param(1024, marks=pytest.mark.whole)])
def test_memory_stays_flat_while_a_large_log_streams(web, capsys, mib):
    """A log of up to 1 GiB goes through the web process, byte for byte, without leaving anything in its memory."""
    url, pid, store = web
    log = Written(store)
    wanted = write(log, mib)
    log.end()
    before, began = warm_up(url, pid, log), time.monotonic()
    received, size = hashlib.sha256(), 0
    with subprocess.Popen(["curl", "-sN", f"{url}/jobs/{log.job_id}/log"], stdout=subprocess.PIPE) as process:
        while data := process.stdout.read1(1 << 20):
            received.update(data)
            size += len(data)
    took = time.monotonic() - began
    growth = memory(pid, "VmHWM") - before
    with capsys.disabled():
        speed = f"{mib} MiB in {took:.1f} s: {size / took / 1e6:.0f} MB/s"
        print(f"\n{speed}, web process grew by {growth / (1 << 20):.1f} MiB")
    assert (size, received.hexdigest()) == (mib << 20, wanted)
    assert growth <= GROWTH


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no /proc: not Linux")
def test_stalled_clients_cost_little_and_hinder_nobody(web):
    """Twenty clients that read nothing of a log that grows hold a piece of it each; another one gets all at once."""
    url, pid, store = web
    log = Written(store)
    write(log, 1)
    log.rq_job(store.connection, "started")
    before = warm_up(url, pid, log)
    host, port = url.removeprefix("http://").split(":")
    with contextlib.ExitStack() as held:
        for _ in range(20):
            stalled = held.enter_context(socket.create_connection((host, int(port)), timeout=20))
            stalled.sendall(f"GET /jobs/{log.job_id}/log HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert stalled.recv(12) == b"HTTP/1.1 200"
        client = held.enter_context(curl(f"{url}/jobs/{log.job_id}/log"))
        write(log, 127)
        log.end()
        assert client.wait(60) == 0
        assert len(client.body) == 128 << 20
        growth = memory(pid, "VmHWM") - before
        assert growth <= GROWTH + 20 * (2 << 20)
