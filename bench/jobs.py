"""The jobs that are measured, and the lines that they print."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from itertools import repeat

import redis

LINE = 100
"""Bytes of a line, its newline included."""
POOL = 20_000
"""Distinct lines that ``print_lines`` repeats: 30 chunks' worth, and each chunk is compressed by itself."""
CLOCK = "bench:clock"
TICK_S = 0.01
"""How often ``print_steadily`` writes."""
ORPHANED_S = 0.3
"""How long after the death of its worker a job begins to print; by then its log is taken over."""

MODULES = ("billing", "mail.outbox", "search", "media.resize", "auth", "etl.load", "webhooks")
LEVELS = ("DEBUG", "INFO", "INFO", "INFO", "INFO", "WARNING", "ERROR")
VERBS = ("processed", "skipped", "fetched", "stored", "retried", "rejected", "queued", "validated", "merged")
NOUNS = ("invoice", "customer", "message", "document", "picture", "session", "row", "order", "shipment", "refund")
WORDS = ("amber", "basil", "cedar", "delta", "ember", "fjord", "grove", "heron", "iris", "juniper", "kelp", "lotus")


def varied(count: int, seed: int = 1) -> Iterator[str]:
    """Yield log lines of ``LINE - 1`` characters as an application's logging writes them.

    Each has a time of its own, one of 4 levels, 7 modules and 32 processes, three words, and random digits: a number
    of six, a duration of four, and hexadecimal ones up to the end, 9 on average. The same seed gives the same lines.
    """
    chance = random.Random(seed)
    clock = 1_800_000_000.0
    for _ in range(count):
        clock += chance.expovariate(200)
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(clock)) + f",{int(clock * 1000) % 1000:03d}"
        line = (
            f"{stamp} {chance.choice(LEVELS)} {chance.choice(MODULES)}[{chance.randrange(4000, 4032)}]: "
            f"{chance.choice(VERBS)} {chance.choice(NOUNS)} {chance.randrange(10**6):06d} {chance.choice(WORDS)} "
            f"in {chance.random() * 1000:05.1f} ms id="
        )
        yield f"{line}{chance.getrandbits(160):040x}"[: LINE - 1]


def print_lines(count: int, *, line_buffered: bool) -> float:
    """Print ``count`` lines, a multiple of ``POOL``; returns the seconds it took until all were written.

    Without line buffering Python writes blocks of 8 KiB. It is set here for every worker class alike.
    """
    pool = list(varied(POOL))
    sys.stdout.reconfigure(line_buffering=line_buffered)
    began = time.perf_counter()
    for lines in repeat(pool, count // POOL):
        for line in lines:
            print(line)
    sys.stdout.flush()
    return time.perf_counter() - began


def kill_worker_and_print(count: int) -> float:
    """Kill this job's worker, and be `print_lines`, line by line, a moment later."""
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(ORPHANED_S)
    return print_lines(count, line_buffered=True)


def print_once(count: int) -> None:
    """Print ``count`` lines, no two alike."""
    for line in varied(count):
        print(line)


def print_slowly(count: int, pause: float) -> None:
    """Print ``count`` varied lines with ``pause`` seconds behind each."""
    for line in varied(count):
        print(line)
        time.sleep(pause)


def print_steadily(rate: int, seconds: float, gate: str, url: str) -> list[tuple[float, int]]:
    """Print ``rate`` lines a second, each tenth of them in colour, from when there is a key ``gate``.

    Returns how many were written when: pairs of time and count, the first of them at the beginning.
    """
    pool = [
        f"\x1b[3{1 + n % 6}m{line[:-9]}\x1b[0m\n" if n % 10 == 0 else f"{line}\n" for n, line in enumerate(varied(POOL))
    ]
    connection = redis.Redis.from_url(url)
    while not connection.exists(gate):
        time.sleep(TICK_S)
    written, began, total = 0, time.time(), int(rate * seconds)
    counts = [(began, 0)]
    while written < total:
        time.sleep(TICK_S)
        due = min(total, int((time.time() - began) * rate))
        sys.stdout.write("".join(pool[n % POOL] for n in range(written, due)))
        sys.stdout.flush()
        written = due
        counts.append((time.time(), written))
    return counts


def print_numbered(count: int) -> None:
    """Print ``count`` lines of some 80 bytes that begin with their number."""
    pool = [line[24:] for line in varied(POOL)]
    for first in range(1, count + 1, 1000):
        numbers = range(first, min(first + 1000, count + 1))
        sys.stdout.write("".join(f"{n} {pool[n % POOL][:72]}\n" for n in numbers))


def print_clock(count: int, pause: float, phase: float, url: str) -> None:
    """Print the time in ns ``count`` times, every ``pause`` seconds; ``phase`` (seconds) sets jobs apart.

    Publish it too, on the channel ``CLOCK`` of the server at ``url``: the shortest way out of the job.
    """
    connection = redis.Redis.from_url(url)
    time.sleep(phase)
    due = time.monotonic()
    for number in range(count):
        print(f"t={time.time_ns()} line {number}")
        connection.publish(CLOCK, f"t={time.time_ns()} line {number}\n")
        due += pause
        time.sleep(max(0.0, due - time.monotonic()))


def nothing() -> None:
    """Do nothing."""
