"""Tables of figures: printed, and kept in ``docs/performance.md`` (or another page) between markers."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TypeVar

import redis

from tailer.embedded import EmbeddedServer

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BUSY = 0.1
"""Share of the machine's CPU time that others may use while something is measured."""
TRIES = 20
"""How often a measurement that others disturbed is taken again."""

T = TypeVar("T")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose first column is text and whose others are figures."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [head, rule, *rows])


def spread(values: Sequence[float], digits: int) -> str:
    """Return the median, and the least and the greatest value in brackets."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def conditions(*servers: EmbeddedServer) -> str:
    """Return what was measured on, in one line: versions, machine, and how busy it was with other things."""
    return f"{equipment(*servers)}; {others():.0%} of its CPU time used by others just before.\n"


def equipment(*servers: EmbeddedServer) -> str:
    """Return versions and machine, in one line without an end."""
    names = [f"{name} {version(name)}" for name in ("rq", "redis", "hiredis", "zstandard")]
    release = ".".join(platform.release().split(".")[:2])
    parts = [f"Python {platform.python_version()}", *names, *map(server_version, servers)]
    machine = f"{os.cpu_count()} CPUs ({_processor()}), {platform.system()} {release}"
    return f"{', '.join(parts)}; {machine}"


def server_version(server: EmbeddedServer) -> str:
    """Return a server's name and version."""
    with redis.Redis.from_url(server.url) as connection:
        info = connection.info("server")
    return f"{info.get('server_name', 'redis')}-server {info.get('valkey_version', info['redis_version'])}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def others(seconds: float = 1.0) -> float:
    """Return the share of CPU time that is in use now; to be called while the benchmark itself does nothing."""
    try:
        before = _ticks()
        time.sleep(seconds)
        after = _ticks()
    except OSError:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    busy, total = after[0] - before[0], after[1] - before[1]
    return busy / total if total else 0.0


@contextmanager
def busy() -> Iterator[Callable[[], float]]:
    """Yield a function that tells which share of the machine's CPU time was in use inside the block, by anybody."""
    before = _ticks()
    after = before
    yield lambda: (after[0] - before[0]) / (after[1] - before[1])
    after = _ticks()


def _ticks() -> tuple[int, int]:
    """Busy and all CPU time so far (proc(5), /proc/stat)."""
    user, nice, system, idle, wait, *rest = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
    busy = user + nice + system + sum(rest)
    return busy, busy + idle + wait


def undisturbed(server: EmbeddedServer, measure: Callable[[], T]) -> T:
    """Return what ``measure`` returns, once others left the machine alone while it ran; or its last try."""
    for _ in range(TRIES):
        wait_for_quiet()
        before, own = _ticks(), _own(server)
        measured = measure()
        after = _ticks()
        if after[0] - before[0] - (_own(server) - own) < BUSY * (after[1] - before[1]):
            break
    return measured


def _own(server: EmbeddedServer) -> float:
    """CPU time so far of this process, its ended children, and the server, in ticks (proc(5), /proc/PID/stat)."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(os.times()[:4]) * os.sysconf("SC_CLK_TCK") + int(fields[11]) + int(fields[12])


def wait_for_quiet(patience: float = 60.0) -> None:
    """Return when the machine has next to nothing else to do, or after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while others(0.3) > BUSY and time.monotonic() < deadline:
        time.sleep(0.5)


def write(name: str, text: str, page: Path = PAGE) -> None:
    """Replace what stands between the markers of ``name``; does nothing where the page has none."""
    begin, end = f"<!-- bench:{name} -->\n", f"<!-- /bench:{name} -->"
    if not page.exists() or begin not in (whole := page.read_text()):
        return
    before, rest = whole.split(begin)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}")
