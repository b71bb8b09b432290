"""Redaction as its users run it: real workers and a Redis in which, whatever a job prints, no secret is ever found."""

import base64
import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tailer.records import SYSTEM, Chunk, decode
from tests.processes import running
from tests.stack import BIN, ROOT, Stack, clean
from tests.test_worker import CLASSES
from tests.waiting import wait_until
from worker.redact import spellings

SECRET = "s3cr3t/pass+word é"
REDACT = {"SECRET": SECRET, "TAILER_REDACT": "SECRET"}
FORMS = sorted(spellings(SECRET.encode()))


class Overheard:
    """Everything that is in the Redis, in any key, and that was published."""

    def __init__(self, url: str) -> None:
        self.connection = redis.Redis.from_url(url)
        self.pubsub = self.connection.pubsub(ignore_subscribe_messages=True)
        self.pubsub.psubscribe("*")
        self.pubsub.get_message(timeout=5)

    def published(self) -> Iterator[bytes]:
        """All messages until now, their records unpacked."""
        while message := self.pubsub.get_message():
            yield message["data"]
            element = message["data"].split(b" ", 2)[-1]
            yield unpacked(element)

    def stored(self) -> Iterator[bytes]:
        """All values of all keys, and the keys."""
        for key in self.connection.scan_iter():
            yield key
            kind = self.connection.type(key)
            if kind == b"string":
                yield self.connection.get(key)
            elif kind == b"hash":
                yield from (word for pair in self.connection.hgetall(key).items() for word in pair)
            elif kind == b"list":
                for element in self.connection.lrange(key, 0, -1):
                    yield element
                    yield unpacked(element)
            elif kind == b"set":
                yield from self.connection.smembers(key)
            elif kind == b"zset":
                yield from self.connection.zrange(key, 0, -1)

    def everything(self) -> bytes:
        """All of it in one piece."""
        return b"\0".join([*self.stored(), *self.published()])

    def close(self) -> None:
        """Give the connections back."""
        self.pubsub.close()
        self.connection.close()


def unpacked(element: bytes) -> bytes:
    """The output in a list element, if it is one of output."""
    with contextlib.suppress(Exception):
        record = decode(element)
        return record.data if isinstance(record, Chunk) else element
    return b""


@pytest.fixture
def overheard(server):
    """All that gets to be in the test's own Redis."""
    ears = Overheard(server.url)
    yield ears
    ears.close()


def leaked(text: bytes) -> list[bytes]:
    """Those spellings of the secret that are in a text."""
    return [form for form in FORMS if form in text]


def what_leak_writes() -> bytes:
    """What the log must have of the job `leak`, for each of its streams."""
    encoded = b""
    for before in (b"", b"a", b"ab"):
        whole = base64.b64encode(before + SECRET.encode() + b"xyz")
        hidden = max((form for form in FORMS if form in whole), key=len)
        encoded += b"base64 " + whole.replace(hidden, b"***") + b"\n"
    return b"bytes ***\nhalves ***\n" + encoded + b'url *** json "***"\ntwice ******\nthe end\n'


@pytest.mark.parametrize("mode", ["separate", "merged", "pty"])
@pytest.mark.parametrize("worker_class", CLASSES)
def test_no_secret_gets_out(server, overheard, worker_class, mode):
    """However a job writes a secret, it is in no key and message of Redis and not on the console; all else is."""
    with Stack.without_web(server.url) as stack:
        queue = stack.queue()
        job = queue.enqueue("tests.jobs.leak")
        shown = stack.work(queue, worker_class=worker_class, env={**REDACT, "TAILER_CAPTURE": mode})
        log = stack.log(job.id)

    told = overheard.everything()
    assert b"the end" in told
    assert leaked(told) == []
    assert leaked(shown.encode()) == []
    assert "***" in shown
    one = what_leak_writes()
    if mode == "separate":
        assert (log.stdout, log.stderr) == (one, one)
    else:
        assert log.data() == one + one
    assert (log.end.bytes, log.end.lines) == (len(log.data()), log.data().count(b"\n"))


def test_halves_that_come_long_after_one_another(server, overheard):
    """The first half of a secret waits for the second one, though a partial line ships after 100 ms."""
    with Stack.without_web(server.url) as stack:
        queue = stack.queue()
        job = queue.enqueue("tests.jobs.leak", 0.3)
        with stack.worker(queue, env=REDACT):
            assert SECRET[:9].encode() not in stack.wait_for_output(job.id, b"halves ").data()
            stack.wait_for(job, "finished")
            log = stack.log(job.id)
    assert leaked(overheard.everything()) == []
    assert log.stdout == what_leak_writes()


def test_patterns_and_literals(server, overheard):
    """A pattern's matches and a literal's places are masked, wherever they are in a line."""
    entries = r"/by\w+/ =pass+word /\bs3\S{3}/"
    with Stack.without_web(server.url) as stack:
        queue = stack.queue()
        job = queue.enqueue("tests.jobs.leak")
        stack.work(queue, env={"SECRET": SECRET, "TAILER_REDACT": entries})
        log = stack.log(job.id)
    assert log.stdout.startswith("*** ***t/*** é\nhalves ***t/*** é\n".encode())
    assert b"pass+word" not in overheard.everything()


@pytest.mark.parametrize("worker_class", CLASSES)
def test_a_failure_does_not_tell(server, worker_class):
    """A secret in an exception's message is in the log neither with its traceback nor as the reason for the end."""
    with Stack.without_web(server.url) as stack:
        queue = stack.queue()
        job = queue.enqueue("tests.jobs.betray", description=f"betray({SECRET!r})")
        stack.work(queue, worker_class=worker_class, env=REDACT)
        log = stack.log(job.id)
        ends = b"".join(stack.connection.hgetall(f"tailer:{{{job.id}}}").values())
    assert log.end.outcome == "failed"
    assert log.end.reason == f"ValueError: {'x' * 470}***"
    assert log.about.description == "betray('***')"
    assert b"x" * 470 + b"***\n" in log.stderr
    assert SECRET[:9].encode() not in log.stderr + ends


@pytest.mark.parametrize("worker_class", CLASSES)
def test_a_job_registers_a_mask(server, worker_class, tmp_path):
    """What a job registers is masked on both its streams, in the very line that registers it too."""
    path = tmp_path / "go"
    path.touch()
    with Stack.without_web(server.url) as stack:
        queue = stack.queue()
        job = queue.enqueue("tests.jobs.register", "registered", str(path), description="none")
        shown = stack.work(queue, worker_class=worker_class)
        log = stack.log(job.id)
    assert log.stdout == b"::add-mask::***\n*** masked\n*** again\n"
    assert log.stderr == b"*** as error\n"
    assert log.end.sha256
    assert "registered" not in shown


def test_a_mask_that_comes_late(server, tmp_path):
    """Where output is stored already when its value is registered, a line of Tailer's own says so, in every format."""
    path = tmp_path / "go"
    with Stack.on(server.url) as stack:
        queue = stack.queue()
        job = queue.enqueue("tests.jobs.register_late", "too-late", str(path))
        with stack.follow(job.id) as clients, stack.worker(queue, "--burst"):
            stack.wait_for_output(job.id, b"early too-late\n")
            path.touch()
            log = stack.log(job.id)
            note = b"[tailer] a value is masked from here on; what was stored before this line may show it\n"
            assert log.data() == b"early too-late\n" + note + b"::add-mask::***\nlate ***\n"
            assert log.data(SYSTEM) == note
            assert (log.end.bytes, log.end.lines) == (len(log.data()), 4)
            assert clients.text() == log.data()
            assert [r["text"] for r in clients.records() if r.get("stream") == SYSTEM] == [note.decode().rstrip("\n")]
        assert stack.get(f"/jobs/{job.id}/log?stderr=1&ansi=strip").body == note


@pytest.mark.parametrize("worker_class", ["worker.Worker", "worker.SpawnWorker"])
def test_a_worker_that_is_killed_between_the_halves(server, overheard, worker_class, tmp_path):
    """What a killed worker held of a secret is lost; its second half, which the horse stores, is masked."""
    path = tmp_path / "go"
    with Stack.without_web(server.url) as stack:
        queue = stack.queue()
        job = queue.enqueue("tests.jobs.tear", str(path))
        with stack.worker(queue, worker_class=worker_class, env=REDACT) as process:
            wait_until(Path(f"{path}.torn").exists, 20)
            stack.wait_for_output(job.id, b"begin")
            process.signal(signal.SIGKILL)
            process.wait()
            path.touch()
            stack.wait_for(job, "finished")
            log = stack.log(job.id)
    assert log.data() == b"begin***\n***\nthe end\n"
    assert [hole.length for hole in log.holes] == [10]
    assert leaked(overheard.everything()) == []


@pytest.mark.parametrize("worker_class", ["worker.Worker", "worker.SpawnWorker"])
def test_a_registered_mask_outlives_its_worker(server, worker_class, tmp_path):
    """The horse of a killed worker masks what its job had registered before."""
    path = tmp_path / "go"
    with Stack.without_web(server.url) as stack:
        queue = stack.queue()
        job = queue.enqueue("tests.jobs.register", "registered", str(path))
        with stack.worker(queue, worker_class=worker_class) as process:
            stack.wait_for_output(job.id, b"*** masked\n")
            process.signal(signal.SIGKILL)
            process.wait()
            path.touch()
            stack.wait_for(job, "finished")
            log = stack.log(job.id)
    assert log.stdout == b"::add-mask::***\n*** masked\n*** again\n"
    assert log.stderr == b"*** as error\n"
    assert log.end.lines == 4


@pytest.mark.parametrize(
    ("entries", "objection"),
    [
        ("hunter2hunter2", "entry 1 is neither a variable that is set, nor =VALUE, nor /PATTERN/"),
        ("=hunter2hunter2 =abc", "what entry 2 stands for must have 4 bytes or more"),
        ("/(hunter2/", "one of its patterns is none that RE2 takes"),
        ("/(hunter2)?/", "one of its patterns matches the empty text"),
    ],
)
def test_a_bad_setting_stops_the_worker_without_telling(server, entries, objection):
    """A worker that cannot mask what it is told to does not start, and says why without a word of it."""
    argv = clean([str(BIN / "rq"), "worker", "-u", server.url, "-w", "worker.Worker"], {})
    with running(argv, cwd=ROOT, env={"TAILER_REDACT": entries}) as process:
        assert process.wait(20) != 0
        assert f"TAILER_REDACT='…' cannot be used: {objection}" in process.text()
        assert "hunter" not in process.text()


@pytest.mark.parametrize("worker_class", CLASSES)
def test_a_daemon_does_not_tell(stack: Stack, worker_class: str, tmp_path: Path):
    """What a job has left running prints after its end goes to the console only, and is masked there too."""
    queue, path = stack.queue(), tmp_path / "go"
    job = queue.enqueue("tests.jobs.leave_a_telltale", str(path))
    with stack.worker(queue, worker_class=worker_class, env=REDACT) as process:
        log = stack.log(job.id)
        path.touch()
        wait_until(lambda: "*** from the daemon" in process.text(), 20)
        assert "***, registered" in process.text()
        assert leaked(process.text().encode()) == []
    assert log.stdout == b"::add-mask::***\n"
