r"""The whole of Tailer as its users run it: a Redis, web processes, workers and clients, each a real process.

The fixture `stack` (tests/conftest.py) is a server and a web process that all tests of a run share. A test takes a
queue of its own, starts the workers it needs, and follows its jobs with curl or reads their logs from the store::

    def test_it(stack):
        queue = stack.queue()
        job = queue.enqueue("tests.jobs.hello")
        with stack.follow(job.id) as clients:
            stack.work(queue)
            assert clients.text() == b"hello\n"
        assert stack.log(job.id).end.outcome == "finished"

A test that stops or fills the server asks for `server` instead and makes a stack of its own:
`with Stack.on(server.url) as stack`, or `Stack.without_web` if nobody follows by HTTP.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import redis
import rq

from tailer.records import STDERR, STDOUT, Attempt, Chunk, End, Hole, Record
from tailer.store import Cursor, LogStore, connect
from tests.processes import Running, free_port, running
from tests.waiting import wait_until

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
FORMATS = ("text", "sse", "ndjson")
COMMANDS: dict[str, list[str]] = {
    "rq worker": [str(BIN / "rq"), "worker"],
    "rq worker-pool": [str(BIN / "rq"), "worker-pool"],
    "python -m worker": [sys.executable, "-m", "worker"],
}
_MEDDLING = ("COLUMNS", "DYNO", "FORCE_COLOR", "PORT", "PYTHONUNBUFFERED", "REDIS_URL", "WEB_CONCURRENCY")


def clean(argv: Sequence[str], env: Mapping[str, str] | None = None) -> list[str]:
    """The command, to be run without those of this process's variables that would change Tailer or a job.

    `env` are the variables that it is to be given; they stay.
    """
    meddling = [name for name in os.environ if name in _MEDDLING or name.startswith(("TAILER_", "RQ_"))]
    names = [name for name in meddling if name not in (env or {})]
    return ["env", *(word for name in names for word in ("-u", name)), *argv]


@contextlib.contextmanager
def worker_process(
    url: str,
    *arguments: str,
    command: str = "rq worker",
    worker_class: str | None = "worker.Worker",
    env: Mapping[str, str] | None = None,
    wrapper: Sequence[str] = (),
    ready: bool = False,
) -> Iterator[Running]:
    """Run a worker on the Redis at `url` for the block. `arguments` are its options and queues.

    `command` is one of COMMANDS; a `worker_class` of None leaves the class to it. `wrapper` is a command that ends
    with running the one behind it. `ready` waits until the worker listens, which it says at the default log level
    only; without it a job is not lost either, only taken later.
    """
    chosen = ["-w", worker_class] if worker_class else []
    places = {"REDIS_URL": url} if command == "python -m worker" else {}
    options = [] if places else ["-u", url]
    env = {**places, **(env or {})}
    argv = clean([*wrapper, *COMMANDS[command], *options, *chosen, *arguments], env)
    with running(argv, cwd=ROOT, env=env, ready="*** Listening on" if ready else None) as process:
        yield process


def children(pid: int) -> list[int]:
    """The processes that this one has started and that are still there, a worker's horse for instance."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if int(stat.read_bytes().rpartition(b")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return sorted(found)


def watching_its_horse(pid: int) -> None:
    """Return when this worker waits for its work horse; only Linux tells.

    A signal that comes just before that is seen at RQ's next heartbeat, 30 s later: CPython runs handlers between
    bytecodes, and wait4 does not return for a signal that was there before.
    """
    where = Path(f"/proc/{pid}/wchan")
    with contextlib.suppress(AssertionError):  # A kernel may keep it to itself.
        wait_until(lambda: not where.exists() or where.read_text() == "do_wait", 2)


@contextlib.contextmanager
def web_process(url: str, *arguments: str, env: Mapping[str, str] | None = None) -> Iterator[tuple[str, Running]]:
    """Run the Procfile's web command on the Redis at `url` for the block; yields the URL to ask and the process.

    `arguments` are more options of gunicorn.
    """
    address = f"127.0.0.1:{free_port()}"
    env = {"REDIS_URL": url, **(env or {})}
    argv = clean([str(BIN / "gunicorn"), "-b", address, *arguments, "wsgi:app"], env)
    with running(argv, cwd=ROOT, env=env, ready="Booting worker") as process:
        yield f"http://{address}", process


@contextlib.contextmanager
def curl(url: str, *arguments: str) -> Iterator[Client]:
    """Run `curl -N` on a URL for the block. `arguments` are more options."""
    # -v tells of headers when they come; -i and -D keep them back until there is a body.
    with running(["curl", "-sS", "-N", "-v", *arguments, url]) as process:
        yield Client(process)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer."""

    status: int
    head: str
    body: bytes

    @property
    def json(self) -> Any:
        """Its body, where that is JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Event:
    """A server-sent event. `data` is what its data lines say, joined by newlines; `name` is "" for unnamed ones."""

    name: str
    data: str
    id: str | None = None

    @property
    def json(self) -> Any:
        """Its data, where that is JSON."""
        return json.loads(self.data)


class Client:
    """A curl that reads a stream: what it has received so far, or, after `wait`, in all."""

    def __init__(self, process: Running) -> None:
        self._process = process

    @property
    def head(self) -> str:
        """Status line and headers of the answer; empty until they are all here."""
        lines = self._process.stderr().decode(errors="replace").split("\n")[:-1]  # curl may be writing the last one
        head = [line[2:].rstrip("\r") for line in lines if line.startswith("<")]
        return "\n".join(head) if "" in head else ""

    @property
    def status(self) -> int:
        """The HTTP status, 0 until it is here."""
        head = self.head
        return int(head.split()[1]) if head else 0

    @property
    def body(self) -> bytes:
        """The bytes received so far."""
        return self._process.stdout()

    @property
    def events(self) -> list[Event]:
        """The body as server-sent events, those that are complete."""
        return parse_events(self.body)

    @property
    def records(self) -> list[dict[str, Any]]:
        """The body as NDJSON records, those that are complete."""
        return [json.loads(line) for line in self.body.split(b"\n")[:-1] if line]

    def connected(self) -> Self:
        """Return when the headers are here."""
        wait_until(lambda: self.status or self._process.poll() is not None, 20, "headers of the answer")
        return self

    def wait(self, timeout: float = 30) -> int:
        """Return curl's exit code when it has ended, 0 for a complete answer; AssertionError after the seconds."""
        return self._process.wait(timeout)


def parse_events(body: bytes) -> list[Event]:
    """The complete events of an event stream (WHATWG HTML, section 9.2.6); `retry:` and comments are left out."""
    events = []
    for block in body.decode(errors="replace").split("\n\n")[:-1]:
        fields = [line.partition(": ")[::2] for line in block.split("\n")]
        named = dict(fields)
        data = [value for name, value in fields if name == "data"]
        if data:
            events.append(Event(named.get("event", ""), "\n".join(data), named.get("id")))
    return events


class Clients:
    """One client for each format, on the same job."""

    def __init__(self, clients: Mapping[str, Client]) -> None:
        self._clients = clients

    def __getitem__(self, name: str) -> Client:
        """The client of that format."""
        return self._clients[name]

    def wait(self, timeout: float = 30) -> dict[str, int]:
        """Return each curl's exit code when all have ended."""
        return {name: client.wait(timeout) for name, client in self._clients.items()}

    def text(self, timeout: float = 30) -> bytes:
        """What the text client received, when its stream has ended well."""
        assert self["text"].wait(timeout) == 0
        return self["text"].body

    def events(self, timeout: float = 30) -> list[Event]:
        """What the SSE client received, when its stream has ended well."""
        assert self["sse"].wait(timeout) == 0
        return self["sse"].events

    def records(self, timeout: float = 30) -> list[dict[str, Any]]:
        """What the NDJSON client received, when its stream has ended well."""
        assert self["ndjson"].wait(timeout) == 0
        return self["ndjson"].records


@dataclass(frozen=True, slots=True)
class Log:
    """One attempt's log as the store has it."""

    records: list[Record]

    def data(self, stream: str | None = None) -> bytes:
        """The job's bytes, of one stream or of both in the order of their arrival."""
        chunks = [record for record in self.records if isinstance(record, Chunk)]
        return b"".join(chunk.data for chunk in chunks if stream in {None, chunk.stream})

    @property
    def stdout(self) -> bytes:
        """What the job wrote to standard output."""
        return self.data(STDOUT)

    @property
    def stderr(self) -> bytes:
        """What the job wrote to standard error."""
        return self.data(STDERR)

    @property
    def holes(self) -> list[Hole]:
        """What is missing, and why."""
        return [record for record in self.records if isinstance(record, Hole)]

    @property
    def about(self) -> Attempt:
        """The attempt record."""
        first = self.records[0]
        assert isinstance(first, Attempt), self.records
        return first

    @property
    def end(self) -> End:
        """The end record; AssertionError if there is none."""
        last = self.records[-1] if self.records else None
        assert isinstance(last, End), self.records[-3:]
        return last


def read_log(store: LogStore, job_id: str, attempt: int = 1, *, ended: bool = True, timeout: float = 20) -> Log:
    """The log of one attempt; with `ended`, as soon as its end record is there."""

    def has_ended() -> bool:
        summary = store.summary(job_id)
        here = summary.attempt(attempt) if summary else None
        return here is not None and here.end is not None

    if ended:
        wait_until(has_ended, timeout, f"end record of {job_id}, attempt {attempt}")
    reader, records = store.reader(job_id, Cursor(attempt)), list[Record]()
    while more := reader.read():
        records += more
    return Log(records)


@dataclass(frozen=True)
class Stack:
    """A Redis at `url` that RQ and the logs share, and a web side at `web` that serves them, "" where there is none."""

    url: str
    web: str
    connection: redis.Redis
    store: LogStore

    @classmethod
    @contextlib.contextmanager
    def on(cls, url: str, *, logs: str | None = None, env: Mapping[str, str] | None = None) -> Iterator[Self]:
        """Put a web process before the Redis at `url` for the block; the logs may be in another one."""
        places = {"TAILER_REDIS_URL": logs} if logs else {}
        with (
            web_process(url, env={**places, **(env or {})}) as (web, _),
            cls.without_web(url, logs=logs) as bare,
        ):
            yield replace(bare, web=web)

    @classmethod
    @contextlib.contextmanager
    def without_web(cls, url: str, *, logs: str | None = None) -> Iterator[Self]:
        """The same for tests that ask no web side: nothing is started."""
        with connect(url) as connection, connect(logs or url) as log_connection:
            yield cls(url, "", connection, LogStore(log_connection))

    def queue(self, **options: Any) -> rq.Queue:
        """A queue that no other test uses."""
        return rq.Queue(f"q-{uuid.uuid4().hex[:12]}", connection=self.connection, **options)

    def worker(self, queue: rq.Queue, *arguments: str, **options: Any) -> contextlib.AbstractContextManager[Running]:
        """Run a worker on the queue for the block: see `worker_process`."""
        return worker_process(self.url, *arguments, queue.name, **options)

    def work(self, queue: rq.Queue, *arguments: str, timeout: float = 30, **options: Any) -> str:
        """Run a worker until the queue is empty and its jobs have ended; returns what it wrote to its console."""
        with self.worker(queue, "--burst", *arguments, **options) as process:
            assert process.wait(timeout) == 0, process.text()
            return process.text()

    def status(self, job: rq.job.Job) -> str:
        """RQ's status of a job at this moment."""
        return str(job.get_status(refresh=True).value)

    def wait_for(self, job: rq.job.Job, *statuses: str, timeout: float = 20) -> str:
        """Return the job's status when it is one of these."""
        return wait_until(lambda: (now := self.status(job)) in statuses and now, timeout, f"{job.id} {statuses}")

    def log(self, job_id: str, attempt: int = 1, *, ended: bool = True, timeout: float = 20) -> Log:
        """The log of one attempt: see `read_log`."""
        return read_log(self.store, job_id, attempt, ended=ended, timeout=timeout)

    def wait_for_output(self, job_id: str, wanted: bytes, attempt: int = 1, *, timeout: float = 20) -> Log:
        """The log as it is when these bytes are in it."""
        found: list[Log] = []

        def look() -> bool:
            found[:] = [self.log(job_id, attempt, ended=False)]
            return wanted in found[0].data()

        wait_until(look, timeout, f"{wanted!r} in the log of {job_id}")
        return found[0]

    def path(self, job_id: str, query: str = "") -> str:
        """The URL of a job's log."""
        return f"{self.web}/jobs/{job_id}/log{'?' if query else ''}{query}"

    @contextlib.contextmanager
    def follow(
        self, job_id: str, query: str = "", *, formats: Sequence[str] = FORMATS, connected: bool = True
    ) -> Iterator[Clients]:
        """Run one curl for each format on a job's log for the block, which begins when they are connected.

        `query` are more parameters, such as `tail=5&attempt=1`.
        """
        with contextlib.ExitStack() as held:
            clients = {
                name: held.enter_context(curl(self.path(job_id, f"format={name}{'&' if query else ''}{query}")))
                for name in formats
            }
            for client in clients.values() if connected else ():
                client.connected()
            yield Clients(clients)

    def get(self, path: str, *arguments: str) -> Answer:
        """Ask the web side with curl, and return the whole answer; for what ends by itself."""
        with curl(self.web + path, *arguments) as client:
            assert client.wait() == 0
            return Answer(client.status, client.head, client.body)
