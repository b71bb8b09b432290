"""How long a printed line takes to a client: jobs print the time, clients on loopback compare it with theirs."""

from __future__ import annotations

import contextlib
import re
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from statistics import median, quantiles
from urllib.parse import urlsplit

import redis
import rq

from bench.jobs import CLOCK, print_clock
from bench.measured import ROOT, Tailer, command, environment
from bench.report import busy, conditions, table, wait_for_quiet
from tailer.embedded import EmbeddedServer, free_port

JOBS = 5
SECONDS = 60
STAMP = re.compile(rb"t=(\d{19}) line \d+\n")
FORMATS = ("text", "sse")
PEER = "PUBLISH to a subscriber"


def measure() -> str:
    """Return the table."""
    with EmbeddedServer() as server:
        about = conditions(server)
        rows = []
        with _processes(server) as port:
            for rate in (1, 20):
                wait_for_quiet()
                with busy() as share:
                    delays = follow(server, port, rate)
                for name, values in delays.items():
                    p99 = quantiles(values, n=100, method="inclusive")[98]
                    figures = (f"{figure:.1f}" for figure in (median(values), p99, max(values)))
                    rows.append([f"{rate} a second, {name}", f"{len(values):,}", *figures, f"{share():.0%}"])
        head = [f"lines of each of {JOBS} jobs", "samples", "median, ms", "p99, ms", "worst, ms", "CPUs in use"]
        return f"{about}\n{table(head, rows)}"


@contextlib.contextmanager
def _processes(server: EmbeddedServer) -> Iterator[int]:
    """Run the web side as the Procfile does, and a worker for each job; yields the web side's port."""
    port, null = free_port(), subprocess.DEVNULL
    commands = [
        [sys.executable, "-m", "gunicorn", "wsgi:app", "--bind", f"127.0.0.1:{port}"],
        *[command(server, Tailer) for _ in range(JOBS)],
    ]
    running = [subprocess.Popen(one, cwd=ROOT, env=environment(server), stdout=null, stderr=null) for one in commands]
    try:
        _wait_for(server, port)
        yield port
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(30)


def _wait_for(server: EmbeddedServer, port: int) -> None:
    """Return when everything is up."""
    deadline = time.monotonic() + 30
    with redis.Redis.from_url(server.url) as connection:
        while len(rq.Worker.all(connection=connection)) < JOBS:
            if time.monotonic() > deadline:
                sys.exit("the workers did not start")
            time.sleep(0.05)
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if time.monotonic() > deadline:
            sys.exit("the web side did not start")
        time.sleep(0.05)


def follow(server: EmbeddedServer, port: int, rate: int) -> dict[str, list[float]]:
    """Run the jobs, each followed in each format; returns the delays in ms by format, and those of the peer."""
    delays: dict[str, list[float]] = {name: [] for name in (*FORMATS, PEER)}
    selector = selectors.DefaultSelector()
    subscribe = b"SUBSCRIBE %b\r\n" % CLOCK.encode()
    peer = _sent(urlsplit(server.url).port, subscribe)
    selector.register(peer, selectors.EVENT_READ, (PEER, bytearray()))
    with redis.Redis.from_url(server.url) as connection:
        queue = rq.Queue(connection=connection)
        for number in range(JOBS):
            phase = 1 + number / JOBS / rate
            job = queue.enqueue(print_clock, SECONDS * rate, 1 / rate, phase, server.url, job_timeout=SECONDS * 2)
            for name in FORMATS:
                follower = _followed(port, f"/jobs/{job.id}/log?format={name}")
                selector.register(follower, selectors.EVENT_READ, (name, bytearray()))
    while len(selector.get_map()) > 1:
        for key, _ in selector.select(SECONDS):
            name, held = key.data
            data = key.fileobj.recv(1 << 16)
            now = time.time_ns()
            held += data
            for match in (matches := list(STAMP.finditer(held))):
                delays[name].append((now - int(match[1])) / 1e6)
            if matches:
                del held[: matches[-1].end()]
            if not data or held.endswith(b"\r\n0\r\n\r\n"):
                selector.unregister(key.fileobj)
                key.fileobj.close()
    peer.close()
    selector.close()
    return delays


def _followed(port: int, path: str) -> socket.socket:
    """Return a connection on which that log comes; its header is read."""
    client = _sent(port, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.recv(1) or sys.exit("the web side sends no header")
    if not head.startswith(b"HTTP/1.1 200 "):
        sys.exit(f"the web side refuses: {head.decode()}")
    return client


def _sent(port: int | None, request: bytes) -> socket.socket:
    """Return a connection to that port of this machine on which ``request`` was sent."""
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(request)
    return client
