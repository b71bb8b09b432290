"""What web processes and workers tell of themselves, as JSON, by real ones."""

import contextlib
import dataclasses
import json
import logging
import re
import subprocess
from collections.abc import Iterator

import pytest

from tailer.logs import CURRENT, NOTHING, JsonFormatter
from tailer.store import list_key
from tests.processes import free_port, running
from tests.stack import BIN, ROOT, Stack, clean, web_process
from tests.waiting import wait_until
from tests.written import Written

KEY = "a-key-to-sign-links-with"
JSON = {"TAILER_LOG_FORMAT": "json", "TAILER_SECRET_KEY": KEY}


def records(text: str) -> list[dict]:
    """The lines, each of which must be a record."""
    return [json.loads(line) for line in text.splitlines()]


@contextlib.contextmanager
def telling(url: str, *arguments: str) -> Iterator[tuple]:
    """A stack whose web process tells of itself in JSON, and that process."""
    with web_process(url, *arguments, env=JSON) as (web, process), Stack.without_web(url) as plain:
        yield dataclasses.replace(plain, web=web), process


def test_a_web_process_tells_of_requests_and_faults_by_their_ids(server):
    """Each line is a record; what is wrong with a log has the ids of its job and of the request, also in a stream."""
    with telling(server.url, "--access-logfile", "-") as (stack, process):
        broken = Written(stack.store)
        broken.rq_job(stack.connection, "started")
        stack.connection.delete(list_key(broken.job_id, 1))
        stack.connection.set(list_key(broken.job_id, 1), "not a list")
        link = stack.get(f"/jobs/{broken.job_id}/link", "-X", "POST").json["log_url"]
        credential = link.partition("link=")[2]
        stack.get(f"/jobs/{broken.job_id}/log?format=sse&link={credential}", "-H", "X-Request-ID: from-the-proxy")
        process.says("ends early")
        text = process.text()
        told = records(text)
        (fault,) = [record for record in told if record.get("exception")]
        (access,) = [record for record in told if record.get("path") == f"/jobs/{broken.job_id}/log"]

    assert fault["level"] == "error"
    assert (fault["request"], fault["job"]) == ("from-the-proxy", broken.job_id)
    assert (access["request"], access["job"], access["status"]) == ("from-the-proxy", broken.job_id, 200)
    assert {"time", "level", "logger", "message"} <= set.intersection(*map(set, told))
    assert credential not in text
    assert "link=***" in access["message"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_access_logs_have_no_credential(server, form):
    """Neither as text nor as JSON, neither from the URL nor from the page that led there."""
    with web_process(server.url, "--access-logfile", "-", env={**JSON, "TAILER_LOG_FORMAT": form}) as (web, process):
        for query in ("?link=SECRET", "?tail=1&link=SECRET&follow=0", "?link=SECRET%20x"):
            referer = f"Referer: {web}/jobs/some-job{query}"
            subprocess.run(["curl", "-s", "-H", referer, f"{web}/jobs/some-job/log{query}"], check=True, timeout=20)
        wait_until(lambda: process.text().count("GET /jobs/some-job/log") == 3)
        told = process.text()

    assert "SECRET" not in told
    assert told.count("link=***") == 6


def test_an_id_is_taken_only_if_it_is_sane(stack):
    """Any other is replaced, and nothing of it comes back; every answer has one."""

    def answered(path: str, *given: str) -> str:
        head = stack.get(path, *(word for value in given for word in ("-H", f"X-Request-ID: {value}"))).head
        return re.search(r"^X-Request-ID: (.*)$", head, re.MULTILINE)[1].strip()

    for path in ("/healthz", "/jobs/nobody/log", "/nowhere"):
        assert answered(path, "01HEROKU-like.id_9") == "01HEROKU-like.id_9"
        for foul in ("", "two words", "a" * 201, '"quoted"', "<b>", "é"):
            assert re.fullmatch("[0-9a-f]{32}", answered(path, foul)), foul
    assert answered("/healthz") != answered("/healthz")


@pytest.mark.parametrize("worker_class", ["worker.Worker", "worker.SpawnWorker", "worker.SimpleWorker"])
def test_a_worker_tells_in_json_and_its_jobs_as_ever(server, worker_class):
    """RQ's lines too, with job, queue and worker; what a job logs by itself is not touched, and none of it is told."""
    with Stack.without_web(server.url) as stack:
        queue = stack.queue()
        job = queue.enqueue("tests.jobs.log_and_fail")
        told = stack.work(queue, worker_class=worker_class, env={**JSON, "TAILER_CONSOLE": "0"})
        log = stack.log(job.id)
        of_job = [record for record in records(told) if record.get("job") == job.id]

    assert b"WARNING:root:by the job itself\n" in log.stderr
    assert "by the job itself" not in told
    assert {record["queue"] for record in of_job} == {queue.name}
    assert len({record["worker"] for record in records(told)}) == 1
    assert any(record["level"] == "error" for record in of_job)


def test_any_record_becomes_one_harmless_line():
    """Whatever is in it, its own fields beside those of the thread; colours are left out."""
    error = ValueError("line\nline")
    given = ("é",), (ValueError, error, error.__traceback__)
    record = logging.LogRecord("a", logging.WARNING, __file__, 1, "\x1b[31mred\x1b[39;49;00m %s\n\x9b", *given)
    record.fields = {"job": "three", "thing": object()}
    CURRENT.set({"request": "one", "job": "two"})
    line = JsonFormatter().format(record)
    CURRENT.set(NOTHING)
    told = json.loads(line)

    assert line.isascii()
    assert line.isprintable()
    assert (told["message"], told["request"], told["job"]) == ("red é\n\x9b", "one", "three")
    assert told["exception"].endswith("ValueError: line\nline")


def test_a_bad_format_stops_the_web_process_with_one_line(server):
    """As every bad setting does."""
    env = {"TAILER_LOG_FORMAT": "xml", "REDIS_URL": server.url}
    argv = clean([str(BIN / "gunicorn"), "-b", f"127.0.0.1:{free_port()}", "wsgi:app"], env)
    with running(argv, cwd=ROOT, env=env) as process:
        assert process.wait(20) == 4
        told = process.text()
    assert "tailer: TAILER_LOG_FORMAT='xml' cannot be used: use one of text, json\n" in told
    assert "Traceback" not in told
