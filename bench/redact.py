"""What masking secrets costs a worker: its CPU time without any, and with 50 of them; and what finds them how fast."""

from __future__ import annotations

import random
import re
import string
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import re2

from bench.jobs import POOL, print_lines, varied
from bench.measured import Plain, Tailer, run
from bench.report import conditions, spread, table, undisturbed
from tailer.embedded import EmbeddedServer
from tailer.records import STDOUT
from worker.capture import PIECE
from worker.redact import Masks, Redactor, spellings

LINES = 500_000
ROUNDS = 7
COUNT = 50
PATTERNS = [r"sk-[A-Za-z0-9]{20,}", r"(?i)authorization:\s*bearer\s+\S+"]


def secrets() -> list[str]:
    """Return ``COUNT`` secrets of 16 to 47 letters, digits and the like; the same ones each time."""
    chance = random.Random(3)
    letters = string.ascii_letters + string.digits + "-_+/"
    return ["".join(chance.choices(letters, k=chance.randrange(16, 48))) for _ in range(COUNT)]


def measure() -> str:
    """Return the tables."""
    with EmbeddedServer() as server:
        about = conditions(server)
        return "\n".join([about, workers(server), engines()])


def workers(server: EmbeddedServer) -> str:
    """Let a job print under workers with more and more to mask, in turn; compare within each round."""
    values = [f"={secret}" for secret in secrets()]
    patterns = [f"/{pattern}/" for pattern in PATTERNS]
    kinds = {
        "nothing": "",
        f"{COUNT} secrets": " ".join(values),
        f"{COUNT} secrets and {len(PATTERNS)} patterns": " ".join(values + patterns),
    }
    rounds = [undisturbed(server, partial(one_round, server, list(kinds.values()))) for _ in range(ROUNDS)]
    rows = []
    for number, name in enumerate(kinds):
        cpu = [costs[number] / LINES * 1e6 for costs in rounds]
        share = [costs[number] / costs[0] for costs in rounds]
        rows.append([name, spread(cpu, 2), spread(share, 2) if number else ""])
    return table(["masked", "worker's CPU time, s per M lines", "to that without"], rows)


def one_round(server: EmbeddedServer, settings: list[str]) -> list[float]:
    """Return what a worker with each of these settings uses beyond what RQ's own does, in CPU seconds."""
    plain = run(server, Plain, print_lines, LINES, line_buffered=True)[0].cpu
    return [
        run(server, Tailer, print_lines, LINES, line_buffered=True, settings={"TAILER_REDACT": value})[0].cpu - plain
        for value in settings
    ]


def engines() -> str:
    """Look for the same spellings in the same lines with all that could do it, in one thread."""
    data = "".join(f"{line}\n" for line in varied(POOL)).encode()
    pieces = [data[start : start + PIECE] for start in range(0, len(data), PIECE)]
    known = [secret.encode() for secret in secrets()]
    spelled = sorted(set[bytes]().union(*map(spellings, known)))
    masks = Masks(known)
    works: list[tuple[str, list[bytes], Callable[[bytes], object]]] = [
        ("all of the redactor, no secrets", pieces, partial(Redactor(Masks()).feed, STDOUT)),
        (f"all of the redactor, {COUNT} secrets", pieces, partial(Redactor(masks).feed, STDOUT)),
        ("Hyperscan alone", pieces, partial(masks.literals, scratch=masks.scratch())),
        ("RE2, an alternation", pieces, re2.compile(b"|".join(map(re2.escape, spelled))).search),
        ("Python's re, an alternation", pieces[:1], re.compile(b"|".join(map(re.escape, spelled))).search),
    ]
    rows = []
    for name, given, work in works:
        times = []
        for _ in range(20):
            began = time.process_time()
            for piece in given:
                work(piece)
            times.append((time.process_time() - began) / sum(map(len, given)) * 1e9)
        rows.append([name, f"{median(times):.2f}"])
    return table([f"{len(spelled)} spellings of {COUNT} secrets in lines that hold none", "ms per MB"], rows)
