"""Follows a log over HTTP while it is written, in each format, to see what lies between: what is late, cut, changed."""

from __future__ import annotations

import re
import statistics
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import urllib3
import zstandard
from urllib3.exceptions import HTTPError

from tailer.client import PIECE, Web, cause_of
from tailer.errors import TailerError
from tailer.scratch import ScratchLog

LINES = 12
"""Written one by one before the silence. They are short: what collects any number of bytes keeps them back."""
GAP_S = 0.15
"""Between two lines."""
ALIVE_S = 4.0
"""How often the log's life is renewed."""
HEADERS_S = 2.0
"""How long writing waits for the headers of all answers."""
END_S = 4.0
"""How long streams may take to end when the log has; an event stream is held for a second."""
_LINE = re.compile(rb"probe line ([0-9]+) of")
_OVER = {"sse": b"event: end\n", "ndjson": b'"outcome":'}


@dataclass(frozen=True, slots=True)
class Way:
    """One way to read a log: a format, and the Accept-Encoding that is sent with it."""

    name: str
    format: str
    accept_encoding: str = "identity"


WAYS = (
    Way("text", "text"),
    Way("text in gzip", "text", "gzip"),
    Way("text in zstd", "text", "zstd"),
    Way("SSE", "sse", "gzip, deflate"),  # as browsers send it, but for what could not be read here
    Way("NDJSON", "ndjson"),
)


@dataclass
class Seen:
    """What one follower saw. All times are of ``time.monotonic``.

    ``arrivals`` is when each line came, by its number; ``last_at`` when any byte did. ``clean`` is whether the answer
    ended as HTTP says, ``over`` whether the log's own end was in it. ``error`` is why it could not be read.
    """

    way: Way
    asked_at: float = 0.0
    opened_at: float | None = None
    ended_at: float | None = None
    last_at: float = 0.0
    arrivals: dict[int, float] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    version: int = 11
    body: bytes = b""
    clean: bool = False
    error: str | None = None
    refused: TailerError | None = None

    @property
    def over(self) -> bool:
        """Whether the log's end was seen; for text, whether its last line was."""
        if mark := _OVER.get(self.way.format):
            return mark in self.body
        return LINES + 1 in self.arrivals


@dataclass
class Trial:
    """A log that was followed in all ``WAYS``: when its lines were written, and what each follower saw.

    ``silence`` is how many seconds lay before the last line; ``over_at`` is when its end was written.
    """

    seen: list[Seen]
    silence: float
    written: dict[int, float] = field(default_factory=dict)
    over_at: float = 0.0

    def delays(self, seen: Seen) -> list[float]:
        """Return how many seconds after it was written each line of the first part came; those that came."""
        return [seen.arrivals[number] - at for number, at in self.written.items() if number in seen.arrivals][:LINES]

    def delay(self, seen: Seen) -> float | None:
        """Return the median of ``delays``, ``None`` if half of the lines never came."""
        delays = self.delays(seen)
        return statistics.median(delays) if len(delays) > LINES // 2 else None

    def together(self, seen: Seen) -> int:
        """Return how many lines at most came within a twentieth of a second."""
        times = sorted(seen.arrivals.values())
        return max((sum(at <= other <= at + 0.05 for other in times) for at in times), default=0)

    def cut_after(self, seen: Seen) -> float | None:
        """Return the seconds of silence after which the stream was cut; ``None`` if it was not before its end."""
        if seen.opened_at is None or seen.ended_at is None or seen.ended_at >= self.over_at:
            return None
        return seen.ended_at - max(seen.last_at, seen.opened_at)


def try_streams(web: Web, log: ScratchLog, silence: float) -> Trial:
    """Write ``log`` and follow it through ``web``. Takes ``silence`` and some 4 s, at most 8.

    Raises ``StoreUnavailable`` if it cannot be written.
    """
    trial = Trial([Seen(way) for way in WAYS], silence)
    threads = [
        threading.Thread(target=_follow, args=(web, log.job_id, seen), name=seen.way.name, daemon=True)
        for seen in trial.seen
    ]
    for thread in threads:
        thread.start()
    _wait(HEADERS_S, lambda: all(seen.opened_at or seen.ended_at for seen in trial.seen))
    if all(seen.refused for seen in trial.seen):
        return trial

    def write() -> None:
        number = len(trial.written) + 1
        trial.written[number] = time.monotonic()
        log.line(f"probe line {number} of {LINES + 1}")

    for _ in range(LINES):
        write()
        time.sleep(GAP_S)
    until = time.monotonic() + silence
    while (left := until - time.monotonic()) > 0 and any(thread.is_alive() for thread in threads):
        log.keep_alive()
        _wait(min(left, ALIVE_S), lambda: not any(thread.is_alive() for thread in threads))
    write()
    trial.over_at = time.monotonic()
    log.end()
    _wait(END_S, lambda: not any(thread.is_alive() for thread in threads))
    return trial


def _wait(longest: float, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + longest
    while time.monotonic() < deadline and not done():
        time.sleep(0.02)


def _follow(web: Web, job_id: str, seen: Seen) -> None:
    seen.asked_at = time.monotonic()
    try:
        response = web.open(
            f"/jobs/{job_id}/log",
            {"format": seen.way.format},
            headers={"Accept-Encoding": seen.way.accept_encoding},
        )
        seen.opened_at = time.monotonic()
        seen.headers, seen.version = response.headers, response.version
        try:
            _read(response, seen)
        finally:
            response.close()
    except TailerError as error:
        seen.refused, seen.error = error, str(error)
    except (HTTPError, OSError) as error:
        seen.error = cause_of(error)
    except (zlib.error, zstandard.ZstdError, ValueError) as error:
        seen.error = f"what comes cannot be decompressed ({error})"
    seen.ended_at = time.monotonic()


def _read(response: urllib3.BaseHTTPResponse, seen: Seen) -> None:
    decompress = _decompressor(response.headers.get("Content-Encoding", "identity"))
    while piece := response.read1(PIECE, decode_content=False):
        now = seen.last_at = time.monotonic()
        known = max(0, len(seen.body) - 100)  # A line may have come in part.
        seen.body += decompress(piece)
        for match in _LINE.finditer(seen.body, known):
            seen.arrivals.setdefault(int(match[1]), now)
    seen.clean = True


def _decompressor(encoding: str) -> Callable[[bytes], bytes]:
    match encoding:
        case "identity":
            return bytes
        case "gzip" | "deflate":
            return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress
        case "zstd":
            return zstandard.ZstdDecompressor().decompressobj(read_across_frames=True).decompress
    raise ValueError(f"Content-Encoding: {encoding[:40]} was not asked for")
