"""What a search of a log costs: how fast it goes, how long one step holds up the process, and what followers notice."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from statistics import median, quantiles

import zstandard

from bench.measured import ROOT, environment
from bench.report import conditions, table
from tailer.embedded import EmbeddedServer, free_port
from tailer.records import MAX_CHUNK, Attempt, Chunk, End, encode
from tailer.store import Cursor, LogStore, connect, now_ms

SIZE = 256 << 20
"""Bytes of the log that is searched."""
LINE = "2026-11-24 10:00:%02d,123 INFO app.module request %d took 0.123 s for user 998 path /a/b/c\n"
QUIET_S = 15.0
RATE = 50
"""Lines a second of the log that is followed."""
CASES = (
    ("no line matches", "Traceback"),
    ("no line matches, in either case", "(?i)traceback"),
    ("three words", "error|warning|critical"),
    ("a line in a thousand matches", "request [0-9]*7777 "),
    ("large, with nested repetitions", "(?:a.{30}b.{30}){10}Q"),
)


def measure() -> str:
    """Return the table."""
    with EmbeddedServer() as server, connect(server.url) as connection:
        about = conditions(server)
        store = LogStore(connection)
        _write(store, "searched")
        rows = []
        for kind in ("gthread", "gevent"):
            with _web(server, kind) as url:
                rows.append([f"{kind}: nothing is searched", "", *_delays(store, url, lambda: time.sleep(QUIET_S))])
                for name, expression in CASES:
                    took: list[float] = []
                    figures = _delays(store, url, lambda e=expression, t=took: t.append(_search(url, e)))
                    rows.append([f"{kind}: {name}", f"{SIZE / took[0] / 1e6:.0f}", *figures])
                four = _delays(store, url, lambda: _together(url, CASES[0][1], 4))
                rows.append([f"{kind}: four searches at once", "", *four])
    head = ["search", "MB/s", "followers' median, ms", "p99, ms", "worst, ms"]
    return f"{about}\n{table(head, rows)}"


def _write(store: LogStore, job_id: str) -> None:
    """Write a log of ``SIZE`` bytes, in full chunks."""
    compressor = zstandard.ZstdCompressor(level=1)
    cursor, lines = store.start(job_id, Attempt(now_ms(), 0, job_id))
    number, elements = 0, list[bytes]()
    offset = cursor.offset
    while offset < SIZE:
        text = bytearray()
        while len(text) < MAX_CHUNK - len(LINE) - 20:
            text += (LINE % (number % 60, number)).encode()
            number += 1
        chunk = Chunk("stdout", now_ms(), offset, lines + 1, text.count(b"\n"), False, bytes(text))
        offset, lines = chunk.end, lines + chunk.lines
        elements.append(encode(chunk, compressor))
        if len(elements) == 16 or offset >= SIZE:
            store.append(job_id, cursor, elements, end=offset, lines=lines)
            cursor, elements = Cursor(cursor.attempt, offset), []
    store.end(job_id, End(outcome="finished", attempt=1, final=True, bytes=offset, lines=lines, ended_at=time.time()))


@contextmanager
def _web(server: EmbeddedServer, kind: str) -> Iterator[str]:
    """Run the web side with one kind of gunicorn's workers."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "wsgi:app", "--bind", f"127.0.0.1:{port}", "-k", kind]
    null = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=ROOT, env=environment(server), stdout=null, stderr=null)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"{url}/healthz"):
                break
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _search(url: str, expression: str) -> float:
    """Return how many seconds a search takes."""
    query = urllib.parse.urlencode({"grep": expression, "format": "ndjson"})
    began = time.perf_counter()
    with urllib.request.urlopen(f"{url}/jobs/searched/log?{query}") as answer:
        for line in answer:
            last = line
    assert json.loads(last)["outcome"] == "finished"
    return time.perf_counter() - began


def _together(url: str, expression: str, count: int) -> None:
    threads = [threading.Thread(target=_search, args=(url, expression)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _delays(store: LogStore, url: str, meanwhile: object) -> list[str]:
    """Return the delays of lines to a follower of another log while something is done."""
    job_id = f"followed-{time.monotonic_ns()}"
    cursor, lines = store.start(job_id, Attempt(now_ms(), 0, job_id))
    delays, over = list[float](), threading.Event()

    def write() -> None:
        at, number = cursor, lines
        while not over.is_set():
            text = b"%d\n" % time.time_ns()
            chunk = Chunk("stdout", now_ms(), at.offset, number + 1, 1, False, text)
            store.append(job_id, at, [encode(chunk)], end=chunk.end, lines=number + 1)
            at, number = Cursor(at.attempt, chunk.end), number + 1
            time.sleep(1 / RATE)
        store.end(job_id, End(outcome="finished", attempt=1, final=True, bytes=at.offset, lines=number))

    def read() -> None:
        with urllib.request.urlopen(f"{url}/jobs/{job_id}/log") as answer:
            for line in answer:
                delays.append((time.time_ns() - int(line)) / 1e6)

    threads = [threading.Thread(target=one) for one in (write, read)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    skipped = len(delays)
    meanwhile()  # type: ignore[operator]
    over.set()
    for thread in threads:
        thread.join()
    seen = delays[skipped:]
    return [f"{value:.1f}" for value in (median(seen), quantiles(seen, n=100, method="inclusive")[98], max(seen))]
