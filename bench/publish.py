"""Publishes lines at an even pace: ``python -m bench.publish KIND PORT JOBS RATE SECONDS [LINES]``.

Every job gets RATE messages a second, of LINES lines (1) of 100 bytes each. Jobs take turns, so that the lines of all
are spread evenly over time. Each line begins with the token that ``load.c`` looks for. Prints "started", and at the
end JSON: the lines per job, and by how many ms a message was late at most.

Kinds: ``tailer`` appends as Tailer's workers do; ``rpush`` to a plain Redis list; ``flask_sse`` publishes as flask-sse
does; ``nchan`` and ``nchan_events`` post to nginx, with and without the newline at the end of a message.
"""

from __future__ import annotations

import gc
import json
import select
import socket
import sys
import time

import redis

from tailer import scripts
from tailer.store import list_key, meta_key, tail_key, wake_channel

LINE = 100
SLICE_S = 0.005
"""Messages that are due within a slice are sent together."""
PATIENCE_S = 3.0
"""How long the last answer may take."""
WORKERS = 100
"""Connections that publish, at most: a job's messages all take the same one, as they do from its worker.

With as many, none has more than a message on its way in most slices, which is how clients of HTTP and Redis work.
"""
CHUNK = b"o %d %d %d %d %d -\n"
"""The header of a record, see ``tailer.records``."""


def job_name(number: int) -> str:
    """Return the id of a job of the benchmarks."""
    return f"job-{number}"


def lines(first: int, count: int) -> bytes:
    """Return ``count`` lines, numbered from ``first``."""
    now = time.time_ns()
    return b"".join([(b"@@%d:%d@ " % (now, first + n)).ljust(LINE - 1, b"x") + b"\n" for n in range(count)])


class Kind:
    """How messages of one kind are packed; what comes back is counted by ``good`` and must not hold ``bad``."""

    good, bad = b"\r\n", b"-"

    def __init__(self, port: int) -> None:
        self.port = port

    def pack(self, job: int, first: int, count: int) -> bytes:
        """Return the bytes that publish the lines from ``first`` on."""
        raise NotImplementedError


def command(*words: bytes) -> bytes:
    """Return a Redis command."""
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


class Tailer(Kind):
    """One chunk an append, by the script of ``LogStore.append`` with its arguments."""

    good = b"$"

    def __init__(self, port: int) -> None:
        super().__init__(port)
        with redis.Redis(port=port) as connection:
            self.script = connection.script_load(scripts.APPEND).encode()
        self.ttl = b"%d" % (7 * 24 * 3600 * 1000)

    def pack(self, job: int, first: int, count: int) -> bytes:
        """Pack as ``Kind``."""
        data = lines(first, count)
        offset = first * LINE
        element = CHUNK % (time.time_ns() // 1_000_000, offset, len(data), first + 1, count) + data
        keys = [
            name.encode() for name in (meta_key(job_name(job)), list_key(job_name(job), 1), tail_key(job_name(job), 1))
        ]
        channel, limit = wake_channel(job_name(job)).encode(), b"%d" % (1 << 40)
        numbers = (b"%d" % offset, b"%d" % (offset + len(data)), b"%d" % (first + count))
        fixed = (b"EVALSHA", self.script, b"3", *keys, b"1")
        return command(*fixed, *numbers, self.ttl, channel, limit, limit, element)


class Rpush(Kind):
    """A list of lines, as in every tutorial."""

    good = b":"

    def pack(self, job: int, first: int, count: int) -> bytes:
        """Pack as ``Kind``."""
        return command(b"RPUSH", job_name(job).encode(), *lines(first, count).splitlines())


class FlaskSse(Kind):
    """Flask-SSE's message."""

    good = b":"

    def pack(self, job: int, first: int, count: int) -> bytes:
        """Pack as ``Kind``."""
        data = lines(first, count).decode().rstrip("\n")
        return command(b"PUBLISH", job_name(job).encode(), json.dumps({"data": data}).encode())


class Nchan(Kind):
    """POST requests; a connection waits for no answer before it sends the next one, should there be one."""

    good, bad = b"HTTP/1.1 20", b"HTTP/1.1 5"
    end = b"\n"

    def pack(self, job: int, first: int, count: int) -> bytes:
        """Pack as ``Kind``."""
        data = lines(first, count)[:-1] + self.end
        head = b"POST /publish/%b HTTP/1.1\r\nHost: bench\r\nAccept: text/json\r\nContent-Length: %d\r\n\r\n"
        return head % (job_name(job).encode(), len(data)) + data


class NchanEvents(Nchan):
    """The same for followers that take events: nchan gives each line of a message a ``data:`` of its own."""

    end = b""


KINDS = {"tailer": Tailer, "rpush": Rpush, "flask_sse": FlaskSse, "nchan": Nchan, "nchan_events": NchanEvents}


class Connection:
    """Sends without waiting for the answers, and counts those."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.socket = socket.create_connection(("127.0.0.1", kind.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answers = 0
        self.rest = b""
        self.waiting: list[bytes] = []

    def flush(self) -> None:
        """Send what waits."""
        if self.waiting:
            self.socket.sendall(b"".join(self.waiting))
            self.waiting.clear()

    def read(self) -> None:
        """Count the answers that have come; raises ``RuntimeError`` at a refusal."""
        try:
            data = self.socket.recv(1 << 20, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if not data:
            raise RuntimeError("the server closed the connection")
        data = self.rest + data
        self.answers += data.count(self.kind.good)
        # The last line may be cut off in the middle of what is counted.
        keep = len(data) - data.rfind(b"\r\n") - 2 if b"\r\n" in data else len(data)
        self.rest = data[len(data) - keep :] if keep else b""
        self.answers -= self.rest.count(self.kind.good)
        if data.startswith(self.kind.bad) or b"\n" + self.kind.bad in data:
            raise RuntimeError(repr(data[:200]))


def publish(kind: Kind, jobs: int, rate: float, seconds: float, count: int) -> tuple[int, float]:
    """Publish; returns the messages per job, and the greatest delay in ms.

    All of them have been answered by then, unless the server is slower than that.
    """
    connections = [Connection(kind) for _ in range(min(jobs, WORKERS))]
    poller = select.epoll()
    for connection in connections:
        poller.register(connection.socket, select.EPOLLIN)
    by_fd = {connection.socket.fileno(): connection for connection in connections}
    messages = round(rate * seconds)
    pause = 1 / rate / jobs
    late, sent = 0.0, 0
    began = time.perf_counter()
    while sent < messages * jobs:
        now = time.perf_counter() - began
        due = min(int(now / pause) + 1, messages * jobs)
        late = max(late, now - sent * pause)
        for number in range(sent, due):
            turn, job = divmod(number, jobs)
            connections[job % len(connections)].waiting.append(kind.pack(job, turn * count, count))
        sent = due
        for connection in connections:
            connection.flush()
        for fd, _ in poller.poll(0):
            by_fd[fd].read()
        wake = max((int((time.perf_counter() - began) / SLICE_S) + 1) * SLICE_S, sent * pause)
        time.sleep(max(0.0, began + wake - time.perf_counter()))
    deadline = time.perf_counter() + PATIENCE_S
    while sum(one.answers for one in connections) < messages * jobs and time.perf_counter() < deadline:
        for connection in connections:
            connection.read()
        time.sleep(SLICE_S)
    return messages, late * 1000


def main(name: str, port: str, jobs: str, rate: str, seconds: str, count: str = "1") -> None:
    """Publish what the command line asks for."""
    kind = KINDS[name](int(port))
    gc.disable()
    print("started", flush=True)
    messages, late = publish(kind, int(jobs), float(rate), float(seconds), int(count))
    print(json.dumps({"lines": messages * int(count), "late": late}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
