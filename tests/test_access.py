"""Access on the real stack: what each credential reads, that nothing else is told with it, and when it ends."""

import contextlib
import re
import time

import pytest
from rq import Queue
from rq.serializers import JSONSerializer

from tailer.arrivals import Arrivals
from tailer.board import Board, View
from tailer.channel import Pause
from tailer.embedded import EmbeddedServer
from tailer.errors import StoreUnavailable
from tailer.hub import Hub
from tailer.jobs import Jobs
from tailer.many import Many
from tailer.many_formats import body
from tailer.many_query import ManyQuery
from tailer.readers import Reader
from tailer.store import LogStore, connect, meta_key
from tests.processes import leftovers, shared
from tests.stack import FORMATS, Stack, curl, parse_events, web_process
from tests.test_many import PANE, output, told
from tests.waiting import wait_until
from tests.web_servers import LENDING, SERVERS, connections_to, listeners, served
from tests.written import Written

ALL, HERS, LIMITED = "a-token-for-everything", "a-token-for-one-queue", "a-token-for-a-function"
KEY = "a key to sign links with"
TOKENS = f"all:{ALL}:admin hers:{HERS}:queue=hers limited:{LIMITED}:function=tests.jobs.h*"
ENV = {"TAILER_TOKENS": TOKENS, "TAILER_SECRET_KEY": KEY.replace(" ", "-")}
BROWSER = ("-H", "Accept: text/html", "-H", "User-Agent: Mozilla/5.0")
JSON = ("-H", "Accept: application/json")


def bearer(token):
    """The header, as curl takes it."""
    return ("-H", f"Authorization: Bearer {token}")


@pytest.fixture(scope="module")
def guarded():
    """A stack that wants tokens, for all tests here."""
    with EmbeddedServer() as server, Stack.on(server.url, env=ENV) as whole:
        shared.update(leftovers(""))
        yield whole


def written(stack, queue, status="started", data=b"a secret\n"):
    """A log of a job in that queue, begun or, with another status, ended."""
    log = Written(stack.store, queue=queue)
    log.rq_job(stack.connection, status)
    log.write(data)
    if status != "started":
        log.end(status)
    return log


def link_to(stack, job_id, duration="1h"):
    """The parameter with which a link reads the job."""
    made = stack.get(f"/jobs/{job_id}/link?for={duration}", "-X", "POST", *bearer(ALL))
    assert made.status == 201, made.body
    assert made.json["url"].partition("?")[2] == made.json["log_url"].partition("?")[2]
    return made.json["url"].partition("?")[2]


# What is told.


@pytest.mark.parametrize(
    "path",
    [
        "/jobs/{id}",
        "/jobs/{id}/log",
        "/jobs/{id}/log?format=sse",
        "/jobs/{id}/log?format=ndjson&follow=0",
        "/jobs/{id}/log?attempt=7",
        "/jobs/{id}/log?offset=1:99999",
        "/jobs/{id}/log?tail=-1",
        "HEAD /jobs/{id}/log",
        f"/logs?{PANE}&job={{id}}",
        f"/logs?{PANE}&job={{id}}&job=nobody&follow=0",
    ],
)
@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/event-stream"])
def test_who_may_not_read_a_job_cannot_tell_whether_it_exists(guarded, path, accept):
    """Running, ended, waiting, expired or never there: the same answer, in each header and each byte."""
    running, ended = written(guarded, "others"), written(guarded, "others", "finished")
    expired = written(guarded, "others", "finished")
    guarded.connection.delete(meta_key(expired.job_id), f"{meta_key(expired.job_id)}:1", f"rq:job:{expired.job_id}")
    waiting = Queue("others", connection=guarded.connection).enqueue("tests.jobs.fail")
    ids = [running.job_id, ended.job_id, expired.job_id, waiting.id, "nobody-knows-this-one"]
    foreign = link_to(guarded, written(guarded, "hers").job_id)
    link = f"{'&' if '?' in path else '?'}{foreign}"
    for more, credential in (("", bearer(HERS)), ("", bearer(LIMITED)), (link, ())):
        answers = set()
        for job_id in ids:
            where = path.format(id=job_id).removeprefix("HEAD ") + more
            how = ("--head",) if path.startswith("HEAD") else ()
            answer = guarded.get(where, "-H", f"Accept: {accept}", "-m", "20", *how, *credential)
            # Lengths differ with those of the ids, requests have ids of their own; of a HEAD, curl prints the headers.
            head = re.sub(r"(?m)^(Date|Content-Length|X-Request-ID): .*$", "", answer.head)
            body = b"" if how else answer.body.replace(job_id.encode(), b"ID")
            answers.add((answer.status, head, body))
        assert len(answers) == 1, answers
        assert next(iter(answers))[0] in {404, 200, 400}
        assert b"secret" not in next(iter(answers))[2]


def test_a_job_that_is_not_for_one_cannot_be_linked_to(guarded):
    """Nor can one that does not exist; and a browser gets the page of any id, which knows nothing."""
    hidden = written(guarded, "others")
    for job_id in (hidden.job_id, "nobody"):
        assert guarded.get(f"/jobs/{job_id}/link", "-X", "POST", *bearer(HERS)).status == 404
    pages = {guarded.get(f"/jobs/{job_id}", *BROWSER, *bearer(HERS)).body for job_id in (hidden.job_id, "nobody")}
    assert len(pages) == 1


def test_a_token_reads_what_it_is_for(guarded):
    """In every format, alone and together with others, of which nothing is told."""
    mine, other = written(guarded, "hers", "finished", b"hers\n"), written(guarded, "others", "finished")
    for name in FORMATS:
        answer = guarded.get(f"/jobs/{mine.job_id}/log?format={name}", *bearer(HERS))
        assert (answer.status, b"hers" in answer.body) == (200, True)
    with curl(f"{guarded.web}/logs?{PANE}&job={mine.job_id}&job={other.job_id}", *bearer(HERS)) as client:
        assert client.wait() == 0
        assert output(told(client)[mine.job_id]) == b"hers\n"
        (error,) = told(client)[other.job_id]
        assert (error.name, error.json["status"]) == ("error", 404)
    assert guarded.get(f"/jobs/{other.job_id}/log", *bearer(ALL)).body == b"a secret\n"
    assert guarded.get(f"/jobs/{other.job_id}/log", "-u", f"anybody:{ALL}").body == b"a secret\n"


def test_a_job_that_was_in_another_queue_is_not_read_by_its_last(guarded):
    """An attempt in a queue that is not for one stays unread, wherever the job went then."""
    log = written(guarded, "others", "finished")
    log.start(queue="hers")
    log.end()
    guarded.connection.hset(f"rq:job:{log.job_id}", "origin", "hers")
    assert guarded.get(f"/jobs/{log.job_id}", *bearer(HERS)).status == 404


def pages_of(stack, credential, query=""):
    """All pages of the list, and what was said of the next one each time."""
    jobs, nexts, before = [], [], ""
    for _ in range(30):
        answer = stack.get(f"/jobs?limit=2{query}{before}", *credential)
        assert answer.status == 200, answer.body
        jobs += [job["job_id"] for job in answer.json["jobs"]]
        nexts.append(answer.json["next"])
        if nexts[-1] is None:
            return jobs, nexts
        before = f"&before={nexts[-1]}"
    raise AssertionError("too many pages")


def test_lists_hold_what_one_may_read_and_so_do_their_pages(server):
    """Page by page exactly the jobs of a token's queue, each once, and no other's id anywhere in the answers."""
    with Stack.on(server.url, env=ENV) as stack:
        hidden = [written(stack, "others", "finished").job_id for _ in range(5)]
        own = []
        for number in range(7):
            own.append(written(stack, "hers", "finished").job_id)
            hidden += [written(stack, "others", "finished").job_id for _ in range(number % 3)]
        others = Queue("also-others", connection=stack.connection)
        hidden += [others.enqueue("tests.jobs.fail").id for _ in range(3)]
        own_waiting = [Queue("hers", connection=stack.connection).enqueue("tests.jobs.fail").id for _ in range(3)]
        jobs, nexts = pages_of(stack, bearer(HERS))
        assert sorted(jobs) == sorted([*own, *own_waiting[:2]])  # of those that wait, the first page has the first
        for job_id in hidden:
            assert not [place for place in nexts if place and job_id in place]
        assert pages_of(stack, bearer(HERS), "&queue=others")[0] == []
        assert sorted(pages_of(stack, bearer(ALL))[0])[:1]
        with following_with(stack, "list=1", HERS) as client:
            wait_until(lambda: "" in told(client))
            first = told(client)[""][0].json
            assert sorted(first["order"]) == sorted([*own, *own_waiting])
            assert {job["job_id"] for job in first["jobs"]} == set(first["order"])
            with following_with(stack, "list=1", ALL) as other:
                wait_until(lambda: "" in told(other))
                new = written(stack, "others")
                wait_until(lambda: any(new.job_id in event.json.get("order", ()) for event in told(other)[""]), 5)
                mine = written(stack, "hers")
                wait_until(lambda: any(mine.job_id in event.json.get("order", ()) for event in told(client)[""]), 5)
            assert new.job_id not in client.body.decode()
            assert not set(hidden) & set(re.findall(r"[\w-]+", client.body.decode()))


@contextlib.contextmanager
def following_with(stack, query, token):
    """A curl on `/logs` for the block, with that token."""
    with curl(f"{stack.web}/logs?{PANE}&{query}", *bearer(token)) as client:
        yield client.connected()


def test_a_function_limits_too(guarded):
    """From before the job runs until RQ has forgotten it, and whatever its description says."""
    queue = guarded.queue()
    mine = queue.enqueue("tests.jobs.hello", description="nothing of interest")
    other = queue.enqueue("tests.jobs.fail", description="tests.jobs.hello()")
    in_json = Queue(f"{queue.name}-json", connection=guarded.connection, serializer=JSONSerializer)
    as_json = in_json.enqueue("tests.jobs.hello")

    def readable():
        listed = [job["job_id"] for job in guarded.get("/jobs?limit=500", *bearer(LIMITED)).json["jobs"]]
        for job in (mine, other, as_json):
            status = guarded.get(f"/jobs/{job.id}", *bearer(LIMITED)).status
            assert (status == 200) == (job.id in listed), job
        return {job.id for job in (mine, other, as_json)} & set(listed)

    assert readable() == {mine.id, as_json.id}
    guarded.work(queue)
    with guarded.worker(in_json, "--burst", "--serializer", "rq.serializers.JSONSerializer") as process:
        assert process.wait(30) == 0, process.text()
    assert readable() == {mine.id, as_json.id}
    assert guarded.get(f"/jobs/{as_json.id}/log", *bearer(LIMITED)).body == b"hello\n"
    guarded.connection.delete(f"rq:job:{mine.id}", f"rq:job:{other.id}")
    assert readable() == {mine.id, as_json.id}


# Links.


def test_a_link_reads_its_log_in_every_format_and_nothing_else(guarded):
    """As text, events and records, in parts, together with what is told of the job, and on the stream of its page."""
    log = written(guarded, "others", "finished")
    link = link_to(guarded, log.job_id)
    for name in FORMATS:
        answer = guarded.get(f"/jobs/{log.job_id}/log?format={name}&{link}")
        assert (answer.status, b"a secret" in answer.body) == (200, True)
    assert guarded.get(f"/jobs/{log.job_id}/log?tail=1&{link}").body == b"a secret\n"
    assert guarded.get(f"/jobs/{log.job_id}?{link}", *JSON).json["job_id"] == log.job_id
    assert guarded.get(f"/jobs/{log.job_id}?{link}", *BROWSER).body.startswith(b"<!doctype html>")
    with curl(f"{guarded.web}/logs?{PANE}&job={log.job_id}&{link}") as client:
        assert client.wait() == 0
        assert output(told(client)[log.job_id]) == b"a secret\n"
    for path in (
        "/jobs",
        f"/logs?{PANE}&list=1",
        f"/logs?{PANE}&job={log.job_id}&list=1",
    ):
        assert guarded.get(f"{path}{'&' if '?' in path else '?'}{link}").status == 403
    assert guarded.get(f"/jobs/{log.job_id}/log").status == 401
    guarded.connection.delete(meta_key(log.job_id), f"{meta_key(log.job_id)}:1", f"rq:job:{log.job_id}")
    assert guarded.get(f"/jobs/{log.job_id}?{link}").status == 410


@pytest.mark.parametrize("kind", SERVERS)
def test_a_link_that_ends_ends_its_streams(server, kind):
    """Open streams of a quiet log and of a busy one end with it, each so that its client can tell; others go on."""
    with served(kind, server.url, env={**ENV, "TAILER_HEARTBEAT": "60"}) as (url, process), connect(server.url) as conn:
        stack = Stack(server.url, url, conn, LogStore(conn))
        quiet, busy = written(stack, "others"), written(stack, "others")
        with contextlib.ExitStack() as held:
            other = held.enter_context(curl(stack.path(busy.job_id), *bearer(ALL))).connected()
            clients = {}
            for log in (quiet, busy):
                link = link_to(stack, log.job_id, "3s")
                for name in FORMATS:
                    asked = stack.path(log.job_id, f"format={name}&{link}")
                    clients[log, name] = held.enter_context(curl(asked)).connected()
                clients[log, "pane"] = held.enter_context(
                    curl(f"{stack.web}/logs?{PANE}&job={log.job_id}&{link}")
                ).connected()
                both = f"{stack.web}/logs?{PANE}&job={log.job_id}&job=nobody&{link}"
                clients[log, "panes"] = held.enter_context(curl(both)).connected()

            def all_over():
                busy.write(b"more\n")
                return all(client._process.poll() is not None for client in clients.values())

            wait_until(all_over, 15)
            for (_, name), client in clients.items():
                assert client.wait() == (18 if name in {"text", "ndjson"} else 0), name
                if name in {"text", "ndjson"}:
                    assert b"outcome" not in client.body
                    assert b"[tailer]" not in client.body
                else:
                    error = [event for event in client.events if event.name == "error"][-1]
                    assert (error.json["status"], error.json["title"]) == (401, "Not authorized")
                    assert error.json["login"] == "/login"
            busy.write(b"still there\n")
            wait_until(lambda: b"still there\n" in other.body)
            assert stack.get(f"/jobs/{busy.job_id}/log?{link}").status == 401
        assert kind not in LENDING or "Traceback" not in process.text()


def test_another_key_revokes(server):
    """A new key in front signs, and the old one still reads; when that is taken away, its links are void."""
    log = None
    links = []
    for keys, valid in (("first-key-of-many-1", [True]), ("second-key-of-many-2 first-key-of-many-1", [True, True]),
                        ("second-key-of-many-2", [False, True])):  # fmt: skip
        with Stack.on(server.url, env={**ENV, "TAILER_SECRET_KEY": keys}) as stack:
            log = log or written(stack, "others", "finished")
            if len(links) < 2:
                links.append(link_to(stack, log.job_id))
            got = [stack.get(f"/jobs/{log.job_id}/log?{link}").status == 200 for link in links]
            assert got == valid


def test_without_a_key_there_are_no_links(stack):
    """The answer says what to set."""
    log = Written(stack.store)
    answer = stack.get(f"/jobs/{log.job_id}/link", "-X", "POST", *JSON)
    assert (answer.status, answer.json["title"]) == (501, "Links are off")
    assert "TAILER_SECRET_KEY" in answer.json["detail"]


def test_the_list_ends_with_its_credential(server):
    """Also where no log is on the stream: it is told in an event, and no longer looked at."""
    with connect(server.url) as connection:
        hub = Hub(LogStore(connection), Jobs(connection))
        query = ManyQuery.parse({"list": ["1"]}, accept="text/event-stream")
        ending = Reader(name="a session", expires_at=time.time() + 0.2)
        many = Many(hub, Arrivals(hub), ending, query, heartbeat=60, view=View(Board(hub), hub, ending))
        items = body(many, query.each, lambda error: {"status": error.status})
        sent = b""
        for item in items:
            if isinstance(item, Pause):
                item.wait()
            else:
                sent += item
        (error,) = [event for event in parse_events(sent) if event.name == "error"]
        assert error.json == {"status": 401}


def test_the_list_does_not_ask_a_redis_that_is_away_for_each_viewer(server):
    """Who asks first is told, and the others wait for the next second without asking."""
    with connect(server.url) as connection:
        board = Board(Hub(LogStore(connection), Jobs(connection)))
        server.stop()
        with pytest.raises(StoreUnavailable):
            board.look()
        board.look()


# Limits.


@pytest.mark.parametrize("kind", [*LENDING[1:], "waitress"])
def test_followers_are_limited_for_each_credential_and_in_all(server, kind):
    """One more than may be gets a 429 that says when to come back; an EventSource gets it inside its stream.

    Who leaves makes room.
    """
    env = {**ENV, "TAILER_MAX_FOLLOWERS_EACH": "2", "TAILER_MAX_FOLLOWERS": "3"}
    with served(kind, server.url, env=env) as (url, _), connect(server.url) as connection:
        stack = Stack(server.url, url, connection, LogStore(connection))
        log = written(stack, "hers")

        def follow(token, *more):
            return curl(stack.path(log.job_id), *bearer(token), *more)

        with follow(HERS) as first, follow(HERS) as second:
            first.connected()
            second.connected()
            with follow(HERS, *JSON) as third:
                assert (third.wait(), third.status) == (0, 429)
                assert "Retry-After: " in third.head
                assert b"TAILER_MAX_FOLLOWERS_EACH" in third.body
            events = stack.get(f"/jobs/{log.job_id}/log?format=sse", *bearer(HERS))
            assert (events.status, b'"status":429' in events.body) == (200, True)
            assert events.body.startswith(b"retry: ")
            with follow(ALL) as other:
                other.connected()
                assert (
                    stack.get(f"/logs?{PANE}&job={log.job_id}", *bearer(ALL)).body.count(b"TAILER_MAX_FOLLOWERS allows")
                    == 1
                )
                assert stack.get(f"/jobs/{log.job_id}", *bearer(HERS)).status == 200
        wait_until(lambda: listeners(connection, log.job_id) == 0, 10)
        with follow(HERS) as again:
            assert again.connected().status == 200


def test_refused_followers_leave_nothing_behind(server):
    """Whoever asks for what is not there, or leaves at once, takes nobody's place for long."""
    with Stack.on(server.url, env={**ENV, "TAILER_MAX_FOLLOWERS": "1"}) as stack:
        log = written(stack, "hers")
        for _ in range(5):
            assert stack.get("/jobs/nobody/log", *bearer(ALL)).status == 404
            assert stack.get(f"/jobs/{log.job_id}/log?follow=0", *bearer(ALL)).status == 200
            assert stack.get(f"/jobs/{log.job_id}/log", "--head", *bearer(ALL)).status == 200
            with curl(stack.path(log.job_id), *bearer(ALL)) as client:
                assert client.connected().status == 200
            wait_until(lambda: connections_to(stack.web) == 0, 10)


def test_forms_are_small_also_when_their_size_is_not_told(guarded):
    """Chunked, no more than 16 KiB of a form are looked at."""
    for padding, status in ((1000, 303), (20_000, 401)):
        form = f"padding={'x' * padding}&token={ALL}"
        assert guarded.get("/login", "-H", "Transfer-Encoding: chunked", "-d", form).status == status


# Secrets.


def test_no_secret_is_ever_in_the_server_s_output(server):
    """Not with access logs and debug messages on, nor in a traceback: neither tokens, nor keys, nor their hashes."""
    arguments = ("--access-logfile", "-", "--log-level", "debug")
    with web_process(server.url, *arguments, env=ENV) as (web, process), connect(server.url) as connection:
        stack = Stack(server.url, web, connection, LogStore(connection))
        log = written(stack, "hers", "finished")
        stack.connection.delete(f"{meta_key(log.job_id)}:1")
        stack.connection.set(f"{meta_key(log.job_id)}:1", "not a list")
        login = stack.get("/login", "-d", f"token={ALL}")
        session = re.findall(r"Set-Cookie: (tailer=[^;]+)", login.head)[0]
        credentials = [bearer(ALL), ("-u", f"x:{ALL}"), ("-H", f"Cookie: {session}"), bearer(ALL[:-1]), ()]
        for credential in credentials:
            for path in (f"/jobs/{log.job_id}/log?lines=2", f"/jobs/{log.job_id}", "/jobs", "/nowhere", "/login"):
                shown = stack.get(path, *credential)
                assert ALL.encode() not in shown.body
                assert ALL not in shown.head
        stack.get("/login", "-d", f"token={ALL}x")
        said = process.text()
        assert "cannot be served" in said
        assert "Traceback" in said
        assert said.count("GET /jobs") >= 10
    for secret in (ALL, HERS, LIMITED, ENV["TAILER_SECRET_KEY"], session.partition("=")[2]):
        assert secret[:12] not in said


def test_nothing_of_a_log_gets_into_headers_or_the_servers_log(server):
    """What a job prints and is called is in bodies only; of an id with line breaks in it nothing is logged."""
    words = "\r\nSet-Cookie: forged=1\r\n\r\nforged line\n"
    with (
        web_process(server.url, "--access-logfile", "-", "--log-level", "debug") as (web, process),
        connect(server.url) as connection,
    ):
        stack = Stack(server.url, web, connection, LogStore(connection))
        queue = stack.queue()
        job = queue.enqueue("tests.cli_jobs.show", words, description=words)
        stack.work(queue)
        for name in FORMATS:
            answer = stack.get(f"/jobs/{job.id}/log?format={name}")
            assert (answer.status, b"forged line" in answer.body) == (200, True)
            assert "forged" not in answer.head
        for path in (f"/jobs/{job.id}", "/jobs", f"/logs?{PANE}&job={job.id}&list=1&follow=0"):
            answer = stack.get(path)
            assert answer.status == 200
            assert "forged" not in answer.head
        for path in ("/jobs/x%0D%0Aforged%20line/log", "/jobs/x%0Aforged", "/jobs?queue=x%0D%0Aforged%20line"):
            assert "forged" not in stack.get(path).head
        connection.set(f"{meta_key(job.id)}:1", "forged line\nforged line")
        assert stack.get(f"/jobs/{job.id}/log?lines=2").status == 500
        said = process.text()
        assert "cannot be served" in said
        assert not [line for line in said.splitlines() if line.startswith("forged")]


def test_where_redis_is_is_not_told_to_everybody(server):
    """Whoever may not read learns from /readyz that Redis does not answer, and the operator from the log, which."""
    with web_process(server.url, env=ENV) as (web, process):
        server.stop()
        with curl(f"{web}/readyz") as client:
            assert (client.wait(), client.status) == (0, 503)
            assert b"127.0.0.1" not in client.body
        assert "not ready: " in process.text()
