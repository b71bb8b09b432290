"""`tailer follow` of several jobs and of queues: whole lines, each behind the name of its job, through every break."""

import contextlib
import functools
import json
import os
import signal
import subprocess

import pytest

from tailer.client import Web
from tailer.errors import WebUnavailable
from tailer.many_client import RemoteLogs
from tailer.many_query import ManyQuery
from tailer.many_screen import worse
from tailer.store import LogStore, connect, wake_channel
from tests.processes import free_port, running
from tests.stack import BIN, ROOT, clean
from tests.test_client import MODES, TAILER, command, kill_group, scripted, tailer, web_at
from tests.test_queues import a_queue, begun, over
from tests.test_terminal import on_terminal
from tests.waiting import wait_until
from tests.written import Written


def ended(stack, outcome, data=b"a line\n", **fields):
    """A log of a job that has ended so."""
    log = Written(stack.store)
    log.write(data)
    log.end(outcome, **fields)
    log.rq_job(stack.connection, outcome if outcome in {"finished", "stopped"} else "failed")
    return log


@pytest.mark.parametrize("mode", MODES)
def test_several_jobs_come_as_lines_with_names_and_the_worst_end_is_the_exit_code(stack, mode):
    """Lines on stdout; on stderr who ended badly, and how, and who is not there."""
    good, bad = ended(stack, "finished"), ended(stack, "failed", b"\xff no newline", reason="it was too late")
    done = tailer(stack, mode, "follow", good.job_id, bad.job_id)
    assert sorted(done.stdout.splitlines()) == sorted(
        [f"{good.job_id} a.job | a line".encode(), f"{bad.job_id} a.job | ".encode() + b"\xff no newline"]
    )
    assert done.stderr.decode() == f"{bad.job_id} a.job | [tailer] failed after 1.0 s: it was too late\n"
    assert done.returncode == 1
    done = tailer(stack, mode, "follow", good.job_id, "nobody", bad.job_id)
    assert done.returncode == 2
    assert b"nobody | [tailer] no job 'nobody'" in done.stderr
    assert done.stdout.count(b"\n") == 2


def events(*told, whole=False):
    """An answer of these server-sent events: names and what they tell."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
    blocks = [f"event: {name}\nid: x\ndata: {json.dumps(data)}\n\n".encode() for name, data in told]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(block), block) for block in blocks) + b"0\r\n\r\n" * whole


AWAY = events(("error", {"status": 503, "title": "Redis is not reachable", "detail": "it is away"}), whole=True)
ENDED = [("job", {"job": "a"}), ("end", {"outcome": "finished", "attempt": 1, "final": True, "cursor": "1:0"})]


def read(url, patience):
    """What comes of following the job "a" there; and the notices."""
    notices = []
    query = ManyQuery.parse({"job": ["a"]})
    logs = RemoteLogs(Web(url, silence=5), query, patience=patience, notice=notices.append)
    return list(logs.events()), notices


def test_a_web_side_that_cannot_answer_for_a_moment_is_waited_for():
    """Whatever often it says so: one word about it, and then all is there."""
    with scripted(events(("job", {"job": "a"})), AWAY, AWAY, events(*ENDED, whole=True)) as (url, _):
        told, notices = read(url, patience=10)
    assert (len(told), len(notices)) == (1, 1)


def test_a_redis_that_stays_away_is_told_of_at_once_or_given_up(server):
    """As with one job: refused at first it is an error, and behind that for as long as one has patience."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with connect(server.url) as connection:
        log = Written(LogStore(connection))
        log.rq_job(connection, "started")
        log.write(b"a line\n")
    with web_at(port, server.url) as web:
        query = ManyQuery.parse({"job": [log.job_id]})
        followed = RemoteLogs(Web(url, silence=5), query, patience=1, notice=lambda _line: None).events()
        next(followed)
        kill_group(web)
    server.stop()
    with web_at(port, server.url):
        with pytest.raises(WebUnavailable, match="gave up after 1 s"):
            list(followed)
        with pytest.raises(WebUnavailable, match=r"^(?!.*gave up)"):
            read(url, patience=10)


def test_an_end_whose_last_chunk_did_not_come_is_an_end():
    """Asked again, the server says that there is no more."""
    with scripted(events(*ENDED), b"HTTP/1.1 204 No Content\r\n\r\n") as (url, asked):
        told, _ = read(url, patience=5)
    assert (len(told), len(asked)) == (1, 2)


@pytest.mark.parametrize(
    ("codes", "worst"), [([0, 0], 0), ([0, 3], 3), ([1, 3], 1), ([1, 137, 3], 137), ([137, 2, 0], 2), ([139, 137], 139)]
)
def test_the_worst_exit_code(codes, worst):
    """Trouble, then a signal, a failure, a stop; in any order."""
    assert functools.reduce(worse, codes) == functools.reduce(worse, codes[::-1]) == worst


@pytest.mark.parametrize("mode", MODES)
def test_a_queue_is_followed_until_one_has_seen_enough(stack, mode):
    """Jobs that begin, with all their attempts; and Ctrl-C leaves with 130."""
    queue = stack.queue()
    running_now = begun(stack, queue.name)
    running_now.write(b"before\n")
    with running(command(stack, mode, "follow", "-q", queue.name, "--tail", "1")) as follower:
        wait_until(lambda: follower.stdout() == f"{running_now.job_id} a.job | before\n".encode(), 20)
        log = begun(stack, queue.name)
        log.write(b"first try\n")
        log.end("failed", final=False)
        log.start()
        log.write(b"second try\n")
        name = f"{log.job_id} a.job | "
        expected = [f"{name}first try".encode(), f"{name}second try".encode()]
        wait_until(lambda: follower.stdout().splitlines()[1:] == expected)
        log.end()
        log.rq_job(stack.connection, "finished")
        os.kill(follower.pid, signal.SIGINT)
        assert follower.wait() == 130
    over(stack, running_now)


def test_a_queue_is_followed_through_killed_web_processes(stack):
    """No line is missing and none comes twice, of jobs that run on and of those that begin and end meanwhile."""
    queue, port = a_queue(), free_port()
    log = begun(stack, queue)
    argv = clean([TAILER, "follow", "-q", queue, "--url", f"http://127.0.0.1:{port}"])
    expected = []

    def write(one, text):
        one.write(f"{text}\n".encode())
        expected.append(f"{one.job_id} a.job | {text}")

    def has_come():
        return sorted(follower.stdout().decode().splitlines()) == sorted(expected)

    with contextlib.ExitStack() as held:
        web = held.enter_context(web_at(port, stack.url))
        follower = held.enter_context(running(argv))
        wait_until(lambda: stack.connection.pubsub_numsub(wake_channel(log.job_id))[0][1], 20)
        for number in range(2):
            write(log, f"line {number}")
            wait_until(has_come)
            kill_group(web)
            write(log, f"away {number}")
            meanwhile = begun(stack, queue)
            write(meanwhile, "meanwhile")
            over(stack, meanwhile)
            web = held.enter_context(web_at(port, stack.url))
        wait_until(has_come, 20)
        assert b"the connection broke" in follower.stderr()
    over(stack, log)


def test_names_have_colours_of_their_own_on_a_terminal(stack):
    """And nowhere else, unless it is asked for; what a job sends steers nothing, and its colours end with its line."""
    one, two = ended(stack, "finished", b"\x1b[31mred\n"), ended(stack, "finished", b"\x1b]0;title\x07plain\n")
    argv = command(stack, "redis", "follow", one.job_id, two.job_id)
    shown = on_terminal(argv)
    assert b"m" + one.job_id.encode() + b" a.job\x1b[0m | \x1b[31mred\x1b[0m" in shown
    assert b"\x1b[0m | plain\n" in shown
    assert b"title" not in shown
    assert b"\x1b[0m |" not in on_terminal(["env", "NO_COLOR=1", *argv])
    plain = subprocess.run(argv, capture_output=True, check=True, cwd=ROOT)
    assert f"{two.job_id} a.job | ".encode() in plain.stdout
    always = subprocess.run([*argv, "--color", "always"], capture_output=True, check=True, cwd=ROOT)
    assert always.stdout.count(b" a.job\x1b[0m | ") == 2


def test_what_is_for_one_job_is_refused_for_several():
    """By its name."""
    done = subprocess.run(
        clean([str(BIN / "tailer"), "follow", "a", "b", "--offset", "1:0"]), capture_output=True, check=False, cwd=ROOT
    )
    assert done.returncode == 2
    assert b"offset='1:0' cannot be used" in done.stderr
