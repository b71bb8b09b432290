"""`GET /logs`: several logs and the list of jobs in one response, as a page with panes reads them."""

import base64
import contextlib

import pytest

from tailer.store import LogStore, connect
from tests.stack import Stack, curl
from tests.waiting import wait_until
from tests.web_servers import SERVERS, connections_to, listeners, served
from tests.written import Written

PANE = "format=sse&json=chunks"
"""How a page with panes reads logs."""


def started(stack):
    """A log that a job writes just now."""
    log = Written(stack.store)
    log.rq_job(stack.connection, "started")
    return log


def finish(stack, log, outcome="finished"):
    """End it, for RQ too."""
    log.rq_job(stack.connection, outcome)
    log.end(outcome)


def told(client):
    """What each job's events are, by job; those of no job are the list's."""
    job, by_job = "", {}
    for event in client.events:
        if event.name == "job":
            job = event.json["job"]
        else:
            by_job.setdefault("" if event.name in {"jobs", "ping"} else job, []).append(event)
    return by_job


def output(events):
    """The bytes of the output among events."""
    records = [event.json for event in events if event.name == ""]
    return b"".join(
        record["text"].encode() if "text" in record else base64.b64decode(record["base64"]) for record in records
    )


def query(*logs, **more):
    """The parameters for these logs."""
    return "&".join([*(f"job={log.job_id}" for log in logs), *(f"{name}={value}" for name, value in more.items())])


@contextlib.contextmanager
def following(web, *logs, **more):
    """A curl on the logs for the block, which begins when it has an answer."""
    with curl(f"{web}/logs?{PANE}&{query(*logs, **more)}") as client:
        yield client.connected()


def test_several_logs_come_in_one_response_each_with_all_its_bytes(stack):
    """Old output and new, whatever bytes it is, with cursors and the end of each; then the response is complete."""
    logs = [started(stack) for _ in range(3)]
    for number, log in enumerate(logs):
        log.write(b"old %d\n" % number)
    with following(stack.web, *logs) as client:
        wait_until(lambda: len(told(client)) == 3)
        for number, log in enumerate(logs):
            log.write(b"\xff\x00new %d\r\xe2\x82" % number, "stderr")
            log.write(b"\xac\n")
            finish(stack, log)
        assert client.wait() == 0
        for number, log in enumerate(logs):
            events = told(client)[log.job_id]
            assert output(events) == b"old %d\n\xff\x00new %d\r\xe2\x82\xac\n" % (number, number)
            assert [event.name for event in events][-1] == "end"
            assert f"{log.job_id}@{log.at}:end" in events[-1].id.split(",")


def test_a_log_goes_on_from_its_cursor(stack):
    """Behind `@` stands where to go on, in any attempt."""
    log = started(stack)
    log.write(b"seen\n")
    at = log.at
    log.write(b"unseen\n")
    finish(stack, log)
    with curl(f"{stack.web}/logs?{PANE}&job={log.job_id}@{at}") as client:
        assert client.wait() == 0
        assert output(told(client)[log.job_id]) == b"unseen\n"


def test_an_unknown_job_is_told_of_and_the_others_go_on(stack):
    """The error is an event of that job alone, with HTTP's status."""
    log = started(stack)
    nobody = Written(stack.store).job_id + "x"
    with curl(f"{stack.web}/logs?{PANE}&job={nobody}&job={log.job_id}") as client:
        log.write(b"here\n")
        finish(stack, log)
        assert client.wait() == 0
        (error,) = told(client)[nobody]
        assert (error.name, error.json["status"]) == ("error", 404)
        assert output(told(client)[log.job_id]) == b"here\n"


def test_a_busy_log_does_not_keep_the_others_waiting(stack):
    """A long backlog of one and a line of the other: the line comes before the backlog has."""
    busy, quiet = started(stack), started(stack)
    for _ in range(40):
        busy.write(b"x" * 63 + b"\n" + b"y" * 65472)
    quiet.write(b"a line\n")
    finish(stack, busy)
    finish(stack, quiet)
    with following(stack.web, busy, quiet) as client:
        assert client.wait() == 0
        first, last = [event.id.split(",") for event in client.events if event.name == "end"]
        assert [part.endswith(":end") for part in first] == [part.startswith(quiet.job_id) for part in first]
        assert sorted(last) == sorted(f"{log.job_id}@{log.at}:end" for log in (busy, quiet))


def test_the_list_is_told_and_then_what_changes_in_it(stack):
    """All jobs at first; then those that are new or different, and the order of all, within two seconds."""
    before = started(stack)
    with following(stack.web, list=1) as client:
        # The first may be a second old, if others look at the list.
        wait_until(lambda: any(before.job_id in event.json["order"] for event in told(client).get("", [])), 5)
        first = told(client)[""][0]
        assert {job["job_id"] for job in first.json["jobs"]} == set(first.json["order"])
        known = len(told(client)[""])
        after = started(stack)

        def changed():
            return [event.json for event in told(client)[""][known:] if event.name == "jobs"]

        wait_until(lambda: any(after.job_id in change["order"] for change in changed()), 5)
        (change,) = [change for change in changed() if after.job_id in {job["job_id"] for job in change["jobs"]}]
        assert before.job_id not in {job["job_id"] for job in change["jobs"]}
        finish(stack, after, "failed")
        wait_until(
            lambda: any(job["outcome"] == "failed" for change in changed() for job in change["jobs"]),
            5,
        )
    finish(stack, before)


def test_who_cannot_wait_gets_what_is_there(stack):
    """With `follow=0` the response ends at once, also of jobs that still run."""
    log, other = started(stack), started(stack)
    log.write(b"so far\n")
    with curl(f"{stack.web}/logs?{PANE}&{query(log, other, list=1, follow=0)}") as client:
        assert client.wait(5) == 0
        assert output(told(client)[log.job_id]) == b"so far\n"
        assert [event.name for event in told(client)[""]] == ["jobs"]
        assert "end" not in [event.name for event in client.events]


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ("", "job"),
        ("job=", "job"),
        ("job=a@b", "job"),
        ("job=a@1:2:3", "job"),
        ("job=..%2f", "job"),
        ("&".join(f"job=j{number}" for number in range(33)), "job"),
        ("list=maybe", "list"),
        ("list=1&follow=never", "follow"),
        ("jobs=a", "jobs"),
    ],
)
def test_a_bad_parameter_is_named(stack, asked, named):
    """With what is allowed instead."""
    answer = stack.get(f"/logs?{PANE}&{asked}", "-H", "Accept: application/json")
    assert (answer.status, answer.json["parameter"]) == (400, named)
    assert answer.json["allowed"]


@pytest.mark.parametrize("kind", SERVERS)
def test_every_server_sends_several_logs_at_once_and_notices_who_leaves(server, kind):
    """New lines come within a second, whichever log they are of; a client that has left is freed within five."""
    with served(kind, server.url) as (url, _), connect(server.url) as connection:
        stack = Stack(server.url, url, connection, LogStore(connection))
        logs = [started(stack), started(stack)]
        with following(url, *logs) as client:
            wait_until(lambda: [listeners(stack.connection, log.job_id) for log in logs] == [1, 1])
            for number in range(6):
                log = logs[number % 2]
                log.write(b"%d\n" % number)
                wait_until(
                    lambda log=log, number=number: b"%d\n" % number in output(told(client).get(log.job_id, [])), 1
                )
        wait_until(lambda: [listeners(stack.connection, log.job_id) for log in logs] == [0, 0], 5)
        wait_until(lambda: connections_to(url) == 0, 5)
