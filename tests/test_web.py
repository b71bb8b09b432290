"""The HTTP side, asked by a real curl: headers, errors, what of a log is shown, and what happens when things break."""

import contextlib
import json
import os
import re
import signal
import subprocess
import zlib

import pytest
import zstandard

from tailer.embedded import EmbeddedServer
from tailer.store import LogStore, connect, meta_key, wake_channel
from tests.processes import free_port, running
from tests.stack import BIN, FORMATS, ROOT, Stack, clean, curl, web_process
from tests.waiting import wait_until
from tests.written import Written

JSON = ("-H", "Accept: application/json")
ASKS = {"text": "text/plain", "sse": "text/event-stream", "ndjson": "application/x-ndjson"}


def header(head, name):
    """The value of a header in an answer's head; None if it is not there."""
    found = re.search(rf"(?mi)^{name}: (.*?)\r?$", head)
    return found[1] if found else None


def shown(stack, log, query="", *arguments):
    """What a text client gets of a log that is over, or of any with follow=0."""
    answer = stack.get(f"/jobs/{log.job_id}/log?{query}", *arguments)
    assert answer.status == 200, answer.body
    return answer.body


@contextlib.contextmanager
def private_stack(server, *arguments, **env):
    """A stack of the test's own, and the web process of it, whose log can then be read."""
    with web_process(server.url, *arguments, env=env) as (web, process), connect(server.url) as connection:
        yield Stack(server.url, web, connection, LogStore(connection)), process


START = 1_700_000_000
"""Of the logs in here: 2023-11-14T22:13:20Z in unix seconds."""
FIRST = b"".join(b"first %d\n" % number for number in range(1, 11)) + b"oops\n"
SECOND = b"".join(b"second \x1b[32m%d\x1b[0m\n" % number for number in range(1, 11)) + b"partial"
FAILED = b"[tailer] failed after 1.0 s\n"


@pytest.fixture
def log(stack):
    """A log of two attempts: lines a second apart, the second attempt's 100 s behind the first one's, which failed."""
    log = Written(stack.store, time=START * 1000)
    for number in range(1, 11):
        log.write(b"first %d\n" % number, time=(START + number) * 1000)
    log.write(b"oops\n", "stderr", time=(START + 11) * 1000)
    log.end("failed", final=False, ended_at=START + 12)
    log.start((START + 100) * 1000)
    for number in range(1, 11):
        log.write(b"second \x1b[32m%d\x1b[0m\n" % number, time=(START + 100 + number) * 1000)
    log.write(b"partial", time=(START + 120) * 1000)
    log.end(ended_at=START + 121)
    return log


# Answers.


@pytest.mark.parametrize("form", FORMATS)
def test_the_format_is_what_accept_asks_for(stack, log, form):
    """Each format has its media type with a charset, comes unbuffered through proxies, and is never stored."""
    answer = stack.get(f"/jobs/{log.job_id}/log", "-H", f"Accept: {ASKS[form]}")
    assert answer.status == 200
    assert header(answer.head, "Content-Type") == f"{ASKS[form]}; charset=utf-8"
    assert header(answer.head, "Cache-Control") == "no-cache, no-transform, private"
    assert header(answer.head, "X-Accel-Buffering") == "no"
    assert header(answer.head, "Transfer-Encoding") == "chunked"
    assert answer.body.startswith({"text": b"first 1\n", "sse": b"retry: ", "ndjson": b'{"cursor":"1:8"'}[form])


@pytest.mark.parametrize(
    "path",
    ["/healthz", "/readyz", "/jobs", "/jobs/{id}", "/jobs/{id}/log", "/jobs/nobody", "/nowhere", "/jobs?limit=x", "/"],
)
def test_every_answer_is_marked_harmless(stack, log, path):
    """A browser is told not to guess its type, to run nothing in it, not to frame it, and not to tell where it was."""
    answer = stack.get(path.format(id=log.job_id))
    assert header(answer.head, "X-Content-Type-Options") == "nosniff"
    assert "default-src 'none'" in header(answer.head, "Content-Security-Policy")
    assert "frame-ancestors 'none'" in header(answer.head, "Content-Security-Policy")
    assert header(answer.head, "Cache-Control").startswith("no-cache")
    assert header(answer.head, "Referrer-Policy") == "no-referrer"
    assert header(answer.head, "Cross-Origin-Resource-Policy") == "same-origin"
    assert "charset=utf-8" in header(answer.head, "Content-Type") or "json" in header(answer.head, "Content-Type")


@pytest.mark.parametrize("form", FORMATS)
def test_head_tells_what_get_would(stack, log, form):
    """HEAD has the status and the headers of GET, no body, and does not wait for the job."""
    log.start()  # so that a GET would wait
    head = stack.get(f"/jobs/{log.job_id}/log?format={form}", "--head", "-m", "10")
    with curl(stack.path(log.job_id, f"format={form}")) as client:
        client.connected()
        names = ("Content-Type", "Cache-Control", "X-Accel-Buffering", "Vary", "Content-Length")
        assert [header(head.head, name) for name in names] == [header(client.head, name) for name in names]
        assert head.status == client.status == 200


@pytest.mark.parametrize(
    ("query", "parameter", "value", "allowed"),
    [
        ("colour=red", "colour", "red", "the parameters are "),
        ("tail=-5", "tail", "-5", "use a number of lines, or all"),
        ("tail=1e3", "tail", "1e3", "use a number of lines, or all"),
        ("follow=maybe", "follow", "maybe", "use 1 or 0"),
        ("since=yesterday", "since", "yesterday", "use a time such as "),
        ("until=2026-11-23T09:30:00", "until", "2026-11-23T09:30:00", "use a time such as "),
        ("offset=12", "offset", "12", "use ATTEMPT:OFFSET"),
        ("offset=9:0", "offset", "9:0", "the log's attempts are 1 to 2"),
        ("offset=2:99999", "offset", "2:99999", "attempt 2 ends at byte "),
        ("lines=5-3", "lines", "5-3", "use A-B with B not before A"),
        ("lines=0", "lines", "0", "use A-B, A- or A"),
        ("lines=1&offset=1:0", "lines", "1", "not together with offset"),
        ("stdout=0&stderr=0", "stderr", "0", "at least one of stdout and stderr must be 1"),
        ("timestamps=2", "timestamps", "2", "use 1 or 0"),
        ("attempt=0", "attempt", "0", "use a whole number from 1"),
        ("ansi=html", "ansi", "html", "use one of keep, strip"),
        ("format=xml", "format", "xml", "use one of text, sse, ndjson"),
        ("heartbeat=5", "heartbeat", "5", "use 1 or 0"),
        ("tail=%00%0a%1b%5b2J", "tail", "\0\n\x1b[2J", "use a number of lines, or all"),
    ],
)
def test_a_bad_parameter_is_named_with_its_value_and_what_is_allowed(stack, log, query, parameter, value, allowed):
    """A 400 says which parameter, which value and what would do: in JSON's members, and in one plain line."""
    path = f"/jobs/{log.job_id}/log?{query}"
    told = stack.get(path, *JSON)
    assert (told.status, header(told.head, "Content-Type")) == (400, "application/problem+json")
    assert told.json["status"] == 400
    assert (told.json["parameter"], told.json["value"]) == (parameter, value)
    assert told.json["allowed"].startswith(allowed)
    line = stack.get(path)
    assert (line.status, header(line.head, "Content-Type")) == (400, "text/plain; charset=utf-8")
    assert line.body.count(b"\n") == 1
    assert line.body.endswith(b"\n")
    assert not re.search(rb"[\x00-\x09\x0b-\x1f]", line.body)
    assert repr(value)[1:-1].encode() in line.body
    assert parameter.encode() in line.body
    assert allowed.encode() in line.body


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x", "status=happy", "before=yesterday", "page=2"])
def test_a_bad_parameter_of_the_list_is_named(stack, query):
    """The list of jobs refuses what it does not know as the log does."""
    told = stack.get(f"/jobs?{query}", *JSON)
    assert told.status == 400
    assert told.json["parameter"] == query.split("=")[0]
    assert told.json["allowed"]


def test_a_query_may_have_7_kib(stack):
    """The server lets it through to Tailer, which says what is too long."""
    answer = stack.get("/jobs?queue=" + "x" * 7000)
    assert (answer.status, answer.json["jobs"]) == (200, [])
    answer = stack.get("/jobs?queue=" + "x" * 7200, "-H", "Accept: application/json")
    assert (answer.status, answer.json["title"]) == (414, "URL too long")


def test_an_id_that_rq_would_not_accept_never_reaches_redis(server):
    """It is a 404 as for any unknown job, and no key is asked for."""
    encoded = ["a%20b", "%7Btailer%7D", "%C3%A4", "a%0Ab", "%00", "a%2Fb", "..%2Fetc", "%FF"]
    with private_stack(server) as (stack, _), stack.connection.monitor() as monitor:
        for name in ("acceptable", "a.b", "a:b", "*", "x" * 201, *encoded):
            for path in (f"/jobs/{name}/log", f"/jobs/{name}"):
                assert stack.get(path, "--path-as-is").status == 404
                stack.connection.echo("asked")
                commands = iter(lambda: monitor.next_command()["command"], "ECHO asked")
                keys = [command for command in commands if " rq:" in command or " tailer:" in command]
                assert bool(keys) == (name == "acceptable"), keys


def test_an_unknown_job_is_a_404(stack):
    """The error says that neither RQ nor the store knows the job."""
    told = stack.get("/jobs/nobody/log", *JSON)
    assert (told.status, told.json["title"]) == (404, "No such job")
    assert "'nobody'" in told.json["detail"]
    assert stack.get("/jobs/nobody").body.startswith(b"tailer: No such job: ")


def test_an_unknown_attempt_is_a_404(stack, log):
    """The error says how many attempts there are."""
    told = stack.get(f"/jobs/{log.job_id}/log?attempt=3", *JSON)
    assert (told.status, told.json["title"]) == (404, "No such attempt")
    assert "it has 2" in told.json["detail"]


@pytest.mark.parametrize("path", ["/jobs/x/log", "/jobs", "/healthz"])
@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT"])
def test_other_methods_are_refused(stack, path, method):
    """Logs are read-only over HTTP: a 405 that says what is allowed."""
    told = stack.get(path, "-X", method, *JSON)
    assert (told.status, told.json["status"]) == (405, 405)
    assert {"GET", "HEAD"} <= set(header(told.head, "Allow").split(", "))
    assert stack.get(path, "-X", method).body.count(b"\n") == 1


def test_an_expired_log_is_a_410(stack):
    """That a log was there once is told for a while after its time was over."""
    log = Written(stack.store)
    log.write(b"gone soon\n")
    log.end()
    for key in (meta_key(log.job_id), f"{meta_key(log.job_id)}:1"):
        assert stack.connection.ttl(key) > 1000
        stack.connection.pexpire(key, 1)  # instead of a week's wait
    answer = wait_until(lambda: (told := stack.get(f"/jobs/{log.job_id}/log", *JSON)).status != 200 and told, 5)
    assert (answer.status, answer.json["title"]) == (410, "Log expired")
    assert stack.get(f"/jobs/{log.job_id}").status == 410


def test_an_expired_log_is_a_410_while_rq_knows_the_job(stack):
    """RQ keeps a failed job for a year: its log is gone, not without output. What RQ says of the job is still told."""
    log = Written(stack.store)
    log.rq_job(stack.connection, "failed")
    log.write(b"gone soon\n")
    log.end("failed")
    stack.connection.delete(meta_key(log.job_id), f"{meta_key(log.job_id)}:1")  # as its time would
    path = f"/jobs/{log.job_id}/log"
    for query in ("", "?follow=0", "?tail=5"):
        assert (answer := stack.get(path + query, *JSON)).status == 410, query
        assert answer.json["title"] == "Log expired"
    assert (told := stack.get(f"/jobs/{log.job_id}").json)["status"] == "failed"
    assert told["attempts"] == []
    stack.connection.hset(f"rq:job:{log.job_id}", "status", "queued")
    assert stack.get(f"{path}?follow=0").status == 200


def test_the_end_was_seen_is_a_204(stack, log):
    """An EventSource that comes back after the `end` event is told to stop; one that has not seen it gets the rest."""
    with stack.follow(log.job_id, formats=["sse"]) as clients:
        end = clients.events()[-1]
    assert (end.name, end.id) == ("end", f"2:{len(SECOND)}:end")
    path = f"/jobs/{log.job_id}/log?format=sse"
    assert stack.get(path, "-H", f"Last-Event-ID: {end.id}").status == 204
    assert stack.get(f"{path}&lastEventId={end.id}").status == 204
    again = stack.get(path, "-H", f"Last-Event-ID: 2:{len(SECOND)}")
    assert again.status == 200
    assert b"event: end\n" in again.body
    assert b"second" not in again.body


def test_the_end_of_an_attempt_was_seen_is_a_204(stack):
    """Who wants that attempt only is told to stop when it has ended, though the job is to run again."""
    log = Written(stack.store)
    log.write(b"first\n")
    log.end("failed", final=False)
    log.rq_job(stack.connection, "scheduled")
    path = f"/jobs/{log.job_id}/log?format=sse&attempt=1"
    assert b"event: end\n" in stack.get(path).body
    assert stack.get(path, "-H", "Last-Event-ID: 1:6:end").status == 204
    assert stack.get(f"{path}&follow=0", "-H", "Last-Event-ID: 1:6").status == 200


def test_health_and_readiness(server):
    """`/healthz` says that the process answers, `/readyz` that Redis does; neither needs the other."""
    with web_process(server.url) as (web, _):

        def ask(path):
            with curl(f"{web}{path}", "-m", "30") as client:
                assert client.wait() == 0
                return client.status, client.body

        assert ask("/healthz") == ask("/readyz") == (200, b"ok\n")
        server.stop()
        assert ask("/healthz") == (200, b"ok\n")
        status, body = ask("/readyz")
        assert status == 503
        assert body.startswith(b"tailer: Redis is not reachable: ")
        server.start()
        assert ask("/readyz") == (200, b"ok\n")


def test_redis_down_when_asked(server):
    """A request that needs Redis gets a 503 that says when to come back; an EventSource gets it inside a stream.

    It would never come back after a status other than 200 (WHATWG HTML, section 9.2.3).
    """
    with Stack.on(server.url) as stack:
        server.stop()
        for path in ("/jobs/x/log", "/jobs/x", "/jobs"):
            told = stack.get(path, *JSON)
            assert (told.status, told.json["title"]) == (503, "Redis is not reachable")
            assert int(header(told.head, "Retry-After")) >= 1
        for arguments in (["/jobs/x/log?format=sse"], ["/jobs/x/log", "-H", "Accept: text/event-stream"]):
            told = stack.get(*arguments)
            assert (told.status, header(told.head, "Content-Type")) == (200, "text/event-stream; charset=utf-8")
            assert told.body.startswith(b"retry: 2000\n\n")
            name, data = told.body.split(b"\n\n")[1].split(b"\n")
            assert name == b"event: error"
            assert json.loads(data.removeprefix(b"data: "))["status"] == 503


# What of a log is shown.


def test_the_whole_log(stack, log):
    """Without parameters a client gets all attempts, byte for byte."""
    assert shown(stack, log) == FIRST + SECOND
    assert shown(stack, log, "follow=0") == FIRST + SECOND


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("tail=0", b""),
        ("tail=1", b"partial"),
        ("tail=2", b"second \x1b[32m10\x1b[0m\npartial"),
        ("tail=12", b"oops\n" + SECOND),
        ("tail=13", b"first 10\noops\n" + SECOND),
        ("tail=1000", FIRST + SECOND),
        ("tail=all", FIRST + SECOND),
        ("tail=2&attempt=1", b"first 10\noops\n" + FAILED),
        ("attempt=1", FIRST + FAILED),
        ("attempt=2", SECOND),
        ("since=1700000009", b"first 9\nfirst 10\noops\n" + SECOND),
        ("since=1700000009.5", b"first 10\noops\n" + SECOND),
        ("since=2023-11-14T22:15:09%2B00:00", b"second \x1b[32m9\x1b[0m\nsecond \x1b[32m10\x1b[0m\npartial"),
        ("since=10m", b""),
        ("until=1700000002", b"first 1\nfirst 2\n"),
        ("since=1700000002&until=1700000003", b"first 2\nfirst 3\n"),
        ("offset=1:8", FIRST[8:] + SECOND),
        ("offset=1:3", FIRST[3:] + SECOND),
        ("offset=2:0", SECOND),
        (f"offset=2:{len(SECOND)}", b""),
        ("lines=2", b"second \x1b[32m2\x1b[0m\n"),
        ("lines=2-3&attempt=1", b"first 2\nfirst 3\n"),
        ("lines=10-&attempt=1", b"first 10\noops\n" + FAILED),
        ("lines=11-&attempt=2", b"partial"),
        ("lines=500", b""),
        ("stdout=1&attempt=1", FIRST.removesuffix(b"oops\n") + FAILED),
        ("stderr=1&attempt=1", b"oops\n" + FAILED),
        ("stderr=0&attempt=1", FIRST.removesuffix(b"oops\n") + FAILED),
        ("stdout=1&stderr=1&attempt=1", FIRST + FAILED),
        ("ansi=strip&attempt=2", re.sub(rb"\x1b\[\d+m", b"", SECOND)),
        ("timestamps=1&lines=9-10&attempt=1", b"2023-11-14T22:13:29.000Z first 9\n2023-11-14T22:13:30.000Z first 10\n"),
    ],
)
@pytest.mark.parametrize("follow", ["", "&follow=0"])
def test_a_part_of_the_log(stack, log, query, wanted, follow):
    """Each parameter shows the bytes that it names, and no others, whether the log is followed or not."""
    assert shown(stack, log, query + follow) == wanted


@pytest.mark.parametrize("form", FORMATS)
def test_a_snapshot_does_not_wait(stack, form):
    """With follow=0 the answer to a log that is still written is what it has now, without an end."""
    log = Written(stack.store)
    log.rq_job(stack.connection, "started")
    log.write(b"so far\n")
    body = shown(stack, log, f"follow=0&format={form}")
    assert b"so far" in body
    assert b"outcome" not in body


@pytest.mark.parametrize("form", ["sse", "ndjson"])
def test_a_resumed_stream_begins_strictly_behind_the_cursor(stack, log, form):
    """From the cursor of any record a client gets all that is behind it, and not that record again."""
    records = [json.loads(line) for line in shown(stack, log, "format=ndjson").splitlines()]
    lines = [record for record in records if "text" in record]
    for seen in (0, 4, 10, 11, len(lines) - 1):
        cursor = lines[seen]["cursor"]
        answer = stack.get(f"/jobs/{log.job_id}/log?follow=0&format={form}&json=1", "-H", f"Last-Event-ID: {cursor}")
        texts = re.findall(rb'"text":"([^"]*)"', answer.body)
        assert [json.loads(b'"%s"' % text) for text in texts] == [line["text"] for line in lines[seen + 1 :]]


def test_a_text_stream_resumes_at_the_byte(stack, log):
    """From any byte, in the middle of a line too, the rest of the log is what was not received yet."""
    for offset in (1, 7, 50, len(FIRST)):
        assert shown(stack, log, f"offset=1:{offset}") == (FIRST + SECOND)[offset:]


# While the job runs.


def test_the_first_byte_comes_within_a_second(stack):
    """A client of a job that only waits in its queue is answered at once: Heroku gives it thirty seconds."""
    job = stack.queue().enqueue("tests.jobs.hello")
    asked = ("-m", "2", "-o", os.devnull, "-w", "%{http_code} %{time_starttransfer}")
    with contextlib.ExitStack() as held:
        for client in [held.enter_context(curl(stack.path(job.id, f"format={form}"), *asked)) for form in FORMATS]:
            assert client.wait() == 28  # its time is over, and the job still waits
            status, seconds = client.body.split()
            assert (status, float(seconds) < 1) == (b"200", True), seconds


def test_heartbeats_on_all_formats(server):
    """Where nothing comes for TAILER_HEARTBEAT seconds, proxies see a sign of life that the format ignores."""
    with Stack.on(server.url, env={"TAILER_HEARTBEAT": "1"}) as stack:
        log = Written(stack.store)
        log.rq_job(stack.connection, "started")
        log.write(b"line\n")
        with stack.follow(log.job_id, "heartbeat=1") as beating, stack.follow(log.job_id, formats=["text"]) as quiet:
            wait_until(lambda: [event.name for event in beating["sse"].events].count("ping") >= 2)
            wait_until(lambda: beating["ndjson"].body.endswith(b"\n\n\n"))
            wait_until(lambda: beating["text"].body == b"line\n\0\0")
            log.end()
            beating.wait()
            assert quiet.text() == b"line\n"  # nothing in it that the job did not write, unless asked for


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_compressed_streams_can_be_read_as_they_come(stack, coding):
    """With Accept-Encoding each batch is flushed: the first line can be unpacked long before the job ends."""
    unpack = {
        "gzip": lambda: zlib.decompressobj(wbits=31),
        "zstd": lambda: zstandard.ZstdDecompressor().decompressobj(read_across_frames=True),
    }
    log = Written(stack.store)
    log.rq_job(stack.connection, "started")
    with curl(stack.path(log.job_id), "-H", f"Accept-Encoding: {coding}") as client:
        client.connected()
        assert header(client.head, "Content-Encoding") == coding
        assert header(client.head, "Vary") == "Accept-Encoding"
        for number in range(3):
            log.write(b"line %d\n" % number)
            wanted = b"".join(b"line %d\n" % n for n in range(number + 1))
            wait_until(lambda wanted=wanted: unpack[coding]().decompress(client.body) == wanted)
        log.write(b"many lines\n" * 100_000)
        log.end()
        assert client.wait() == 0
        whole = client.body
    assert unpack[coding]().decompress(whole) == wanted + b"many lines\n" * 100_000
    assert len(whole) < 100_000


@pytest.mark.parametrize("accepted", ["br", "gzip;q=0", "identity"])
def test_what_the_client_does_not_take_is_not_sent(stack, log, accepted):
    """A client that takes neither zstd nor gzip gets plain bytes."""
    answer = stack.get(f"/jobs/{log.job_id}/log", "-H", f"Accept-Encoding: {accepted}")
    assert header(answer.head, "Content-Encoding") is None
    assert answer.body == FIRST + SECOND


def test_server_sent_events_are_never_compressed(stack, log):
    """Some proxies hold compressed events back, so they go out plain."""
    answer = stack.get(f"/jobs/{log.job_id}/log?format=sse", "-H", "Accept-Encoding: gzip, zstd")
    assert header(answer.head, "Content-Encoding") is None


# What breaks.


def test_an_unreadable_element_is_shown_as_a_hole(server):
    """Something in the list that is no record is told with its size, logged, and does not end the stream."""
    with web_process(server.url) as (web, process), connect(server.url) as connection:
        stack = Stack(server.url, web, connection, LogStore(connection))
        log = Written(stack.store)
        log.rq_job(connection, "started")
        log.write(b"before\n")
        with stack.follow(log.job_id, "json=1") as live:
            wait_until(lambda: b"before" in live["text"].body)
            log.corrupt(1000, 10)
            log.write(b"behind\n")
            log.end()
            with stack.follow(log.job_id, "json=1") as late:
                for clients in (live, late):
                    line = b"before\n[tailer] 1000 bytes are missing here: unreadable in the store\nbehind\n"
                    assert clients.text() == line
                    for told in (clients.records(), [e.json for e in clients.events() if e.name in {"", "hole"}]):
                        (hole,) = [record for record in told if "missing" in record]
                        assert (hole["missing"], hole["line"], hole["cause"]) == (1000, 2, "unreadable in the store")
                        (behind,) = [record for record in told if record.get("text") == "behind"]
                        assert (behind["line"], behind["cursor"]) == (12, "1:1014")
        # Behind byte 0 or 7: where the read began in which the element came.
        assert re.search(rf"job {log.job_id}, attempt 1, behind byte [07]: not a record", process.text())


def test_an_error_behind_the_first_byte_is_told_apart_from_an_end(server):
    """A stream that fails is not mistaken for a log that is over, and the failure is in the server's log once each.

    Text and NDJSON lack HTTP's last chunk, so curl exits 18; server-sent events get an `error` event. A log that can
    still be read is followed on.
    """
    with private_stack(server) as (stack, process):
        log, other = Written(stack.store), Written(stack.store)
        for one in (log, other):
            one.rq_job(stack.connection, "started")
            one.write(b"before\n")
        with stack.follow(log.job_id) as clients, stack.follow(other.job_id) as others:
            wait_until(lambda: all(b"before" in clients[form].body for form in FORMATS))
            key = f"tailer:{{{log.job_id}}}"
            stack.connection.set(f"{key}:1", "not a list")
            stack.connection.hset(key, "1.end", 999)
            stack.connection.publish(wake_channel(log.job_id), "1")
            assert clients.wait() == {"text": 18, "sse": 0, "ndjson": 18}
            assert clients["text"].body == b"before\n"
            (error,) = [event for event in clients["sse"].events if event.name == "error"]
            assert (error.json["status"], error.json["title"]) == (500, "Unreadable record")
            assert not [event for event in clients["sse"].events if event.name == "end"]
            other.write(b"behind\n")
            other.end()
            assert others.text() == b"before\nbehind\n"
        said = process.text()
        assert said.count("a stream ends early") == 2, said
        assert said.count("a stream of server-sent events ends early") == 1, said
        answer = stack.get(f"/jobs/{log.job_id}/log?lines=2", *JSON)
        assert answer.status == 500
        assert "WRONGTYPE" in answer.json["detail"]


def test_redis_going_away_cuts_a_snapshot(server):
    """A snapshot never waits, so without Redis it ends early, and its client can tell."""
    with private_stack(server) as (stack, process):
        log = Written(stack.store)
        for _ in range(64):
            log.write(os.urandom(1 << 20))
        log.end()
        with contextlib.ExitStack() as held:
            slow = {
                form: held.enter_context(curl(stack.path(log.job_id, f"follow=0&format={form}"), "--limit-rate", "10M"))
                for form in ("text", "sse")
            }
            wait_until(lambda: all(client.body for client in slow.values()))
            server.stop(signal.SIGKILL)
            assert slow["text"].wait(60) == 18
            assert slow["sse"].wait(60) == 0
            assert slow["sse"].events[-1].name == "error"
            assert slow["sse"].events[-1].json["status"] == 503
        assert process.text().count("a stream of server-sent events ends early") == 1
        assert process.text().count("a stream ends early") == 1


def test_only_loopback_is_served_by_default(server):
    """A client from elsewhere gets a 403 that says how to open the logs; health is told to everybody."""
    told = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=False).stdout.split()
    elsewhere = [address for address in told if "." in address and not address.startswith("127.")][:1]
    for auth, status in (("loopback", 403), ("none", 200)):
        port = free_port()
        with web_process(server.url, "-b", f"0.0.0.0:{port}", env={"TAILER_AUTH": auth}):

            def ask(path, host, port=port):
                with curl(f"http://{host}:{port}{path}", *JSON, "--noproxy", "*") as client:
                    assert client.wait() == 0
                    return client.status, client.body

            assert ask("/jobs", "127.0.0.1")[0] == 200
            for host in elsewhere:  # a machine may have none; the next test does without
                assert ask("/healthz", host)[0] == ask("/readyz", host)[0] == 200
                got, body = ask("/jobs", host)
                assert got == status
                assert (b"TAILER_AUTH=none" in body) == (status == 403)


def numbered(data):
    """How many lines there are, if they are those of tests.real_jobs.counting, each once and in order; else None."""
    count = data.count(b"\n")
    return count if data == b"".join(b"line %d\n" % number for number in range(1, count + 1)) else None


@contextlib.contextmanager
def counting(server, place, *arguments):
    """Run a job that prints numbered lines, with three clients on it; yields the stack, the web process and them.

    After the block the job is let go on to its end, and each client must have got every line once.
    """
    with private_stack(server, *arguments) as (stack, process):
        queue = stack.queue()
        job = queue.enqueue("tests.real_jobs.counting", str(place))
        with stack.follow(job.id, "json=1") as clients, stack.worker(queue) as worker:
            try:
                wait_until(lambda: clients["text"].body.count(b"\n") > 100, 20)
                yield stack, process, clients
                seen = numbered(clients["text"].body[: clients["text"].body.rindex(b"\n") + 1])
                assert seen, "lines lost or doubled"
                wait_until(lambda: clients["text"].body.count(b"\n") > seen + 100, 30, "new lines behind the outage")
            finally:
                (place / "go").touch()
            end = stack.log(job.id, timeout=40).end
            assert (end.outcome, end.dropped) == ("finished", 0), worker.text()
            assert clients.wait() == {"text": 0, "sse": 0, "ndjson": 0}
            assert numbered(clients["text"].body) == end.lines
            for lines in (clients.records(), [e.json for e in clients.events() if not e.name]):
                texts = [record["text"] for record in lines if "text" in record]
                assert texts == [f"line {number}" for number in range(1, end.lines + 1)]
        assert "Traceback" not in process.text()


def test_redis_stands_still_while_followed(server, tmp_path):
    """Through a Redis that does not answer for longer than any timeout, nothing is lost, doubled or cut off."""
    with counting(server, tmp_path) as (_, process, _):
        os.kill(server.pid, signal.SIGSTOP)
        try:
            process.says("followers wait for Redis", 20)
        finally:
            os.kill(server.pid, signal.SIGCONT)


def test_redis_restarts_while_followed(tmp_path):
    """Through a restart of a Redis that keeps its data, nothing is lost, doubled or cut off."""
    with (
        EmbeddedServer(extra=("--appendonly", "yes", "--appendfsync", "always")) as server,
        counting(server, tmp_path) as (_, process, _),
    ):
        server.stop(signal.SIGKILL)
        process.says("followers wait for Redis", 20)
        server.start()


def test_redis_forgets_everything_while_followed(server, tmp_path):
    """Through a restart of a Redis that keeps nothing, the worker sends again what it still has: no line is lost."""
    with counting(server, tmp_path) as (_, process, _):
        server.stop(signal.SIGKILL)
        process.says("followers wait for Redis", 20)
        server.start()


# Settings and servers.


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("TAILER_TTL", "5", "at least 60 s"),
        ("TAILER_HEARTBEAT", "nan", "seconds, at least 1"),
        ("TAILER_AUTH", "open", "use one of loopback, none"),
        ("TAILER_REDIS_URL", "http://localhost", "use redis://"),
        ("REDIS_URL", "localhost:6379", "use redis://"),
        ("TAILER_CAPTURE", "tty", "use one of separate, merged, pty"),
        ("TAILER_BUFFER", "8 apples", "at least 64KiB"),
        ("TAILER_CONSOLE", "perhaps", "use 1 or 0"),
    ],
)
def test_a_bad_setting_stops_the_web_side_with_one_line(variable, value, allowed):
    """The server ends at once, and of what it says one line is ours: the variable, its value and what would do."""
    argv = clean([str(BIN / "gunicorn"), "-b", f"127.0.0.1:{free_port()}", "wsgi:app"])
    with running(argv, cwd=ROOT, env={"REDIS_URL": "redis://127.0.0.1:1/0", variable: value}) as process:
        assert process.wait(20) != 0
        said = process.text()
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("tailer: ")]
    assert line.startswith(f"tailer: {variable}=")
    assert allowed in line
