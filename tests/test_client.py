"""`tailer follow`: every byte once, whatever happens to the connection, and an exit code that tells how it ended."""

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

import pytest
from rq.command import send_stop_job_command

from tailer.client import RemoteLog, Web
from tailer.errors import TailerError, WebUnavailable
from tailer.follow import Final
from tailer.query import LogQuery
from tailer.records import Chunk, Hole
from tailer.store import wake_channel
from tests.cli_jobs import ODD
from tests.processes import free_port, running
from tests.stack import BIN, ROOT, Stack, clean
from tests.waiting import wait_until

TAILER = str(BIN / "tailer")
MODES = ("web", "redis")


def command(stack, mode, *arguments):
    """The command line for `tailer`, to be run against the web side or straight against Redis."""
    places = [f"TAILER_URL={stack.web}"] if mode == "web" else []
    return clean(["env", f"REDIS_URL={stack.url}", *places, TAILER, *arguments])


def tailer(stack, mode, *arguments, timeout=30):
    """Run `tailer` to its end."""
    argv = command(stack, mode, *arguments)
    return subprocess.run(argv, capture_output=True, timeout=timeout, check=False, cwd=ROOT)


@contextlib.contextmanager
def web_at(port, url):
    """Run the web side on this port for the block, or until it is killed."""
    argv = clean([str(BIN / "gunicorn"), "-b", f"127.0.0.1:{port}", "wsgi:app"])
    with running(argv, cwd=ROOT, env={"REDIS_URL": url}, ready="Booting worker") as process:
        yield process


def kill_group(process):
    """Kill a process and all that it started; returns when it is gone."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


# Against real servers.


def test_follows_through_killed_web_processes_without_losing_or_repeating_a_byte(stack, tmp_path):
    """A web side that is SIGKILLed twice and comes back on its port costs a follower no byte, and repeats none."""
    queue, port, stop = stack.queue(), free_port(), tmp_path / "stop"
    job = queue.enqueue("tests.cli_jobs.numbered", str(stop))
    argv = clean([TAILER, "follow", job.id, "--url", f"http://127.0.0.1:{port}"])
    with stack.worker(queue, "--burst"), contextlib.ExitStack() as held:
        web = held.enter_context(web_at(port, stack.url))
        follower = held.enter_context(running(argv))
        for _ in range(2):
            seen = len(follower.stdout())
            wait_until(lambda seen=seen: len(follower.stdout()) > seen + 5000)
            kill_group(web)
            # It prints on while nobody can be asked.
            stack.wait_for_output(job.id, b"line %d " % (follower.stdout().count(b"\n") + 100))
            web = held.enter_context(web_at(port, stack.url))
        seen = len(follower.stdout())
        wait_until(lambda: len(follower.stdout()) > seen + 5000)
        stop.touch()
        assert follower.wait(30) == 0, follower.stderr()
        log = stack.log(job.id)
        assert follower.stdout() == log.stdout
        assert hashlib.sha256(follower.stdout()).hexdigest() == log.end.sha256
        assert follower.stderr().count(b"the connection broke") >= 2


def test_lines_that_come_while_the_web_side_is_away_are_not_taken_for_old_ones(stack, tmp_path):
    """`--tail 0` that lost its connection before it printed anything resumes where it began, not at the new end."""
    queue, port = stack.queue(), free_port()
    job = queue.enqueue("tests.cli_jobs.step_by_step", str(tmp_path))
    argv = clean([TAILER, "follow", job.id, "--tail", "0", "--url", f"http://127.0.0.1:{port}"])
    with stack.worker(queue, "--burst"), contextlib.ExitStack() as held:
        stack.wait_for_output(job.id, b"ready\n")
        web = held.enter_context(web_at(port, stack.url))
        follower = held.enter_context(running(argv))
        wait_until(lambda: stack.connection.pubsub_numsub(wake_channel(job.id))[0][1])  # it has its answer
        kill_group(web)
        wait_until(lambda: b"the connection broke" in follower.stderr())
        (tmp_path / "1").touch()
        stack.wait_for_output(job.id, b"step 1\n")
        held.enter_context(web_at(port, stack.url))
        wait_until(lambda: follower.stdout() == b"step 1\n")
        for number in "23":
            (tmp_path / number).touch()
        assert follower.wait(30) == 0
        assert follower.stdout() == b"step 1\nstep 2\nstep 3\n"


ENDS = {
    "finished": ("tests.jobs.hello", (), 0, ""),
    "silent": ("tests.jobs.silent", (), 0, ""),
    "failed": ("tests.jobs.fail", (), 1, "[tailer] failed after"),
    "killed": ("tests.jobs.kill_itself", (), 137, "[tailer] killed by signal 9 (SIGKILL)"),
    "crashed": ("tests.jobs.kill_itself", (signal.SIGSEGV,), 139, "[tailer] killed by signal 11 (SIGSEGV)"),
    "left": ("tests.jobs.leave", (7,), 1, "[tailer] failed after"),
}
"""How jobs may end: the function and its arguments, the exit code, and how the line on stderr begins."""


@pytest.fixture(scope="module")
def over(stack):
    """The ids of jobs that are over: one for each of `ENDS`, and two more that are named for what they wrote."""
    queue = stack.queue()
    jobs = {name: queue.enqueue(function, *arguments) for name, (function, arguments, *_) in ENDS.items()}
    jobs["two streams"] = queue.enqueue("tests.cli_jobs.both_streams")
    jobs["odd bytes"] = queue.enqueue("tests.cli_jobs.odd_bytes")
    stack.work(queue)
    return {name: job.id for name, job in jobs.items()}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ENDS)
def test_leaves_with_how_the_job_ended(stack, over, mode, name):
    """The exit code tells how the job ended, and a line on stderr says it where it did not end well."""
    _, _, code, said = ENDS[name]
    done = tailer(stack, mode, "follow", over[name])
    assert (done.returncode, done.stdout) == (code, stack.log(over[name]).data())
    assert done.stderr.decode().startswith(said)
    assert done.stderr.count(b"\n") == bool(said)


@pytest.mark.parametrize("mode", MODES)
def test_a_stopped_and_a_canceled_job_leave_with_3(stack, mode, tmp_path):
    """Stopped while it ran, or canceled before: 3."""
    queue = stack.queue()
    canceled = queue.enqueue("tests.jobs.hello")
    canceled.cancel()
    stopped = queue.enqueue("tests.jobs.wait_for", str(tmp_path / "never"))
    with stack.worker(queue), running(command(stack, mode, "follow", stopped.id)) as follower:
        wait_until(lambda: follower.stdout() == b"waiting\n")
        send_stop_job_command(stack.connection, stopped.id)
        assert follower.wait(30) == 3
        assert b"[tailer] stopped after" in follower.stderr()
    done = tailer(stack, mode, "follow", canceled.id)
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr.startswith(b"[tailer] canceled: ")


@pytest.mark.parametrize("mode", MODES)
def test_wrong_jobs_and_options_are_told_in_one_line(stack, over, mode):
    """What cannot be followed ends with 2 and one line that says why, the same in both modes."""
    for job in ("no-such-job", "no such/job", "../healthz"):
        done = tailer(stack, mode, "follow", job)
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr.decode().startswith(f"tailer: no job '{job}'")
        assert done.stderr.count(b"\n") == 1
    for option, value in (("tail", "x"), ("since", "yesterday"), ("offset", "7"), ("attempt", "2"), ("offset", "1:99")):
        done = tailer(stack, mode, "follow", over["finished"], f"--{option}", value)
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr.decode().startswith("tailer: ")
        assert option in done.stderr.decode()
        assert done.stderr.count(b"\n") == 1


def test_without_a_server_it_says_so_at_once(stack):
    """No web side, or no Redis: exit 2 and one line that names the place and the cause, without a traceback."""
    nowhere = f"127.0.0.1:{free_port()}"
    for argv in (
        [TAILER, "follow", "some-job", "--url", f"http://{nowhere}"],
        ["env", f"REDIS_URL=redis://{nowhere}/0", TAILER, "follow", "some-job"],
    ):
        done = subprocess.run(clean(argv), capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("tailer: ")
        assert nowhere in done.stderr or nowhere.replace(":", " port ") in done.stderr or "refused" in done.stderr
        assert "refused" in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("mode", MODES)
def test_both_ways_give_the_jobs_bytes(stack, over, mode):
    """Bytes that are no text, and a log that ends within a line, arrive as they were written."""
    done = tailer(stack, mode, "follow", over["odd bytes"])
    assert (done.returncode, done.stdout, done.stderr) == (0, ODD, b"")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("options", "query"),
    [
        (["--stdout"], "stdout=1"),
        (["--stderr"], "stderr=1"),
        (["--tail", "3"], "tail=3"),
        (["-t", "-n", "4", "--stderr"], "timestamps=1&tail=4&stderr=1"),
        (["--timestamps"], "timestamps=1"),
        (["--offset", "1:6"], "offset=1:6"),
        (["--attempt", "1", "--no-follow"], "attempt=1&follow=0"),
        (["--since", "1h"], "since=1h"),
        (["--until", "1h"], "until=1h"),
    ],
)
def test_options_mean_what_the_parameters_of_the_web_side_mean(stack, over, mode, options, query):
    """Each option shows exactly what curl shows with the parameter of its name."""
    job_id = over["two streams"]
    done = tailer(stack, mode, "follow", job_id, *options)
    assert (done.returncode, done.stdout) == (0, stack.get(f"/jobs/{job_id}/log?{query}").body)


@pytest.mark.parametrize("mode", MODES)
def test_a_snapshot_of_a_running_job_does_not_wait(stack, mode, tmp_path):
    """`--no-follow` prints what is there and leaves with 0."""
    queue = stack.queue()
    job = queue.enqueue("tests.jobs.wait_for", str(tmp_path / "go"))
    with stack.worker(queue, "--burst"):
        stack.wait_for_output(job.id, b"waiting\n")
        done = tailer(stack, mode, "follow", job.id, "--no-follow")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"waiting\n", b"")
        (tmp_path / "go").touch()
        stack.log(job.id)


@pytest.mark.parametrize("mode", MODES)
def test_ctrl_c_and_a_reader_that_leaves_end_it_without_a_word(stack, mode, tmp_path):
    """Ctrl-C: 130. `| head -n 1`: 141, as SIGPIPE gives it. No message in either case."""
    queue = stack.queue()
    job = queue.enqueue("tests.cli_jobs.step_by_step", str(tmp_path))
    argv = command(stack, mode, "follow", job.id)
    with stack.worker(queue, "--burst"), running(argv) as interrupted:
        wait_until(lambda: interrupted.stdout() == b"ready\n")
        interrupted.signal(signal.SIGINT)
        assert interrupted.wait() == 130
        assert interrupted.stderr() == b""

        piped = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert piped.stdout.read(6) == b"ready\n"
        piped.stdout.close()
        (tmp_path / "1").touch()
        assert piped.wait(30) == 141
        assert piped.stderr.read() == b""
        piped.stderr.close()
        for number in "23":
            (tmp_path / number).touch()
        stack.log(job.id)


@pytest.mark.parametrize("mode", MODES)
def test_gives_up_after_its_patience_and_says_where_to_go_on(server, mode, tmp_path):
    """Without a connection for `--patience` seconds it leaves with 2 and names the cursor to resume from."""
    with Stack.without_web(server.url) as stack, contextlib.ExitStack() as held:
        queue = stack.queue()
        job = queue.enqueue("tests.cli_jobs.step_by_step", str(tmp_path))
        port, url = free_port(), list[str]()
        if mode == "web":
            url = ["--url", f"http://127.0.0.1:{port}"]
            web = held.enter_context(web_at(port, stack.url))
        with stack.worker(queue, "--burst") as worker:
            with running(command(stack, "redis", "follow", job.id, "--patience", "1", *url)) as follower:
                wait_until(lambda: follower.stdout() == b"ready\n")
                if mode == "web":
                    kill_group(web)
                else:
                    server.stop()
                assert follower.wait(40) == 2
                last = follower.stderr().decode().splitlines()[-1]
                assert last.startswith("tailer: ")
                assert last.endswith("gave up after 1 s; resume with --offset 1:6")
            if mode == "redis":
                server.start()  # or the worker would wait for it
            for number in "123":
                (tmp_path / number).touch()
            worker.wait(40)


# Against servers that misbehave: real sockets, scripted.


@contextlib.contextmanager
def scripted(*answers: bytes | None, heads: list[str] | None = None) -> Iterator[tuple[str, list[str]]]:
    """A server that gives each connection the next of these answers, and closes it; ``None`` says nothing at all.

    Yields its URL and the targets that were asked for; whole requests are added to ``heads``.
    """
    asked: list[str] = []
    done = threading.Event()

    def serve() -> None:
        silent = []
        for answer in answers:
            connection, _ = listener.accept()
            with contextlib.suppress(OSError):
                head = connection.recv(65_536).decode()
                asked.append(head.split()[1])
                if heads is not None:
                    heads.append(head)
                if answer is None:
                    silent.append(connection)
                    continue
                connection.sendall(answer.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            connection.close()
        done.wait(20)
        for connection in silent:
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
        done.set()
        thread.join()


def ndjson(*chunks: bytes, whole: bool = False) -> bytes:
    """An answer with these HTTP chunks, with the last, empty one if it is whole."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson; charset=utf-8\r\nTailer-Cursor: 1:0\r\n"
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + body + (b"0\r\n\r\n" if whole else b"")


def record(offset: int, text: str, more: str = "") -> bytes:
    """A line of NDJSON."""
    return b'{"cursor":"1:%d","time":"2026-11-23T09:30:00.000Z","stream":"stdout","line":1,"text":"%s"%s}\n' % (
        offset,
        text.encode(),
        more.encode(),
    )


END = b'{"cursor":"1:4","outcome":"finished","attempt":1,"final":true,"status":"finished","bytes":4,"news":1}\n'
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


def read(url: str, *, silence: float = 5, patience: float = 10, **parameters: str):
    """Follow a job of a scripted server; returns events and notices."""
    notices: list[str] = []
    log = RemoteLog(
        Web(url, silence=silence), "job", LogQuery.parse(parameters), patience=patience, notice=notices.append
    )
    return [event for event, _ in log.events()], notices


def bytes_of(events) -> bytes:
    """The output in events."""
    return b"".join(event.data for event in events if isinstance(event, Chunk))


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(ndjson(record(4, "b")[:20]), id="cut within a record"),
        pytest.param(ndjson(record(4, "b"))[:-9], id="cut within a chunk"),
        pytest.param(ndjson(b"\n\n"), id="cut after heartbeats"),
        pytest.param(ndjson(whole=True), id="complete, without an end record"),
        pytest.param(ndjson(record(4, "b")[:20], whole=True), id="complete, within a record"),
        pytest.param(BUSY, id="503"),
        pytest.param(b"", id="closed without a word"),
        pytest.param(None, id="silent"),
        pytest.param(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\noops", id="a proxy's own error"),
        pytest.param(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n", id="429"),
    ],
)
def test_resumes_from_the_last_whole_record(broken):
    """However an answer breaks, the next request names the cursor behind what was received whole."""
    with scripted(ndjson(record(2, "a")), broken, ndjson(record(4, "b"), END, whole=True)) as (url, asked):
        events, notices = read(url, silence=1, tail="5", since="1h")
    assert bytes_of(events) == b"a\nb\n"
    assert isinstance(events[-1], Final)
    assert notices
    first, *later = [parse_qs(urlsplit(target).query) for target in asked]
    assert (first["tail"], "since" in first, "offset" in first) == (["5"], True, False)
    assert all((query["offset"], "tail" in query, "since" in query) == (["1:2"], False, False) for query in later)


def test_reads_records_in_whatever_pieces_they_come():
    """Records that are split between HTTP chunks at any byte are read as if they had come at once."""
    whole = record(2, "a") + record(3, "b", ',"partial":true') + b"\n" + record(4, "") + END
    for cut in range(1, len(whole), 7):
        with scripted(ndjson(whole[:cut], whole[cut:], whole=True)) as (url, _):
            events, notices = read(url)
        assert (bytes_of(events), notices) == (b"a\nb\n", [])


def test_a_hole_is_told_and_not_printed():
    """A hole keeps its size and cause."""
    hole = b'{"cursor":"1:9","time":"2026-11-23T09:30:00.000Z","line":2,"missing":7,"cause":"dropped"}\n'
    with scripted(ndjson(record(2, "a"), hole, END, whole=True)) as (url, _):
        events, _ = read(url)
    assert [(event.length, event.cause) for event in events if isinstance(event, Hole)] == [(7, "dropped")]
    with scripted(ndjson(record(2, "a"), hole, END, whole=True)) as (url, _):
        done = subprocess.run([TAILER, "follow", "job", "--url", url], capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, b"a\n")
    assert done.stderr == b"[tailer] 7 bytes are missing here: dropped\n"


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (BUSY, WebUnavailable, "answers 503"),
        (b"", WebUnavailable, "closed connection without response"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", WebUnavailable, "SSH-2.0"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi",
            TailerError,
            "does not answer as",
        ),
        (ndjson(b"<html>\n", whole=True), TailerError, "does not answer as"),
        (ndjson(b'{"cursor":"1:2"}\n', whole=True), TailerError, "does not answer as"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", TailerError, "answers 404"),
        (
            b'HTTP/1.1 410 Gone\r\nContent-Length: 28\r\n\r\n{"detail":"it has expired!"}',
            TailerError,
            "it has expired!",
        ),
    ],
)
def test_a_first_answer_that_cannot_be_used_is_an_error(answer, kind, words):
    """What the first connection brings is told at once, in the server's words where it has some; nothing is retried."""
    with scripted(answer) as (url, asked), pytest.raises(kind, match=words):
        read(url)
    assert len(asked) == 1


def test_statuses_that_mean_later_are_retried_and_others_are_not():
    """After it has worked once, 403 or 404 end it; they will not go away by waiting."""
    for status in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
        refusal = f"HTTP/1.1 {status} {status.phrase}\r\nContent-Length: 0\r\n\r\n".encode()
        with (
            scripted(ndjson(record(2, "a")), refusal) as (url, asked),
            pytest.raises(TailerError, match=str(int(status))),
        ):
            read(url)
        assert len(asked) == 2


def test_a_chunk_of_many_lines_is_one_again():
    """Lines of one chunk are printed at once: a follower does not pay for each line."""
    lines = b"".join(record(2 * n, "x") for n in range(1, 1001))
    with scripted(ndjson(lines, END, whole=True)) as (url, _):
        events, _ = read(url)
    chunks = [event for event in events if isinstance(event, Chunk)]
    assert bytes_of(events) == b"x\n" * 1000
    assert len(chunks) < 10
    assert [chunk.offset for chunk in chunks[1:]] == [chunk.end for chunk in chunks[:-1]]


# Tokens.


def test_a_token_is_sent_to_no_other_server():
    """Where a web side leads elsewhere, the token stays with it; within it, it is sent along."""
    listing = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    inner: list[str] = []
    outer: list[str] = []
    with scripted(listing, heads=outer) as (other, _):
        away = f"HTTP/1.1 302 Found\r\nLocation: {other}/jobs\r\nContent-Length: 0\r\n\r\n".encode()
        here = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
        with scripted(here, away, heads=inner) as (url, _):
            assert Web(url, "a-secret-token").get("/jobs") == {}
    assert ["Authorization: Bearer a-secret-token" in head for head in inner] == [True, True]
    assert ["secret" in head for head in outer] == [False]
