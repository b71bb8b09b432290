"""Following at scale: Tailer's web side, and others', with thousands of clients. One web process on one core.

``python -m bench.fanout [WORD...]`` runs the named parts only (``fan`` for all shapes, ``one-5000`` for one of them,
``one-5000:text`` for one design of it; ``stalled``, ``idle``, ``catchup``), prints them and changes no page.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from statistics import median

import redis
import zstandard
from rq.job import Job

from bench.designs import (
    OTHER_CORE,
    WEB_CORE,
    Design,
    Served,
    begin,
    c_replay,
    designs,
    pinned_redis,
    replaying,
    tailer_on,
    wait_until,
)
from bench.jobs import LINE, varied
from bench.load import Load
from bench.publish import job_name
from bench.report import conditions, table
from bench.usage import cpu_seconds, forget_peak, idle_percent, memory, peak_memory
from tailer.embedded import EmbeddedServer
from tailer.records import MAX_CHUNK, Chunk, End, encode
from tailer.store import Cursor, LogStore, meta_key, now_ms

SECONDS = float(os.environ.get("BENCH_SECONDS", "6"))
"""How long each case is measured."""
WARM_S = 1.5
"""How long it runs before that."""
GRACE_S = 2.0
"""What comes so long after the last line was published still counts as delivered."""
SETTLE_S = 1.0
"""Between the last follower's connection and the look at memory."""
LOG_LINES, TEXTBOOK_LINES = 1_000_000, 100_000


@dataclass(frozen=True)
class Case:
    """So many followers of so many jobs, which have ``rate`` messages of ``lines`` lines a second each.

    ``stall`` of the followers don't read.
    """

    followers: int
    jobs: int
    rate: float
    lines: int = 1
    stall: int = 0
    seconds: float = SECONDS


@dataclass(frozen=True)
class Figures:
    """What came of a case.

    ``delivered`` and ``resumed`` are shares, of those who read and, in the end, of all; latencies are ms, ``cpu`` is
    the web process's ms per 1,000 delivered lines, ``kib`` a follower's memory, ``grown`` what each stalled one added
    to it, ``busy`` and ``client`` are % of a core, ``late`` the publisher's worst ms.
    """

    delivered: float
    gaps: int
    doubles: int
    p50: float
    p99: float
    cpu: float
    kib: float
    idle: float
    busy: float
    client: float
    late: float
    grown: float = 0.0
    resumed: float = 1.0


SHAPES: dict[str, tuple[Case, Sequence[str]]] = {
    "one-1": (Case(1, 1, 1, seconds=12), ("text", "sse", "nchan", "nchan-redis")),
    "one-100": (Case(100, 1, 20), ("text", "sse", "nchan", "nchan-redis", "c")),
    "one-1000": (Case(1000, 1, 20), ("text", "sse", "nchan", "nchan-redis", "poll", "flask-sse", "c")),
    "one-5000": (Case(5000, 1, 20), ("text", "sse", "nchan", "nchan-redis", "poll", "c")),
    "one-10000": (Case(10_000, 1, 5), ("text", "sse", "nchan", "c")),
    "many-1000": (Case(1000, 1000, 20), ("text", "sse", "nchan", "nchan-redis", "poll")),
    "many-5000": (Case(5000, 5000, 4), ("text", "sse", "nchan", "nchan-redis")),
    "many-10000": (Case(10_000, 10_000, 2), ("text", "nchan")),
}
FOLLOWERS = 1000
STALLING = Case(FOLLOWERS, 1, 20, lines=20, stall=FOLLOWERS // 2, seconds=6)
CALM = Case(FOLLOWERS // 2, 1, 20, lines=20, seconds=6)
IDLE = 10_000

Results = dict[tuple[str, str], Figures]


# One case.


def run(design: Design, case: Case) -> Figures:
    """Start the design, have it followed, and measure it."""
    with design.start(case.followers if design.name.startswith("C ") else case.jobs) as served:
        if served.process is None:
            with Load(served.port, served.paths, 1, headers=served.headers, early=served.early) as first:
                first.connected()  # What a process needs for its first request isn't the followers'.
        before = memory(served.pid)
        with connect(served, case) as load:
            kib = (memory(served.pid) - before) / case.followers / 1024
            idle = idle_percent(served.pid, 1.5)
            return publish(served, case, load, kib, idle)


def connect(served: Served, case: Case) -> Load:
    """Return the followers, once all of them follow."""
    with ExitStack() as held:
        options = {"headers": served.headers, "stall": case.stall, "early": served.early}
        load = held.enter_context(Load(served.port, served.paths, case.followers, **options))
        load.connected()
        wait_until(lambda: served.ready(case.followers), 20)
        time.sleep(SETTLE_S)
        held.pop_all()
    return load


def publish(served: Served, case: Case, load: Load, kib: float, idle: float) -> Figures:
    """Publish, and measure what arrives."""
    grown = memory(served.pid)
    told = begin_publishing(served, case)
    time.sleep(WARM_S)
    start, used, began = load.mark(), cpu_seconds(served.pid), time.perf_counter()
    time.sleep(case.seconds)
    figures, used, took = load.mark(), cpu_seconds(served.pid) - used, time.perf_counter() - began
    published, late = told()
    expected = published * (case.followers - case.stall)
    last = wait_for(load, expected, GRACE_S)
    grown = memory(served.pid) - grown
    delivered, resumed = last["total"] / expected, 1.0
    if case.stall:
        # Else nobody would have been kept from reading.
        held = unread(served.port) / case.stall / LINE / published
        print(f"  stalled: {held:.0%} of the output is in their sockets", file=sys.stderr)
        if held > 0.8:
            raise RuntimeError("the sockets of the stalled followers have room for all")
        load.resume()
        last = wait_for(load, published * case.followers, 10)
        resumed = last["total"] / (published * case.followers)
    return Figures(
        delivered=delivered,
        gaps=last["gaps"],
        doubles=last["doubles"],
        p50=figures["p50"],
        p99=figures["p99"],
        cpu=used * 1e6 / max(1, figures["lines"]),
        kib=kib,
        idle=idle,
        busy=100 * used / took,
        client=100 * (figures["cpu"] - start["cpu"]) / took,
        late=late,
        grown=grown / 1024 / max(1, case.stall),
        resumed=resumed,
    )


def unread(port: int) -> int:
    """Return the bytes in all sockets of a server of ours and of its clients that nobody has read (proc(5))."""
    ours = f":{port:04X}"
    rows = [line.split()[1:5] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    queues = [queue.split(":") for local, remote, _, queue in rows if local.endswith(ours) or remote.endswith(ours)]
    return sum(int(sending, 16) + int(receiving, 16) for sending, receiving in queues)


def begin_publishing(served: Served, case: Case):
    """Begin; returns what waits for the end, and then tells the lines published per job, and how late at most."""
    seconds = WARM_S + case.seconds + 0.2
    if served.process:
        served.process.stdin.write(f"go {case.rate} {seconds}\n")
        served.process.stdin.flush()

        def sent() -> tuple[int, float]:
            served.process.stdout.readline()
            return int(case.rate * seconds), 0.0

        return sent
    words = map(str, (served.publisher, served.at, case.jobs, case.rate, seconds, case.lines))
    child = subprocess.Popen([sys.executable, "-m", "bench.publish", *words], stdout=subprocess.PIPE, text=True)
    child.stdout.readline()

    def told() -> tuple[int, float]:
        output, _ = child.communicate()
        if child.returncode:
            raise RuntimeError("publishing failed")
        figures = json.loads(output)
        if served.publisher == "tailer":
            check_stored(served.at, case.jobs, figures["lines"])
        return figures["lines"], figures["late"]

    return told


def check_stored(port: int, jobs: int, lines: int) -> None:
    """Raise ``RuntimeError`` unless each job has all lines in its log."""
    with redis.Redis(port=port) as connection:
        found = [one.last.lines for one in LogStore(connection).summaries([job_name(n) for n in range(jobs)])]
    if found != [lines] * jobs:
        raise RuntimeError(f"{lines} lines of {jobs} jobs were published, and stored are {min(found)} to {max(found)}")


def wait_for(load: Load, expected: int, patience: float) -> dict[str, float]:
    """Return the figures once so many lines were delivered, or after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while (figures := load.mark())["total"] < expected and time.monotonic() < deadline:
        time.sleep(0.05)
    return figures


# Parts.


def fan(wanted: Sequence[str] = ()) -> Results:
    """Measure the shapes, all designs of each side by side."""
    results: Results = {}
    known = designs()
    for shape, (case, names) in SHAPES.items():
        for name in names:
            if wanted and not {"fan", shape, shape[: shape.index("-")], f"{shape}:{name}"} & set(wanted):
                continue
            if known[name].lacks:
                continue
            began = time.perf_counter()
            try:
                results[shape, name] = run(known[name], case)
                said = " ".join(
                    [*row(known[name].name, case, results[shape, name]), f"late {results[shape, name].late:.0f} ms"]
                )
            except (RuntimeError, TimeoutError) as error:
                said = f"failed: {error}"
            load = os.getloadavg()[0]
            print(f"  {shape}:{name} ({time.perf_counter() - began:.0f} s, load {load:.1f}) {said}", file=sys.stderr)
    return results


def row(name: str, case: Case, figures: Figures) -> list[str]:
    """Return a table's cells."""
    return [
        name,
        f"{case.followers:,}",
        f"{case.rate:g}",
        f"{figures.delivered:.1%}" if figures.delivered < 1 else "all",
        f"{figures.gaps} / {figures.doubles}",
        f"{figures.p50:.2f}",
        f"{figures.p99:.2f}",
        f"{figures.cpu:.1f}",
        f"{figures.busy:.0f}",
        f"{figures.kib:.1f}",
        f"{figures.idle:.1f}",
        f"{figures.client:.0f}",
    ]


def tables(results: Results) -> str:
    """Return a table for one job, and one for as many jobs as followers."""
    known = designs()
    titles = {
        "one": "Followers of one job",
        "many": "As many jobs as followers, one each",
    }
    head = ["", "followers", "lines/s", "delivered", "gaps / doubles", "p50 ms", "p99 ms"]
    head += ["CPU ms per 1,000", "CPU %", "KiB per follower", "idle CPU %", "client's CPU %"]
    parts = []
    for kind, title in titles.items():
        rows = []
        for shape, (case, names) in SHAPES.items():
            if shape.startswith(kind):
                for name in names:
                    if figures := results.get((shape, name)):
                        rows.append(row(known[name].name, case, figures))
                    elif known[name].lacks:
                        rows.append([known[name].name, f"{case.followers:,}", f"{case.rate:g}", known[name].lacks])
                        rows[-1] += [""] * (len(head) - 4)
        if rows:
            parts.append(f"**{title}**\n\n{table(head, rows)}")
    return "\n".join(parts)


def stalled() -> tuple[str, list[Figures], list[Figures]]:
    """Measure with and without followers that don't read, three times."""
    design = designs()["text"]
    calm, stalling = [], []
    for _ in range(3):
        calm.append(run(design, CALM))
        stalling.append(run(design, STALLING))
    rows = [
        [
            name,
            *(f"{median(getattr(one, field) for one in found):.2f}" for field in ("p50", "p99")),
            f"{max(one.grown for one in found):.1f}" if found is stalling else "",
            *(f"{min(getattr(one, field) for one in found):.1%}" for field in ("delivered", "resumed")),
            f"{sum(one.gaps + one.doubles for one in found)}",
        ]
        for name, found in (("500 followers, all read", calm), ("1,000 followers, 500 of them stalled", stalling))
    ]
    head = [
        "20 lines 20 times a second",
        "p50 ms",
        "p99 ms",
        "KiB grown per stalled",
        "delivered",
        "after they read on",
        "gaps + doubles",
    ]
    return f"**Followers that stop reading**\n\n{table(head, rows)}", calm, stalling


def idle() -> tuple[str, dict[str, tuple[float, float]]]:
    """Connect thousands of followers to jobs that are silent."""
    found = {}
    known = designs()
    for key, name, jobs in (("text", "text", 1), ("text, many", "text", IDLE), ("nchan", "nchan", 1)):
        if known[name].lacks:
            continue
        with known[name].start(jobs) as served:
            with Load(served.port, served.paths, 1, headers=served.headers) as first:
                first.connected()
            before = memory(served.pid)
            with connect(served, Case(IDLE, jobs, 0)) as load:
                found[key] = (memory(served.pid) - before) / IDLE / 1024, idle_percent(served.pid, 16)
                if (still := load.mark())["closed"]:
                    raise RuntimeError(f"{still['closed']} idle followers were closed")
    names = {
        "text": "Tailer, one job",
        "text, many": f"Tailer, {IDLE:,} jobs",
        "nchan": "nginx + nchan, memory, one job",
    }
    rows = [[names[key], f"{kib:.1f}", f"{busy:.1f}"] for key, (kib, busy) in found.items()]
    return f"**{IDLE:,} followers, no output**\n\n{table(['', 'KiB per follower', 'CPU %'], rows)}", found


@dataclass(frozen=True)
class Replayed:
    """MB of text a second, and MB by which the web process grew at most."""

    speed: float
    grown: float = 0.0


def catchup() -> tuple[str, dict[str, Replayed]]:
    """Replay a long log to one client, and the same by a C program and by a textbook's generator."""
    found: dict[str, Replayed] = {}
    for stored, compressor in (("zstd", zstandard.ZstdCompressor(level=1)), ("plain", None)):
        with pinned_redis() as server:
            fill(server, compressor)
            with c_replay(server, f"{meta_key(job_name(0))}:1") as port:
                found[f"c, {stored}"] = Replayed(replayed(port, "/", LOG_LINES))
            with tailer_on(server, 2, "text/plain") as served:
                replay_once(served.port, served.paths[1], 1)
                before = memory(served.pid)
                forget_peak(served.pid)
                speed = replayed(served.port, served.paths[0], LOG_LINES)
                found[f"tailer, {stored}"] = Replayed(speed, (peak_memory(served.pid) - before) / 1e6)
                if stored == "zstd":
                    speed = replayed(served.port, served.paths[0], None, "Accept-Encoding: zstd")
                    found["tailer, zstd to the client"] = Replayed(speed)
    with replaying(1) as (served, connection):
        for block in blocks(TEXTBOOK_LINES, 1000):
            connection.rpush(job_name(0), *block.splitlines())
        found["textbook"] = Replayed(replayed(served.port, served.paths[0], TEXTBOOK_LINES))
    names = {
        "c, zstd": "C program, same list, stored as the worker does (zstd)",
        "tailer, zstd": "Tailer, text, stored as the worker does (zstd)",
        "tailer, zstd to the client": "Tailer, the same to a client that takes zstd",
        "c, plain": "C program, same list, stored uncompressed",
        "tailer, plain": "Tailer, text, stored uncompressed",
        "textbook": "generator with a yield per line",
    }
    rows = [
        [names[key], f"{one.speed:,.0f}", f"{one.grown:.1f}" if key.startswith("tailer") and one.grown else ""]
        for key in names
        if (one := found.get(key))
    ]
    head = [f"{LOG_LINES:,} lines of {LINE} bytes to one client", "MB/s of text", "memory grown, MB"]
    return f"**Catching up**\n\n{table(head, rows)}", found


def blocks(lines: int, each: int) -> Iterator[bytes]:
    """Yield a log, ``each`` lines at a time; all are numbered for the load client."""
    pool = [text.encode() for text in varied(20_000)]
    for first in range(0, lines, each):
        numbered = [b"@@0:%d@ %b" % (number, pool[number % len(pool)]) for number in range(first, first + each)]
        yield b"".join([line[: LINE - 1] + b"\n" for line in numbered])


def fill(server: EmbeddedServer, compressor: zstandard.ZstdCompressor | None) -> None:
    """Put a finished log into the first job's, and one of a single line into the second one's."""
    each = MAX_CHUNK // LINE
    with redis.Redis.from_url(server.url) as connection:
        begin(connection, 2)
        store = LogStore(connection, keep_tail=4 << 30)
        for job, lines, size in ((job_name(0), LOG_LINES, each), (job_name(1), 1, 1)):
            data = blocks(lines + -lines % size, size)
            starts = [*range(0, lines, size), lines]
            for (first, last), block in zip(pairwise(starts), data, strict=True):
                part = block[: (last - first) * LINE]
                chunk = Chunk("stdout", now_ms(), first * LINE, first + 1, last - first, False, part)
                element = encode(chunk, compressor)
                store.append(job, Cursor(1, first * LINE), [element], end=last * LINE, lines=last)
            end = End(
                outcome="finished",
                attempt=1,
                final=True,
                status="finished",
                bytes=lines * LINE,
                lines=lines,
                ended_at=0,
            )
            store.end(job, end)
            connection.hset(Job.key_for(job), "status", "finished")


def replayed(port: int, path: str, lines: int | None, *headers: str) -> float:
    """Return the median speed of three replays, in MB of text a second."""
    return median(replay_once(port, path, lines, *headers) for _ in range(3))


def replay_once(port: int, path: str, lines: int | None, *headers: str) -> float:
    """Replay a log; raises ``RuntimeError`` unless all of its lines came. ``None`` can't look into what comes."""
    with Load(port, [path], 1, headers=["Connection: close", *headers]) as load:
        load.connected()
        figures = load.closed()
    if lines is not None and (figures["total"], figures["gaps"], figures["doubles"]) != (lines, 0, 0):
        raise RuntimeError(f"of {lines} lines: {figures}")
    return (lines or LOG_LINES) * LINE / figures["seconds"] / 1e6


# What must be reached.


@dataclass(frozen=True)
class Goal:
    """A figure that must not exceed a bound, or with ``least`` must not fall below it; ``None`` if not measured."""

    where: str
    what: str
    bound: float
    found: float | None
    least: bool = False

    @property
    def reached(self) -> bool:
        """Whether it is."""
        return self.found is not None and (self.found >= self.bound if self.least else self.found <= self.bound)


def goals(
    results: Results,
    calm: Sequence[Figures],
    stalling: Sequence[Figures],
    quiet: dict[str, tuple[float, float]],
    replays: dict[str, Replayed],
) -> Iterator[Goal]:
    """Yield all goals, as far as they were measured."""

    def ratio(of: tuple[str, str], to: tuple[str, str], figure: str) -> float | None:
        return getattr(results[of], figure) / getattr(results[to], figure) if {of, to} <= results.keys() else None

    def peer(shape: str, other: str, figure: str, bound: float) -> Goal:
        names = {"cpu": "CPU", "p99": "p99", "p50": "p50"}
        what = f"{names[figure]} / that of {designs()[other].name}"
        return Goal(where(shape), what, bound, ratio((shape, "text"), (shape, other), figure))

    def delivered(shape: str) -> Goal:
        found = results.get((shape, "text"))
        return Goal(where(shape), "delivered, %", 100, found and 100 * found.delivered, least=True)

    def where(shape: str) -> str:
        case = SHAPES[shape][0]
        jobs = "one job" if case.jobs == 1 else f"{case.jobs:,} jobs"
        followers = "1 follower" if case.followers == 1 else f"{case.followers:,} followers"
        return f"{followers}, {jobs}, {case.rate:g} line{'s' * (case.rate != 1)}/s"

    yield peer("one-5000", "nchan", "cpu", 0.85)
    yield peer("one-5000", "nchan", "p99", 0.5)
    yield delivered("one-5000")
    yield peer("many-1000", "nchan", "cpu", 0.85)
    yield peer("many-1000", "nchan-redis", "cpu", 0.3)
    yield peer("many-1000", "nchan", "p99", 5)
    yield delivered("many-5000")
    yield peer("many-5000", "nchan", "cpu", 1.1)
    yield peer("many-5000", "nchan", "p99", 10)
    yield peer("one-1", "nchan-redis", "p50", 1.5)
    if quiet:
        yield Goal(f"{IDLE:,} followers, no output", "KiB each", 10, quiet["text"][0])
        yield Goal(f"{IDLE:,} followers, no output", "CPU, % of a core", 1, quiet["text"][1])
    if replays:
        text, where_to = "catching up, text", "speed / that of the C program"
        yield Goal(text, where_to, 0.6, replays["tailer, zstd"].speed / replays["c, zstd"].speed, least=True)
        speed = replays["tailer, zstd"].speed / replays["textbook"].speed
        yield Goal(text, "speed / that of a generator with a yield per line", 30, speed, least=True)
        grown = max(replays[key].grown for key in ("tailer, zstd", "tailer, plain"))
        yield Goal(text, "memory grown, MB", 8, grown)
    if stalling:
        slower = median(one.p99 for one in stalling) / median(one.p99 for one in calm)
        yield Goal("500 of 1,000 followers stalled", "p99 of the rest / p99 without them", 1.2, slower)
        yield Goal("500 of 1,000 followers stalled", "KiB grown each", 64, max(one.grown for one in stalling))
    yield Goal(
        "10,000 followers",
        "CPU per line / that at 100 followers",
        1.3,
        ratio(("one-10000", "text"), ("one-100", "text"), "cpu"),
    )
    ours = [figures for (_, name), figures in results.items() if name in {"text", "sse"}]
    yield Goal(
        "all of Tailer's", "gaps and doubles", 0, sum(one.gaps + one.doubles for one in [*ours, *calm, *stalling])
    )


def verdicts(found: Iterator[Goal], *, complete: bool) -> str:
    """Return the table of goals; those that were not measured only if all should have been."""
    rows = [
        [
            goal.where,
            goal.what,
            f"{'≥' if goal.least else '≤'} {goal.bound:g}",
            "not measured" if goal.found is None else f"{goal.found:.2f}",
            "" if goal.found is None else "reached" if goal.reached else "**missed**",
        ]
        for goal in found
        if goal.found is not None or complete
    ]
    return f"**What must be reached**\n\n{table(['', 'figure', 'bound', 'found', ''], rows)}"


def about() -> str:
    """Return what was measured on, and with which versions."""
    with pinned_redis() as server:
        text = conditions(server)
    versions = [f"{name} {_version(name)}" for name in ("gunicorn", "gevent", "flask", "flask-sse")]
    lacking = sorted({one.lacks for one in designs().values() if one.lacks})
    if not any("nginx" in lack for lack in lacking):
        server = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr.strip()
        ask = ["dpkg-query", "-Wf", "${Version}", "libnginx-mod-nchan"]
        module = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
        versions += [
            server.rpartition("/")[0].rpartition(" ")[2] + " " + server.rpartition("/")[2],
            f"libnginx-mod-nchan {module}",
        ]
    pins = f"one web process on core {WEB_CORE}, Redis, publisher and clients on core {OTHER_CORE}"
    return f"{text}\n{', '.join(versions)}; {pins}; {SECONDS:g} s each.\n"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def measure(wanted: Sequence[str] = ()) -> str:
    """Return the tables."""
    if not shutil.which("cc"):
        return "Not measured: the clients need a C compiler (`cc`)."
    os.sched_setaffinity(0, {OTHER_CORE})
    parts, results, calm, stalling, quiet, replays = [about()], {}, [], [], {}, {}
    if not wanted or not set(wanted) <= {"stalled", "idle", "catchup"}:
        results = fan(wanted)
        parts.append(tables(results))
    if not wanted or "stalled" in wanted:
        text, calm, stalling = stalled()
        parts.append(text)
    if not wanted or "idle" in wanted:
        text, quiet = idle()
        parts.append(text)
    if not wanted or "catchup" in wanted:
        text, replays = catchup()
        parts.append(text)
    parts.append(verdicts(goals(results, calm, stalling, quiet, replays), complete=not wanted))
    return "\n".join(parts)


if __name__ == "__main__":
    print(measure(sys.argv[1:]))
