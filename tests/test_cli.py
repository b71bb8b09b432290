"""The other commands: `run`, `jobs`, `link`, their help, and how errors are told."""

import json
import subprocess

import pytest

from tests.stack import BIN, ROOT, Stack, clean, curl, worker_process
from tests.test_client import scripted

TAILER = str(BIN / "tailer")
COMMANDS = ("follow", "jobs", "link", "run", "up", "demo", "archive", "doctor")


def tailer(*arguments, timeout=30, **env):
    """Run `tailer` to its end, with these environment variables and none else of Tailer's."""
    argv = clean(["env", *(f"{name}={value}" for name, value in env.items()), TAILER, *arguments])
    return subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False, cwd=ROOT)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_ends_with_examples_of_it(command):
    """Whoever asks for help sees what to type."""
    done = tailer(command, "--help")
    assert done.returncode == 0
    examples = done.stdout.partition("Examples:\n")[2].splitlines()
    assert examples
    assert all(f"tailer {command}" in line for line in examples)


def test_the_commands_are_those_that_are_documented():
    """`tailer --help` lists each command, and the exit codes."""
    done = tailer("--help")
    listed = done.stdout.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed] == sorted(COMMANDS)
    assert "128 + N" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "env", "words"),
    [
        (["follow"], {}, "Missing argument 'JOB'"),
        (["follow", "x", "--url", "ftp://host"], {}, "use http://HOST:PORT or https://HOST"),
        (
            ["follow", "x"],
            {"TAILER_URL": "localhost:8000"},
            "tailer: TAILER_URL='localhost:8000' cannot be used: use http",
        ),
        (["follow", "x"], {"REDIS_URL": "http://host"}, "tailer: REDIS_URL='http://…' cannot be used: use redis://"),
        (["jobs", "--limit", "0"], {}, "tailer: limit='0' cannot be used: use a whole number from 1"),
        (["jobs", "--status", "asleep"], {}, "tailer: status='asleep' cannot be used: use one of"),
        (["run", "function"], {}, "use MODULE.FUNCTION"),
        (["run", "a.b", ":{"], {}, "Unable to parse"),
        (["run", "--timeout", "soon", "a.b"], {}, "Timeout must be"),
        (["up", "--port", "0"], {}, "0 is not in the range"),
        (["demo"], {"DEMO_KEEP": "maybe"}, "tailer: DEMO_KEEP='maybe' cannot be used: use 1 or 0"),
        (["doctor", "now"], {}, "unexpected extra argument"),
        (["link", "x"], {}, "name the web side with --url or TAILER_URL"),
        (["follow", "x"], {"TAILER_TOKEN": "ann:secret"}, "tailer: TAILER_TOKEN='…' cannot be used: use the token"),
    ],
)
def test_wrong_usage_leaves_with_2_and_says_what_is_right(arguments, env, words):
    """What cannot be done is told on stderr, by name and with what is allowed; there is never a traceback."""
    done = tailer(*arguments, **env)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_what_cannot_be_written_is_one_line(stack):
    """A full disk ends with 2 and a line; a stdout that was closed, or lacks characters, is no trouble at all."""
    queue = stack.queue()
    job = queue.enqueue("tests.jobs.hello", description="a description that is too long for the table … " * 3)
    stack.work(queue)
    env = {"REDIS_URL": stack.url}

    def shell(line, **more):
        argv = clean(["env", *(f"{name}={value}" for name, value in {**env, **more}.items()), "sh", "-c", line])
        return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False, cwd=ROOT)

    full = shell(f"{TAILER} follow {job.id} >/dev/full")
    assert (full.returncode, full.stderr.count("\n")) == (2, 1)
    assert full.stderr.startswith("tailer: ")
    closed = shell(f"{TAILER} follow {job.id} >&-")
    assert (closed.returncode, closed.stderr) == (0, "")
    latin = shell(f"{TAILER} jobs", PYTHONIOENCODING="latin-1")
    assert (latin.returncode, latin.stderr) == (0, "")
    assert job.id in latin.stdout


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"jobs": 7}'])
def test_a_web_side_of_somebody_else_is_told_of(body):
    """JSON of any other kind is not Tailer's."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    with scripted(head + body) as (url, _):
        done = tailer("jobs", "--url", url)
    assert (done.returncode, "does not answer as Tailer's web side does" in done.stderr) == (2, True)


# run


def test_run_leaves_with_the_outcome_of_its_job(stack):
    """The job's output on stdout, its id on stderr, and its end as the exit code."""
    queue = stack.queue()
    with stack.worker(queue):
        for function, code, output in (
            ("tests.jobs.hello", 0, "hello\n"),
            ("tests.jobs.kill_itself", 137, "last words"),
            ("no.such_function", 1, ""),
        ):
            done = tailer("run", "--queue", queue.name, function, REDIS_URL=stack.url)
            job_id = done.stderr.split()[2]
            assert (done.returncode, done.stderr.splitlines()[0]) == (
                code,
                f"[tailer] job {job_id} in queue {queue.name}",
            )
            assert done.stdout.startswith(output)
            assert stack.log(job_id).end.outcome == {0: "finished", 137: "killed", 1: "failed"}[code]


def test_run_takes_arguments_as_rq_enqueue_does(stack):
    """Text, JSON, Python literals, keywords and options of the function's own reach the job as they are meant."""
    queue = stack.queue()
    with stack.worker(queue):
        arguments = ["plain", ":[1, 2]", "%(3,)", "name=text", "number:=4", "--timeout", "-v"]
        done = tailer(
            "run", "-q", queue.name, "--timeout", "1m", "tests.cli_jobs.show", *arguments, REDIS_URL=stack.url
        )
        assert done.returncode == 0
        expected = (("plain", [1, 2], (3,), "--timeout", "-v"), [("name", "text"), ("number", 4)])
        assert done.stdout == f"{expected[0]} {expected[1]}\n"
        job_id = done.stderr.split()[2]
        assert stack.connection.hget(f"rq:job:{job_id}", "timeout") == b"60"


def test_run_says_when_nobody_will_run_it_or_nobody_captures(server):
    """A queue without a worker, and one whose workers are RQ's own, are told at once."""
    alone = clean(["env", f"REDIS_URL={server.url}", TAILER, "run", "--queue", "q", "tests.jobs.hello"])
    with subprocess.Popen(alone, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        assert " in queue q\n" in waiting.stderr.readline()
        assert "no worker listens to it: start one with `python -m worker q`" in waiting.stderr.readline()
        with worker_process(server.url, "q"):
            assert waiting.communicate(timeout=30) == ("hello\n", "")
            assert waiting.returncode == 0
    with worker_process(server.url, "plain", worker_class="rq.Worker", ready=True):
        done = tailer("run", "--queue", "plain", "tests.jobs.hello", REDIS_URL=server.url)
    assert (done.returncode, done.stdout) == (0, "")
    assert "none of its workers captures output" in done.stderr
    assert "[tailer] finished: no output was captured" in done.stderr


# jobs


@pytest.mark.parametrize("mode", ["web", "redis"])
def test_jobs_lists_what_waits_and_what_has_run(stack, mode):
    """A line for each job, waiting ones first with their place, with the figures of its log and how it ended."""
    queue = stack.queue()
    ended = [queue.enqueue("tests.jobs.hello"), queue.enqueue("tests.jobs.fail")]
    stack.work(queue)
    waiting = [
        queue.enqueue("tests.jobs.hello", description="\x1b[2J first\nin line " + "x" * 200),
        queue.enqueue("tests.jobs.hello"),
    ]
    place = {"TAILER_URL": stack.web} if mode == "web" else {"REDIS_URL": stack.url}
    done = tailer("jobs", "--queue", queue.name, **place)
    assert (done.returncode, done.stderr) == (0, "")
    head, *lines = done.stdout.splitlines()
    rows = [line.split(maxsplit=7) for line in lines]
    assert head.split() == ["JOB", "STATUS", "AGE", "LINES", "BYTES", "OUTCOME", "DESCRIPTION"]
    assert [row[0] for row in rows] == [job.id for job in [*waiting, *reversed(ended)]]
    assert [row[1:3] for row in rows[:2]] == [["queued", "(1)"], ["queued", "(2)"]]
    assert rows[0][3].endswith("s")
    assert rows[0][7].startswith("\ufffd[2J first in line xxx")
    assert len(rows[0][7]) == 60
    failed, finished = lines[2].split(), lines[3].split()
    assert (failed[1], failed[5], failed[6]) == ("failed", "failed", "tests.jobs.fail()")
    assert (finished[1], finished[3], finished[4], finished[5]) == ("finished", "1", "6", "finished")

    one = tailer("jobs", "--queue", queue.name, "--status", "failed", "--limit", "1", "--json", **place)
    assert [job["job_id"] for job in json.loads(one.stdout)["jobs"]] == [ended[1].id]


def test_jobs_of_an_empty_redis_is_a_line_of_headings(server):
    """No job is no error."""
    done = tailer("jobs", REDIS_URL=server.url)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)


# Tokens and links


def test_a_token_is_asked_for_and_sent(server):
    """Without one, or with a wrong one, it says what to set; with it, all that asks the web side works."""
    token = "a-token-for-everything"
    env = {"TAILER_TOKENS": f"ann:{token}", "TAILER_SECRET_KEY": "a-key-to-sign-links-with"}
    with Stack.on(server.url, env=env) as stack:
        queue = stack.queue()
        job = queue.enqueue("tests.jobs.hello")
        stack.work(queue)
        here = {"TAILER_URL": stack.web, "REDIS_URL": server.url}
        for arguments in (["follow", job.id], ["jobs"], ["link", job.id]):
            for wrong in ({}, {"TAILER_TOKEN": "not-the-token-at-all"}):
                done = tailer(*arguments, **here, **wrong)
                assert (done.returncode, done.stdout) == (2, "")
                assert "set TAILER_TOKEN" in done.stderr
        here["TAILER_TOKEN"] = token
        assert tailer("follow", job.id, **here).stdout == "hello\n"
        assert job.id in tailer("jobs", **here).stdout
        assert "takes the token, and nobody without one" in tailer("doctor", "--idle", "0", **here).stdout
        page = tailer("link", job.id, **here)
        assert (page.returncode, page.stderr) == (0, "")
        assert page.stdout.startswith(f"{stack.web}/jobs/{job.id}?link=")
        log = tailer("link", job.id, "--log", "--for", "2m", **here).stdout.strip()
        with curl(log) as client:
            assert (client.wait(), client.body) == (0, b"hello\n")
        done = tailer("link", job.id, "--for", "99d", **here)
        assert (done.returncode, done.stdout) == (2, "")
        assert "use a duration such as 10m or 1h30m, of 24 h at most" in done.stderr
