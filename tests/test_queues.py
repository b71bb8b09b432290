"""`GET /logs`: many jobs as one stream of whole lines, those that are named and those of queues as they begin."""

import contextlib
import json
import re
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailer.bookmark import Bookmark
from tailer.many_lines import Holder
from tailer.reader import Cursor
from tailer.records import STDERR, STDOUT, Chunk
from tests.stack import curl
from tests.waiting import wait_until
from tests.written import Written


def a_queue():
    """The name of a queue that no other test uses."""
    return f"q-{uuid.uuid4().hex[:12]}"


def begun(stack, queue, **options):
    """A log that a job of the queue writes just now."""
    log = Written(stack.store, queue=queue, **options)
    log.rq_job(stack.connection, "started")
    stack.connection.zadd(f"rq:wip:{queue}", {f"{log.job_id}:{log.execution}": time.time() + 600})
    return log


def over(stack, log, outcome="finished", **fields):
    """End it, for RQ too."""
    log.rq_job(stack.connection, outcome)
    stack.connection.zrem(f"rq:wip:{log.queue}", f"{log.job_id}:{log.execution}")
    log.end(outcome, **fields)


@contextlib.contextmanager
def following(stack, query, *arguments):
    """A curl on the logs for the block, which begins when it has an answer."""
    with curl(f"{stack.web}/logs?{query}", *arguments) as client:
        yield client.connected()


def lines(client):
    """What a text client has got, by whole lines."""
    return client.body.decode().split("\n")[:-1]


def test_a_queue_is_followed_with_the_jobs_that_begin_in_it(stack):
    """Those that run, from now on; those that begin later, from their first line; and none of another queue."""
    queue = stack.queue()
    elsewhere = begun(stack, a_queue())
    running = begun(stack, queue.name)
    running.write(b"before\n")
    with following(stack, f"queue={queue.name}") as client:
        running.write(b"now\n")
        elsewhere.write(b"elsewhere\n")
        wait_until(lambda: lines(client) == [f"{running.job_id} a.job | now"])
        with stack.worker(queue):
            good, bad = queue.enqueue("tests.jobs.hello"), queue.enqueue("tests.jobs.fail")
            wait_until(lambda: any("[tailer] failed after" in line for line in lines(client)), 15)
        told = lines(client)[1:]
        assert f"{good.id[:8]} tests.jobs.hello | hello" in told
        assert all(
            line.startswith((f"{good.id[:8]} tests.jobs.hello | ", f"{bad.id[:8]} tests.jobs.fail | ")) for line in told
        )
        assert re.fullmatch(r".{8} tests\.jobs\.fail \| \[tailer\] failed after \d+\.\d s: .*", told[-1])
    over(stack, running)
    over(stack, elsewhere)


def test_no_line_is_torn_by_another_job(stack):
    """A line that comes in pieces waits for its end; one that does not end in a second comes marked, in pieces."""
    queue = a_queue()
    slow, other = begun(stack, queue), begun(stack, queue)
    with following(stack, f"queue={queue}") as client:
        wait_until(lambda: stack.connection.pubsub_numsub(f"tailer:{{{other.job_id}}}:wake")[0][1])
        slow.write(b"first ")
        other.write(b"whole\n")
        slow.write(b"half\nasking: ")
        wait_until(lambda: len(lines(client)) == 3, 5)
        slow.write(b"yes\n")
        slow.write(b" 10%\r 50%\r\x1b[32m100%\r\n")
        wait_until(lambda: len(lines(client)) == 5, 5)
        name = f"{slow.job_id} a.job"
        assert [line for line in lines(client) if line.startswith(name)] == [
            f"{name} | first half",
            f"{name} | asking: ",
            f"{name} + yes",
            f"{name} | \x1b[32m100%\x1b[0m",
        ]
    over(stack, slow)
    over(stack, other)


def records(client):
    """What a client of `json=1` has got, by records."""
    return [json.loads(line) for event in client.events if event.name == "" for line in event.data.split("\n")]


def test_a_reconnect_goes_on_in_every_log_where_it_was(stack):
    """With the last id: what runs goes on, what began or began and ended meanwhile comes whole, and nothing twice."""
    queue = a_queue()
    wrote, seen, last = {}, [], ""

    def job():
        log = begun(stack, queue)
        wrote[log.job_id] = []
        return log

    def write(log, text):
        wrote[log.job_id].append(text)
        log.write(f"{text}\n".encode())

    logs = [job() for _ in range(3)]
    for number in range(4):
        with following(stack, f"queue={queue}&format=sse&json=1", "-H", f"Last-Event-ID: {last}") as client:
            for log in logs:
                write(log, f"{number} of {log.job_id}")
            if number == 1:
                over(stack, logs.pop(0))
                wait_until(lambda client=client: any(event.name == "end" for event in client.events))
            expected = sum(map(len, wrote.values())) - len(seen)
            wait_until(lambda client=client, expected=expected: len(records(client)) >= expected)
            seen += records(client)
            last = [event.id for event in client.events if event.id][-1]
        meanwhile = [job(), job()]
        for log in meanwhile:
            write(log, "meanwhile")
        over(stack, meanwhile[0])
        logs.append(meanwhile[1])
    with following(stack, f"queue={queue}&format=sse&json=1&lastEventId={last}") as client:
        expected = sum(map(len, wrote.values())) - len(seen)
        wait_until(lambda: len(records(client)) >= expected)
        seen += records(client)
    assert {job_id: [one["text"] for one in seen if one["job"] == job_id] for job_id in wrote} == wrote
    for log in logs:
        over(stack, log)


def test_more_jobs_than_are_followed_at_once_take_turns_and_that_is_said(stack):
    """32 at once; the others are counted out loud, and come when there is room, with all that they wrote."""
    queue = a_queue()
    logs = [begun(stack, queue) for _ in range(35)]
    with following(stack, f"queue={queue}&tail=all") as client:
        wait_until(lambda: "[tailer] jobs: 3 more wait for their turn: 32 logs are followed at once" in lines(client))
        for log in logs:
            log.write(b"a line\n")
        wait_until(lambda: sum(line.endswith("| a line") for line in lines(client)) == 32)
        for log in logs[::-1]:
            over(stack, log)
        wait_until(lambda: sum(line.endswith("| a line") for line in lines(client)) == 35)


def test_a_snapshot_is_in_the_order_of_time(stack):
    """Of queues and jobs alike, with `since` also of jobs that are over; and it ends at once."""
    queue = a_queue()
    one, two = begun(stack, queue), begun(stack, queue)
    now = int(time.time() * 1000)
    for number in range(6):
        (one, two)[number % 2].write(b"%d\n" % number, (STDOUT, STDERR)[number % 2], now - 6000 + number)
    over(stack, two, "failed")
    named = f"job={one.job_id}&job={two.job_id}&follow=0"
    both = stack.get(f"/logs?{named}&timestamps=1").body.decode().splitlines()
    assert [line[-1] for line in both[:6]] == list("012345")
    assert re.fullmatch(rf"{one.job_id} a\.job \| \d{{4}}-\d\d-\d\dT[\d:.]+Z 0", both[0])
    assert "[tailer] failed" in both[6]
    assert len(stack.get(f"/logs?queue={queue}&follow=0").body.splitlines()) == 3
    assert stack.get(f"/logs?queue={queue}&follow=0&since=1h").body == stack.get(f"/logs?{named}").body
    records = [json.loads(line) for line in stack.get(f"/logs?{named}&format=ndjson").body.splitlines()]
    assert [record["text"] for record in records[:-1]] == list("012345")
    assert (records[-1]["job"], records[-1]["outcome"]) == (two.job_id, "failed")
    assert stack.get(f"/logs?{named}&stderr=1").body.count(b"\n") == 4
    over(stack, one)


@given(
    st.lists(
        st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=12).map(lambda raw: raw.replace(b"x", b"\n"))),
        max_size=30,
    ),
    st.booleans(),
    st.data(),
)
def test_lines_put_together_are_the_output_and_their_ends_are_places_in_it(pieces, both, data):
    """Whatever the pieces: no byte is lost or moved, and from the end of any line the rest comes, and no more."""
    streams = {STDOUT, STDERR} if both else {STDOUT}
    chunks, offset, line = [], 0, 1
    for stream, raw in pieces:
        if raw:
            chunks.append(Chunk(stream, 0, offset, line, raw.count(b"\n"), False, raw))
            offset, line = offset + len(raw), line + raw.count(b"\n")

    def lines_from(start):
        holder = Holder(streams, Cursor())
        found = []
        for chunk in chunks:
            if chunk.end > start:
                rest = chunk.part(max(start, chunk.offset), chunk.end)
                found += holder.add(rest, Cursor(1, rest.end))
        return [*found, *holder.flush()]

    def whole(found):
        return b"".join(one.data + b"\n" * (not one.partial) for one in found)

    everything = lines_from(0)
    assert whole(everything) == b"".join(chunk.data for chunk in chunks if chunk.stream in streams)
    if everything:
        at = data.draw(st.integers(0, len(everything) - 1))
        assert whole(lines_from(everything[at].end.offset)) == whole(everything[at + 1 :])
    numbers = [one.number for one in everything]
    assert numbers == sorted(numbers)


places = st.dictionaries(
    st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True),
    st.tuples(st.builds(Cursor, st.integers(1, 10**6), st.integers(0, 10**12)), st.booleans()),
)


@given(places, st.none() | st.tuples(st.integers(0, 10**14), st.integers(0, 10**6)))
def test_a_bookmark_says_what_it_was_made_of(where, queues):
    """Whatever logs it is of."""
    floor, waiting = queues or (None, 0)
    made = Bookmark(where, floor, waiting)
    if where or queues:
        assert Bookmark.parse(str(made)) == made


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ("queue=", "queue"),
        ("&".join(f"queue={number}" for number in range(17)), "queue"),
        ("queue=a&list=1", "list"),
        ("queue=a&offset=1:0", "offset"),
        ("queue=a&lastEventId=nothing", "lastEventId"),
        ("queue=a&tail=some", "tail"),
    ],
)
def test_a_bad_parameter_is_named(stack, asked, named):
    """With what is allowed instead."""
    answer = stack.get(f"/logs?{asked}", "-H", "Accept: application/json")
    assert (answer.status, answer.json["parameter"]) == (400, named)
    assert answer.json["allowed"]
