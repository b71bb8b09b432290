"""Archived logs as clients see them: a real worker, `tailer archive`, an S3-compatible server, and the web side."""

import contextlib
import json
import os
import signal

import pytest
from rq import Retry

from tailer.records import STDOUT, Attempt, Chunk, End, encode
from tailer.store import Cursor, LogStore, connect, list_key, meta_key, now_ms, tail_key
from tests.object_stores import environment, s3_server
from tests.processes import free_port, leftovers, running, shared
from tests.stack import BIN, ROOT, Stack, clean, curl
from tests.waiting import wait_until
from tests.web_servers import served

NOW = {"TAILER_ARCHIVE_AFTER": "0"}
QUERIES = {
    "text": ["", "tail=3", "attempt=1&lines=2-3", "since=1h&timestamps=1", "grep=Error&context=2"],
    "sse": ["offset=1:7&follow=0"],
    "ndjson": ["offset=2:3", "grep=^Traceback"],
}
TOKENS = (
    "all:the-token-of-one-who-reads-all of-q:the-token-of-the-queue-q:queue=q other:the-token-of-others:queue=other"
)


@pytest.fixture(scope="module")
def s3():
    """An S3-compatible server."""
    with s3_server() as server:
        shared.update(leftovers(""))
        yield server


@pytest.fixture
def env(s3):
    """The environment of all processes that know the archive."""
    return {**NOW, **s3.env, "TAILER_ARCHIVE": "s3://logs/some/prefix"}


def archive(url, env):
    """Run `tailer archive --once`; returns what it says."""
    env = {**env, "REDIS_URL": url}
    argv = clean([str(BIN / "tailer"), "archive", "--once"], env)
    with running(argv, cwd=ROOT, env=env) as process:
        assert process.wait(30) == 0, process.text()
        return process.stdout().decode()


def ran_follow(url, env, job_id):
    """What `tailer follow` prints, which asks Redis and the archive by itself."""
    env = {**env, "REDIS_URL": url}
    with running(clean([str(BIN / "tailer"), "follow", job_id], env), cwd=ROOT, env=env) as process:
        process.wait(20)
        return process.stdout()


def lose(stack, job_id, *, forgotten=False):
    """Have Redis lose a log's output, and all that it knows of it."""
    numbers = [one.number for one in stack.store.summary(job_id).attempts]
    lists = [key(job_id, number) for number in numbers for key in (list_key, tail_key)]
    stack.connection.delete(*lists, *[meta_key(job_id)] * forgotten)


def write_log(store, job_id, chunks=1):
    """Write a log of so many chunks of 48 KB, as a worker would; returns its bytes."""
    at, _ = store.start(job_id, Attempt(now_ms(), 0, "e1", queue="q"))
    lines, whole = 0, b""
    for _ in range(chunks):
        data = b"".join(os.urandom(40).hex().encode() + b"\n" for _ in range(600))
        chunk = Chunk(STDOUT, now_ms(), at.offset, lines + 1, 600, False, data)
        lines, whole = lines + 600, whole + data
        at = Cursor(1, store.append(job_id, at, [encode(chunk)], end=chunk.end, lines=lines))
    store.end(job_id, End(outcome="finished", attempt=1, final=True, bytes=at.offset, lines=lines, ended_at=2.0))
    return whole


def answers(stack, job_id, *arguments):
    """What each format and query gives, and what is told of the job."""
    told = {}
    for name, queries in QUERIES.items():
        for query in queries:
            given = stack.get(f"/jobs/{job_id}/log?format={name}&{query}", *arguments)
            told[name, query] = given.status, given.body
    told["resumed"] = stack.get(f"/jobs/{job_id}/log", "-H", "Last-Event-ID: 1:5", *arguments).body
    told["job"] = stack.get(f"/jobs/{job_id}", "-H", "Accept: application/json", *arguments).json
    return told


@contextlib.contextmanager
def stack_with(url, env, kind="gthread"):
    """A stack on a Redis whose web side knows the archive, under one of gunicorn's workers."""
    with served(kind, url, env=env) as (web, _), connect(url) as connection:
        yield Stack(url, web, connection, LogStore(connection))


@pytest.mark.parametrize("kind", ["gevent", pytest.param("gthread", marks=pytest.mark.whole)])
def test_an_archived_log_is_served_as_before(server, env, kind, tmp_path):
    """Formats and parameters give the same bytes from the archive, of both attempts; so do the job and the list."""
    with stack_with(server.url, env, kind) as stack:
        queue = stack.queue()
        job = queue.enqueue("tests.jobs.fail_once", str(tmp_path / "failed"), retry=Retry(max=1))
        stack.work(queue)
        stack.wait_for(job, "finished")
        before, listed = answers(stack, job.id), stack.get("/jobs").json
        assert archive(server.url, env).startswith("2 logs archived")

        for forgotten in (False, True):
            lose(stack, job.id, forgotten=forgotten)
            for what, answer in answers(stack, job.id).items():
                assert (what, answer) == (what, before[what])
            assert forgotten or stack.get("/jobs").json == listed
        assert ran_follow(server.url, env, job.id) == stack.get(f"/jobs/{job.id}/log?format=text").body
        assert stack.get("/jobs/another/log").status == 404


def test_a_follower_in_the_midst_of_a_log_goes_on(server, env):
    """A client that has read the beginning from Redis reads the rest from the archive, and resumes at any cursor."""
    with stack_with(server.url, env) as stack:
        whole = write_log(stack.store, "job", 400)
        with curl(stack.path("job"), "--limit-rate", "10M") as client:
            wait_until(lambda: client.body)
            client._process.signal(signal.SIGSTOP)
            assert len(client.body) < len(whole) / 2
            archive(server.url, env)
            lose(stack, "job")
            client._process.signal(signal.SIGCONT)
            assert client.wait() == 0
            assert client.body == whole
        half = len(whole) // 2
        assert stack.get(f"/jobs/job/log?offset=1:{half}").body == whole[half:]
        assert stack.get("/jobs/job/log", "-H", f"Last-Event-ID: 1:{half}").body == whole[half:]


def test_an_archive_that_is_away_is_503(server, tmp_path):
    """Who asks for what only the archive has is told to come back, and gets it when it is back; others lack nothing."""
    port = free_port()
    env = {**NOW, **environment(port), "TAILER_ARCHIVE": "s3://logs/some/prefix"}
    with stack_with(server.url, env) as stack:
        old, new = write_log(stack.store, "old"), write_log(stack.store, "new")
        waiting = stack.queue().enqueue("tests.jobs.hello")
        with s3_server(port, str(tmp_path)):
            archive(server.url, env)
        lose(stack, "old")

        refused = stack.get("/jobs/old/log?follow=0", "-H", "Accept: application/problem+json")
        assert (refused.status, refused.json["title"]) == (503, "The archive is not reachable")
        assert "retry-after: 2" in refused.head.lower()
        assert stack.get("/jobs/new/log").body == new
        assert stack.get(f"/jobs/{waiting.id}").status == 200
        assert len(stack.get("/jobs").json["jobs"]) == 3
        with s3_server(port, str(tmp_path)):
            assert stack.get("/jobs/old/log").body == old


def test_who_may_not_read_a_log_may_not_read_it_in_the_archive(server, env):
    """The queue of an archived log decides, also when Redis and RQ have forgotten the job."""
    with stack_with(server.url, {**env, "TAILER_TOKENS": TOKENS}) as stack:
        write_log(stack.store, "of-q")
        archive(server.url, env)
        stack.connection.flushall()

        statuses = {
            name: stack.get("/jobs/of-q/log", "-H", f"Authorization: Bearer {token}").status
            for name, token in (pair.split(":")[:2] for pair in TOKENS.split())
        }

        assert statuses == {"all": 200, "of-q": 200, "other": 404}


def test_the_archiver_archives_what_ends_and_stops_when_told(server, env):
    """`tailer archive` goes on until SIGTERM, and leaves with 0; without an archive it says what to set."""
    argv = clean([str(BIN / "tailer"), "archive"], given := {**env, "REDIS_URL": server.url})
    with connect(server.url) as connection, running(argv, cwd=ROOT, env=given, ready="archiving to s3://") as process:
        store = LogStore(connection)
        write_log(store, "job")
        wait_until(lambda: store.summary("job").last.archived, 30)
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    with running(clean([str(BIN / "tailer"), "archive"]), cwd=ROOT) as process:
        assert process.wait() == 2
        assert "name the archive with TAILER_ARCHIVE" in process.text()


def test_the_archiver_tells_in_json(server, tmp_path):
    """Every line is a record, and what is wrong with a log has the id of its job."""
    env = {"REDIS_URL": server.url, "TAILER_ARCHIVE": f"file://{tmp_path}", **NOW, "TAILER_LOG_FORMAT": "json"}
    with connect(server.url) as connection:
        write_log(LogStore(connection), "broken")
        connection.delete(list_key("broken", 1))
        argv = clean([str(BIN / "tailer"), "archive"], env)
        with running(argv, cwd=ROOT, env=env) as process:
            process.says("cannot be archived")
            process.says("0 logs archived")
            process.signal(signal.SIGTERM)
            assert process.wait() == 0
            told = [json.loads(line) for line in process.text().splitlines()]

    begins, refusal, swept = told
    assert begins["message"].startswith("archiving to file://")
    assert (refusal["level"], refusal["job"], refusal["logger"]) == ("warning", "broken", "tailer.archiver")
    assert "job" not in swept
