"""Real jobs, workers, web process and curl: what each client receives is what the job wrote, byte for byte."""

import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from dataclasses import dataclass

import pytest
from rq.job import Job

from tailer.records import End
from tests.processes import free_port, running
from tests.stack import parse_events
from tests.waiting import wait_until

MAKEFILE = """\
OBJECTS = main.o list.o tree.o
program: $(OBJECTS)
\t$(CC) -o $@ $(OBJECTS)
%.o: %.c
\t$(CC) $(CFLAGS) -c -o $@ $<
"""
C_FILE = """\
#include <stdio.h>
static int unused_%(name)s(int left, unsigned right) { return left < right; }
int %(name)s(int argc, char **argv) { int uninitialised; printf("%%d", argv); return uninitialised; }
"""


@dataclass(frozen=True)
class Followed:
    """A job that has ended, and the text that its clients received."""

    end: End
    text: bytes


class Rebuilder:
    """Puts a job's bytes together again from JSON records; the same records, of another client, only once."""

    def __init__(self) -> None:
        self._known = {}

    def streams(self, lines):
        """The bytes of each stream, and of `both` in their order, that these records stand for."""
        digest = hashlib.sha256(b"\n".join(lines)).digest()
        if digest not in self._known:
            self._known[digest] = self._rebuild(lines)
        return self._known[digest]

    def _rebuild(self, lines):
        pieces = {"stdout": [], "stderr": [], "both": []}
        for record in map(json.loads, lines):
            data = base64.b64decode(record["base64"]) if "base64" in record else record["text"].encode()
            if not record.get("partial"):
                data += b"\n"
            pieces[record["stream"]].append(data)
            pieces["both"].append(data)
        return {stream: b"".join(parts) for stream, parts in pieces.items()}


def records(client):
    """The JSON of a client's records, and its end record: of one that asked for NDJSON, or for events with json=1."""
    if "text/event-stream" in client.head:
        *_, last = parse_events(client.body[client.body.rindex(b"event: end\n") :])
        assert b"event: hole" not in client.body
        return re.findall(rb"(?<=\n\n)id: [0-9:]+\ndata: (.*)(?=\n\n)", client.body), last.json
    *lines, last = [line for line in client.body.splitlines() if line]
    return lines, json.loads(last)


def sha256(data):
    """What byte strings are compared by: to print a difference of megabytes would take pytest minutes."""
    return len(data), hashlib.sha256(data).hexdigest()


def check(clients, when, written, end, rebuilder):
    """Assert that each of the three clients received what was written, and the end of it."""
    assert clients.wait(60) == {"text": 0, "sse": 0, "ndjson": 0}, when
    assert sha256(clients["text"].body) == (end.bytes, end.sha256), f"text, connected {when}"
    for form in ("sse", "ndjson"):
        lines, last = records(clients[form])
        streams = rebuilder.streams(lines)
        assert sha256(streams["both"]) == (end.bytes, end.sha256), f"{form}, connected {when}"
        assert (last["outcome"], last["bytes"], last["sha256"]) == ("finished", end.bytes, end.sha256)
        for stream, data in written.items():
            assert sha256(streams[stream]) == sha256(data), f"{stream} in {form}, connected {when}"


@contextlib.contextmanager
def followed(stack, place, function, *arguments, capture="separate", worker_class="worker.Worker", known=True, live):
    """Run a job of tests.real_jobs, followed by nine clients: each format, connected before, during and after it.

    `known` says that the job writes down all that it writes. `live` must have been shown while the job waits
    half-way. In the block, which gets what was `Followed`, the worker still runs.
    """
    place.mkdir(exist_ok=True)
    queue = stack.queue()
    job = Job.create(f"tests.real_jobs.{function}", [str(place), *arguments], connection=stack.connection)
    job.origin = queue.name
    job.save()
    with (
        stack.follow(job.id, "json=1") as before,
        stack.worker(queue, env={"TAILER_CAPTURE": capture}, worker_class=worker_class) as worker,
    ):
        queue.enqueue_job(job)
        try:
            wait_until(lambda: (place / "half").exists() or worker.poll() is not None, 40, "the job half-way")
            wait_until(lambda: live in before["text"].body, 10, f"{live!r} while the job runs")
            with stack.follow(job.id, "json=1") as during:
                (place / "go").touch()
                end = stack.log(job.id, timeout=40).end
                with stack.follow(job.id, "json=1") as after:
                    written = {}
                    if known:
                        names = (
                            {"stdout": "stdout", "stderr": "stderr"} if capture == "separate" else {"stdout": "both"}
                        )
                        written = {stream: (place / name).read_bytes() for stream, name in names.items()}
                        assert sum(map(len, written.values())) == end.bytes
                    rebuilder = Rebuilder()
                    for when, clients in (("before", before), ("during", during), ("after", after)):
                        check(clients, when, written, end, rebuilder)
        finally:
            (place / "go").touch()
        assert job.return_value() in {None, 0, -signal.SIGSEGV}
        yield Followed(end, before["text"].body)


def run(*arguments, **options):
    """Do the same for a test that has nothing more to do while the worker runs."""
    with followed(*arguments, **options) as result:
        return result


def test_records_are_rebuilt_to_the_byte():
    """What all tests here compare by tells apart records that differ in one byte, one stream or one newline."""
    lines = [b'{"stream":"stdout","text":"a"}', b'{"stream":"stderr","text":"?","base64":"/w==","partial":true}']
    assert Rebuilder().streams(lines) == {"stdout": b"a\n", "stderr": b"\xff", "both": b"a\n\xff"}
    assert sha256(b"a\n\xff") != sha256(b"a\n\xfe")


@pytest.fixture
def index(tmp_path):
    """A package index on loopback, with one wheel of three megabytes."""
    name, package = "tailer_demo_data-1.0-py3-none-any.whl", tmp_path / "index" / "simple" / "tailer-demo-data"
    package.mkdir(parents=True)
    info = "tailer_demo_data-1.0.dist-info"
    with zipfile.ZipFile(package / name, "w") as wheel:
        wheel.writestr("tailer_demo_data/data.bin", os.urandom(3_000_000))
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tailer-demo-data\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    (package / "index.html").write_text(f'<!DOCTYPE html><html><body><a href="{name}">{name}</a></body></html>')
    port = str(free_port())
    serve = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", port]
    with running(serve, cwd=tmp_path / "index", ready="Serving HTTP"):
        yield f"http://127.0.0.1:{port}/simple"


def test_pip_download(stack, tmp_path, index):
    """A job that downloads with pip: its lines and its progress."""
    run(stack, tmp_path / "job", "pip_download", index, live=b"Fetching what we need\n")
    assert b"Successfully downloaded tailer-demo-data" in (tmp_path / "job" / "stdout").read_bytes()


@pytest.mark.skipif(not (shutil.which("make") and shutil.which("cc")), reason="no make or no C compiler")
def test_make(stack, tmp_path):
    """A job that compiles C with two processes at a time: commands on stdout, coloured warnings on stderr."""
    place = tmp_path / "job"
    place.mkdir()
    (place / "Makefile").write_text(MAKEFILE)
    for name in ("main", "list", "tree"):
        (place / f"{name}.c").write_text(C_FILE % {"name": name})
    run(stack, place, "make", live=b"-Wunused-function")
    assert (place / "stderr").read_bytes().count(b"\x1b[") > 50


@pytest.mark.skipif(not shutil.which("git"), reason="no git: run scripts/system-packages")
def test_git_clone(stack, tmp_path):
    """A job whose progress is repainted on stderr with carriage returns."""
    git = ["git", "-c", "user.name=somebody", "-c", "user.email=nobody@example.org", "-C", str(tmp_path / "repository")]
    (tmp_path / "repository" / "files").mkdir(parents=True)
    for number in range(300):
        (tmp_path / "repository" / "files" / f"{number}.bin").write_bytes(os.urandom(1000))
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], check=True, timeout=60)
    run(stack, tmp_path / "job", "git_clone", f"file://{tmp_path / 'repository'}", live=b"Receiving objects: 100%")
    assert (tmp_path / "job" / "stderr").read_bytes().count(b"\r") > 20


def test_tqdm(stack, tmp_path):
    """A bar without any newline is shown while it fills."""
    run(stack, tmp_path / "job", "tqdm_bar", live=b"50%")


def test_rich(stack, tmp_path):
    """A table with characters of several bytes; without a terminal rich shows its bar only at the end."""
    run(stack, tmp_path / "job", "rich_bar", live="Ünïcode ✓".encode())


@pytest.mark.parametrize(("function", "repaint"), [("tqdm_bar", b"\r"), ("rich_bar", b"\x1b[")])
def test_a_pseudo_terminal_makes_bars_live(stack, tmp_path, function, repaint):
    """With TAILER_CAPTURE=pty programs find a terminal, and rich's bar too moves while the job runs."""
    result = run(stack, tmp_path / "job", function, capture="pty", live=b" 50%")
    assert result.text.count(repaint) > 5


def test_segfault_in_a_child(stack, tmp_path):
    """What a crashing Python dumps, and what it had printed before."""
    run(stack, tmp_path / "job", "segfault", live=b"as a start\n")
    assert b"Fatal Python error: Segmentation fault" in (tmp_path / "job" / "stderr").read_bytes()
    assert b"last words\n" in (tmp_path / "job" / "stdout").read_bytes()


@pytest.mark.parametrize("lines", [100_000, pytest.param(1_000_000, marks=pytest.mark.whole)])
def test_very_many_lines(stack, tmp_path, lines):
    """Two shells' `yes | head`: nothing of it passes through Python."""
    end = run(stack, tmp_path / "job", "yes", lines, live=b"y\ny\n").end
    assert (end.bytes, end.lines) == (2 * lines, lines)


def test_ten_megabytes_without_a_newline(stack, tmp_path):
    """One line of ten million bytes, half of it while it is still unfinished."""
    end = run(stack, tmp_path / "job", "long_line", live=b"0").end
    assert (end.bytes, end.lines) == (10_000_000, 0)


def test_random_bytes(stack, tmp_path):
    """A million bytes of any value: NUL, escape, invalid UTF-8."""
    run(stack, tmp_path / "job", "random_bytes", live=b"")


def test_simple_worker_with_the_gil_held(stack, tmp_path):
    """C code that prints without letting go of the interpreter's lock does not stop a worker without a fork."""
    end = run(stack, tmp_path / "job", "with_the_gil", worker_class="worker.SimpleWorker", live=b"\n").end
    assert end.bytes == (64 << 10) + (4 << 20)


def test_a_daemon_does_not_hold_the_log_open(stack, tmp_path):
    """A process that outlives its job does not keep the log from its end, and can go on printing.

    Of what it printed before the job ended nothing is lost.
    """
    place = tmp_path / "job"
    count = place / "count"
    try:
        with followed(stack, place, "daemon", known=False, live=b"line 1\n") as result:
            lines = result.end.lines
            assert result.text == b"".join(b"line %d\n" % number for number in range(1, lines + 1))
            wait_until(lambda: int(count.read_text() or 0) > lines + 100, 20, "the daemon prints on")
    finally:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int((place / "pid").read_text()), signal.SIGKILL)
