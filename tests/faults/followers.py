"""Followers that lose nothing: each comes back from its cursor when its stream breaks, as good clients do.

Those of HTTP share one thread (`Crowd`), so that there may be hundreds of them; `tailer follow` is a process.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import threading
import time
from base64 import b64decode
from collections.abc import Sequence
from typing import Any, Self

from tailer.records import End, end_from_json
from tailer.store import Cursor
from tests.faults.account import Shape
from tests.faults.received import Received
from tests.processes import Running
from tests.swarm import Client, Swarm

COMES_BACK_S = 0.1
"""After how long a client asks again."""
STEP_S = 0.02
"""How often what has come is looked at."""
MISSING = re.compile(rb"\[tailer\] (\d+) bytes are missing here: (.*)")
EXITS = {"finished": 0, "failed": 1, "timeout": 1, "lost": 1, "stopped": 3, "killed": 128}


class Follower:
    """A client that follows a job over HTTP to its end, from its cursor again whenever its stream breaks.

    `received` is what it has got in all, `over` whether that is the whole log; `broken` tells how often a stream of
    it has ended before the log did. `refused` is an answer behind which a client does not come back.
    """

    form = ""

    def __init__(self, swarms: Sequence[Swarm], job_id: str, shape: Shape, buffer: int | None = None) -> None:
        self.received = Received(shape)
        self.over = False
        self.broken = 0
        self.refused: str | None = None
        self.stream: Client | None = None
        self.paused = False
        self._swarms = itertools.cycle(swarms)
        self._swarm = next(self._swarms)
        self._job_id = job_id
        self._buffer = buffer
        self._rest = b""
        self._next_try = 0.0
        self._lock = threading.Lock()  # its crowd's thread leads it, and the test interferes

    @property
    def at(self) -> int:
        """Where it is."""
        return self.received.at

    @property
    def done(self) -> bool:
        """Whether it will not come back."""
        return self.over or self.refused is not None

    def leave(self, how: str = "close") -> None:
        """Go away, and come back in a moment: see `tests.swarm.Client.leave`."""
        with self._lock:
            if self.stream:
                self.stream.leave(how)
                if how != "half":
                    self.stream.ended = self.stream.ended or "cut"

    def stall(self) -> None:
        """Read nothing more, without leaving."""
        with self._lock:
            self.paused = True
            if self.stream:
                self.stream.stop_reading()

    def go_on(self) -> None:
        """Read again."""
        with self._lock:
            self.paused = False
            if self.stream:
                self.stream.read_on()

    def request(self) -> tuple[str, tuple[str, ...]]:
        """The parameters and headers that lead to what it has not got yet."""
        return f"format={self.form}&offset=1:{self.at}", ()

    def step(self) -> None:
        """Take what has come, or come back. To be called every now and then."""
        with self._lock:
            if not self.done and not self.paused:
                self._step()

    def close(self) -> None:
        """End it for good."""
        with self._lock:
            self.refused = self.refused or "closed"
            self._drop()

    def parse(self, data: bytes) -> bytes:
        """Take what is complete in `data`; returns the rest."""
        raise NotImplementedError

    def record(self, record: dict[str, Any]) -> None:
        """Take a record of JSON: a line, a hole or the end."""
        if "outcome" in record:
            self.received.end = end_from_json(json.dumps(record))
            self.over = True
            return
        end = Cursor.parse(record["cursor"]).offset
        if "missing" in record:
            self.received.hole(record["missing"], record["cause"], end - record["missing"])
            return
        data = b64decode(record["base64"]) if "base64" in record else record["text"].encode()
        if not record.get("partial"):
            data += b"\n"
        self.received.data(data, record["stream"], end - len(data))

    def _step(self) -> None:
        if self.stream is None:
            if time.monotonic() >= self._next_try:
                self._connect()
            return
        ended = self.stream.ended  # before the look: an end may come with the last bytes
        if self.stream.status is None and not ended:
            return
        if self.stream.status == 200:
            piece = bytes(self.stream.data)
            del self.stream.data[: len(piece)]
            if piece:
                self._rest = self.parse(self._rest + piece)
            if ended == "end" and self.form == "text":
                self.received.data(self._rest)
                self.over = True
        elif self.stream.status not in {None, 503}:
            self.refused = f"{self.stream.status} {self.stream.text[:100]!r}"
        if ended or self.done or self.stream.status != 200:
            self._drop()

    def _connect(self) -> None:
        self._next_try = time.monotonic() + COMES_BACK_S
        parameters, headers = self.request()
        self._rest = b""
        self._swarm = next(self._swarms)
        with contextlib.suppress(OSError):
            self.stream = self._swarm.open(f"/jobs/{self._job_id}/log?{parameters}", *headers, buffer=self._buffer)

    def _drop(self) -> None:
        stream, self.stream = self.stream, None
        if stream:
            self._swarm.drop(stream)
            with contextlib.suppress(ValueError):
                self._swarm.clients.remove(stream)
            self.broken += not self.done
        self._next_try = time.monotonic() + COMES_BACK_S


class Text(Follower):
    """Counts the bytes that it has got. What Tailer adds is on lines of its own, of which the job's begin otherwise."""

    form = "text"

    def parse(self, data: bytes) -> bytes:
        """Take whole lines. One of the job's that a hole has cut short got its newline from Tailer."""
        *lines, rest = data.split(b"\n")
        for line, following in itertools.pairwise([*lines, None]):
            if match := MISSING.fullmatch(line):
                self.received.hole(int(match[1]), match[2].decode())
            elif line.startswith(b"[tailer] "):
                pass  # how it ended
            elif line.endswith((b";", b"\xff")):
                self.received.data(line + b"\n")
            elif following is None:
                return line + b"\n" + rest  # it depends on what follows
            else:
                self.received.data(line if MISSING.fullmatch(following) else line + b"\n")
        return rest


class Ndjson(Follower):
    """Takes the cursor of the last record."""

    form = "ndjson"

    def parse(self, data: bytes) -> bytes:
        """Take whole lines."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            if line:
                self.record(json.loads(line))
        return rest


class Events(Follower):
    """Takes server-sent events with JSON, and comes back with the last id, as an EventSource does."""

    form = "sse"

    def request(self) -> tuple[str, tuple[str, ...]]:
        """A `Last-Event-ID` once there is one."""
        headers = (f"Last-Event-ID: 1:{self.at}",) if self.at else ()
        return "format=sse&json=1", headers

    def parse(self, data: bytes) -> bytes:
        """Take whole events."""
        *events, rest = data.split(b"\n\n")
        for event in events:
            fields = dict(line.partition(b": ")[::2] for line in event.split(b"\n"))
            if fields.get(b"event", b"message") in {b"message", b"hole", b"end"} and b"data" in fields:
                self.record(json.loads(fields[b"data"]))
        return rest


FORMS: dict[str, type[Follower]] = {"text": Text, "sse": Events, "ndjson": Ndjson}


class Crowd:
    """Followers over HTTP, and the thread that leads them, for as long as the block lasts.

    With several URLs each follower comes to one after the other. `step` is how often they are led, in seconds.
    """

    def __init__(self, *urls: str, step: float = STEP_S) -> None:
        self._swarms = [Swarm(url) for url in urls]
        self._step = step
        self.followers: list[Follower] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        for swarm in self._swarms:
            swarm.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)
        for swarm in self._swarms:
            swarm.__exit__()

    def follow(self, job_id: str, form: str, shape: Shape, buffer: int | None = None) -> Follower:
        """Send another follower."""
        # Those who come one after the other begin at different URLs.
        self._swarms.append(self._swarms.pop(0))
        follower = FORMS[form](self._swarms, job_id, shape, buffer)
        self.followers.append(follower)
        return follower

    def _run(self) -> None:
        while not self._over.wait(self._step):
            for follower in list(self.followers):
                try:
                    follower.step()
                except Exception as error:  # noqa: BLE001 -- its trial looks at it, and the others go on
                    follower.refused = f"{error!r} of {follower.stream and follower.stream.text[:200]!r}"


class Command:
    """A `tailer follow`. What it has got is known from its output; `code` is its exit code."""

    def __init__(self, process: Running, shape: Shape, form: str) -> None:
        self.form = form
        self.process = process
        self._shape = shape
        self.refused: str | None = None

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    @property
    def over(self) -> bool:
        """Whether it has ended, other than by a trouble of its own."""
        return self.done and self.process.wait() != 2

    @property
    def at(self) -> int:
        """Where it is."""
        return self.process.stdout_size() + sum(length for length, _ in self._holes())

    @property
    def broken(self) -> int:
        """How often its connection broke."""
        return self.process.stderr().count(b"the connection broke")

    @property
    def received(self) -> Received:
        """What it has got; where in it the holes are, it does not tell apart."""
        received = Received(self._shape)
        received.data(self.process.stdout())
        for length, cause in self._holes():
            received.hole(length, cause)
        return received

    def agrees_with(self, end: End) -> bool:
        """Whether its exit code says how the job ended."""
        expected = EXITS[end.outcome]
        return self.process.wait() == (128 + (end.signal or 0) if expected == 128 else expected)

    def _holes(self) -> list[tuple[int, str]]:
        return [(int(length), cause.decode()) for length, cause in MISSING.findall(self.process.stderr())]
