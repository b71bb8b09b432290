"""Lists of jobs: their parameters, their pages, and what is told of each job."""

import fakeredis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.client import Pipeline
from rq import Queue
from rq.job import Job

from tailer.errors import InvalidParameter, LogExpired, UnknownJob
from tailer.follow import without_log
from tailer.jobs import Jobs, JobState
from tailer.listing import MAX_LIMIT, ListQuery, describe, look_up, page
from tailer.records import OUTCOMES, STDOUT, Attempt, End
from tailer.store import INDEX, LogStore, meta_key, now_ms
from tests.log_model import WrittenLog

BEGAN = now_ms() - 3_600_000  # an hour ago: what is older than any log is taken out of the index


@pytest.fixture
def connection():
    """A Redis in memory."""
    with fakeredis.FakeRedis(server=fakeredis.FakeServer()) as connection:
        yield connection


@pytest.fixture
def store(connection):
    """Logs."""
    return LogStore(connection)


@pytest.fixture
def jobs(connection):
    """RQ's jobs."""
    return Jobs(connection)


def enqueue(connection, *ids, queue="default"):
    """Put jobs into a queue, as a user of RQ does."""
    for job_id in ids:
        Queue(queue, connection=connection).enqueue("module.function", 1, job_id=job_id)


def logged(store, job_id, at, *, queue="default", outcome="finished"):
    """A job that RQ has forgotten and that has left a log, so many ms after `BEGAN`."""
    store.start(job_id, Attempt(at, 0, "e1", "worker-1", queue, "module.function(1)"))
    if outcome:
        store.end(job_id, End(outcome=outcome, attempt=1, final=True, status=outcome, ended_at=at / 1000))
    store.connection.zadd(INDEX, {job_id: BEGAN + at})


def ids(listed):
    """The ids on a page."""
    return [told["job_id"] for told in listed["jobs"]]


# Parameters.


def test_a_bare_list_is_fifty_jobs():
    """Without parameters: the newest fifty of any queue and status."""
    assert ListQuery.parse({}) == ListQuery(limit=50, before=None, queue=None, status=None)


@pytest.mark.parametrize(
    ("args", "field", "expected"),
    [
        ({"limit": "1"}, "limit", 1),
        ({"limit": str(MAX_LIMIT)}, "limit", MAX_LIMIT),
        ({"before": "1795426200000:a-b_C9"}, "before", (1_795_426_200_000, "a-b_C9")),
        ({"before": "0:-"}, "before", (0, "-")),
        ({"before": ""}, "before", None),
        ({"queue": "high"}, "queue", "high"),
        ({"queue": "any name: é"}, "queue", "any name: é"),
        ({"queue": ""}, "queue", None),
        ({"status": "queued"}, "status", "queued"),
        ({"status": "killed"}, "status", "killed"),
        ({"status": ""}, "status", None),
    ],
)
def test_a_good_value_is_taken(args, field, expected):
    """Each parameter means what its name says; an empty filter is none."""
    assert getattr(ListQuery.parse(args), field) == expected


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        *[("limit", value, "use a whole number from 1 to 500") for value in ("", "0", "501", "-1", "x", "1e2", "٣")],
        *[("before", value, 'use the "next" of the page before') for value in ("x", "1", ":", "1:", "1:a b", "-1:a")],
        ("status", "done", "use one of created, queued, finished, failed, started, deferred, scheduled"),
        ("status", "FINISHED", "use one of created, queued, finished"),
        ("page", "2", "the parameters are before, limit, queue, status"),
    ],
)
def test_a_bad_value_is_refused_with_what_is_allowed(name, value, allowed):
    """The error has the parameter's name, its value and what it takes."""
    with pytest.raises(InvalidParameter) as refused:
        ListQuery.parse({name: value})
    assert (refused.value.parameter, refused.value.value) == (name, value)
    assert refused.value.allowed.startswith(allowed)
    assert str(refused.value).startswith(f"{name}={value!r} cannot be used: {allowed}")


def test_every_outcome_can_be_asked_for():
    """RQ's states and the outcomes of logs are both values of `status`, and the error names them all."""
    for outcome in OUTCOMES:
        assert ListQuery.parse({"status": outcome}).status == outcome
    with pytest.raises(InvalidParameter) as refused:
        ListQuery.parse({"status": "x"})
    assert set(OUTCOMES) <= set(refused.value.allowed.removeprefix("use one of ").split(", "))


@given(
    st.dictionaries(st.sampled_from(["limit", "before", "queue", "status"]) | st.text(max_size=5), st.text(max_size=9))
)
def test_any_strings_are_a_query_or_refused(args):
    """Whatever comes in is understood or refused by name; no other error comes of it."""
    query = refused = None
    try:
        query = ListQuery.parse(args)
    except InvalidParameter as error:
        refused = error
    if refused:
        assert refused.parameter in args
    else:
        assert 1 <= query.limit <= MAX_LIMIT


# Pages.


def test_jobs_that_wait_come_first_and_then_logs_newest_first(connection, store, jobs):
    """What runs next stands at the top, then what ran last."""
    logged(store, "old", 1000)
    logged(store, "new", 2000)
    enqueue(connection, "first", "second")

    listed = page(store, jobs, ListQuery())

    assert ids(listed) == ["first", "second", "new", "old"]
    assert listed["next"] is None
    assert [told["position"] for told in listed["jobs"]] == [1, 2, None, None]


def test_a_job_that_waits_for_another_attempt_is_listed_once(connection, store, jobs):
    """A retry has a log and is in a queue; it is one entry, with both."""
    logged(store, "retried", 1000, outcome="failed")
    enqueue(connection, "retried")

    listed = page(store, jobs, ListQuery())

    assert ids(listed) == ["retried"]
    assert (listed["jobs"][0]["status"], listed["jobs"][0]["outcome"]) == ("queued", "failed")


def test_a_log_that_somebody_has_overwritten_hides_no_other(connection, store, jobs):
    """A key of another kind in its place is that job's trouble: it is not listed, and all others are."""
    for number, job_id in enumerate(["one", "overwritten", "two"]):
        logged(store, job_id, 1000 + number)
    connection.set(meta_key("overwritten"), "by a stranger")
    assert sorted(ids(page(store, jobs, ListQuery()))) == ["one", "two"]


def test_a_filter_that_finds_little_is_no_more_work_for_few(store, jobs, monkeypatch):
    """One job of many is looked for in large pieces, also where only one is wanted."""
    for number in range(250):
        logged(store, f"job-{number}", 1000 + number)
    logged(store, "stopped", 0, outcome="stopped")
    asked, execute = [], Pipeline.execute
    monkeypatch.setattr(
        Pipeline, "execute", lambda pipe, *args, **named: asked.append(1) or execute(pipe, *args, **named)
    )
    assert ids(page(store, jobs, ListQuery(limit=1, status="stopped"))) == ["stopped"]
    assert len(asked) < 20


def test_ids_that_no_job_has_are_passed_over(connection, store, jobs):
    """What a queue or the index names besides jobs, or after they are gone, is not listed and breaks nothing."""
    enqueue(connection, "gone", "there")
    connection.delete("rq:job:gone")
    connection.rpush("rq:queue:default", "bad id", "")
    logged(store, "expired", 1000)
    connection.delete(meta_key("expired"))
    connection.zadd(INDEX, {"bad id": BEGAN})

    assert ids(page(store, jobs, ListQuery())) == ["there"]


@given(
    times=st.lists(st.integers(1, 4), max_size=9),
    waiting=st.integers(0, 5),
    limit=st.integers(1, 4),
)
def test_the_pages_hold_every_job_once(times, waiting, limit):
    """Following `next` from page to page, each job comes once, however many wait and however many began at once."""
    with fakeredis.FakeRedis(server=fakeredis.FakeServer()) as connection:
        store, jobs = LogStore(connection), Jobs(connection)
        for number, time in enumerate(times):
            logged(store, f"log{number}", time)
        enqueue(connection, *[f"queued{number}" for number in range(waiting)])
        expected = [f"log{n}" for _, n in sorted(((time, n) for n, time in enumerate(times)), reverse=True)]

        found, query = [], ListQuery(limit=limit)
        for _ in range(20):
            listed = page(store, jobs, query)
            assert len(listed["jobs"]) <= limit
            found += ids(listed)
            if listed["next"] is None:
                break
            query = ListQuery.parse({"limit": str(limit), "before": listed["next"]})
        else:
            pytest.fail("pages without end")

    assert found == [f"queued{number}" for number in range(min(waiting, limit))] + expected


def test_filters_choose_by_queue_status_and_outcome(connection, store, jobs):
    """`queue` and `status` leave out what differs; `status` is RQ's word or the log's."""
    logged(store, "a", 1000, queue="high", outcome="killed")
    logged(store, "b", 2000, queue="low", outcome="finished")
    logged(store, "c", 3000, queue="high", outcome=None)
    enqueue(connection, "d", queue="high")
    enqueue(connection, "e", queue="low")

    def listed(**filters):
        return set(ids(page(store, jobs, ListQuery.parse(filters))))

    assert listed(queue="high") == {"a", "c", "d"}
    assert listed(queue="low") == {"b", "e"}
    assert listed(queue="none") == set()
    assert listed(status="queued") == {"d", "e"}
    assert listed(status="killed") == {"a"}
    assert listed(status="finished", queue="low") == {"b"}
    assert listed(status="finished", queue="high") == set()


def test_a_filter_looks_through_pages_to_fill_one(store, jobs):
    """A page is filled with what matches, though much between does not."""
    for number in range(30):
        logged(store, f"j{number:02d}", 1000 + number, outcome="failed" if number % 10 == 0 else "finished")

    first = page(store, jobs, ListQuery(limit=2, status="failed"))
    assert ids(first) == ["j20", "j10"]
    second = page(store, jobs, ListQuery.parse({"limit": "2", "status": "failed", "before": first["next"]}))
    assert (ids(second), second["next"]) == (["j00"], None)


def test_a_filter_that_finds_nothing_does_not_read_the_whole_index(store, jobs, monkeypatch):
    """After so many jobs the page ends, and `next` goes on from there."""
    monkeypatch.setattr("tailer.listing.MAX_SCAN", 10)
    monkeypatch.setattr("tailer.listing.LEAST_READ", 5)
    for number in range(30):
        logged(store, f"j{number:02d}", 1000 + number)

    listed, pages = page(store, jobs, ListQuery(limit=5, status="failed")), 1
    while listed["next"]:
        listed = page(store, jobs, ListQuery.parse({"limit": "5", "status": "failed", "before": listed["next"]}))
        pages += 1
    assert ids(listed) == []
    assert 3 <= pages <= 4


# One job.


def test_a_job_is_described_by_rq_and_by_its_log(connection, store, jobs):
    """RQ's fields, the figures of all attempts, and each attempt with its end."""
    enqueue(connection, "job", queue="high")
    first = WrittenLog([(STDOUT, b"one\n", 0)], began=1_795_426_200_000)
    first.store(store, "job", execution="e1", end=True)
    second = WrittenLog([(STDOUT, b"two\nthree", 0)], began=1_795_426_201_000)
    second.store(store, "job", execution="e2", end=False)

    told = describe(*look_up(store, jobs, "job"))

    assert (told["job_id"], told["status"], told["queue"], told["position"]) == ("job", "queued", "high", 1)
    assert told["description"] == "module.function(1)"
    assert (told["outcome"], told["bytes"], told["lines"]) == (None, 13, 2)
    assert [one["attempt"] for one in told["attempts"]] == [1, 2]
    assert told["attempts"][0]["started_at"] == "2026-11-23T09:30:00.000Z"
    assert told["attempts"][0]["end"] == first.end_record().as_dict()
    assert told["attempts"][1] == {
        "attempt": 2,
        "started_at": "2026-11-23T09:30:01.000Z",
        "worker": "",
        "bytes": 9,
        "lines": 1,
        "end": None,
    }


def test_what_rq_has_forgotten_the_log_still_tells(store, jobs):
    """Minutes after a job finished RQ has no trace of it; queue, worker and description come from the log."""
    logged(store, "job", 1_795_426_200_000, queue="high", outcome="killed")

    told = describe(*look_up(store, jobs, "job"))

    assert (told["status"], told["outcome"]) == (None, "killed")
    assert (told["queue"], told["worker"], told["description"]) == ("high", "worker-1", "module.function(1)")


def test_a_job_without_a_log_is_described_by_rq_alone(connection, store, jobs):
    """A job that waits has no attempts yet."""
    enqueue(connection, "job")
    told = describe(*look_up(store, jobs, "job"))
    assert (told["status"], told["outcome"], told["attempts"], told["bytes"]) == ("queued", None, [], 0)
    assert told["created_at"].endswith("Z")


def test_looking_up_what_is_not_there(connection, store, jobs):
    """A job nobody knows, one whose log has expired, and an id that cannot be one are told apart."""
    with pytest.raises(UnknownJob):
        look_up(store, jobs, "unknown")
    with pytest.raises(UnknownJob):
        look_up(store, jobs, "bad id")
    logged(store, "job", 1000)
    connection.delete(meta_key("job"))
    with pytest.raises(LogExpired, match="the log of job 'job' has expired"):
        look_up(store, jobs, "job")
    assert {key for key in connection.keys("*") if b"unknown" in key or b"bad" in key} == set()


def test_reading_jobs_runs_nothing_of_theirs(connection, store, jobs):
    """Neither a job's data nor its callbacks are touched: what cannot be unpickled is listed all the same."""
    enqueue(connection, "job")
    connection.hset(Job.key_for("job"), "data", b"\x80not a pickle")
    before = {key: connection.type(key) for key in connection.keys("*")}

    assert ids(page(store, jobs, ListQuery())) == ["job"]
    assert describe(*look_up(store, jobs, "job"))["status"] == "queued"
    assert {key: connection.type(key) for key in connection.keys("*")} == before


@pytest.mark.parametrize(
    ("ago", "reason"), [(10, "no output was captured"), (90, "no output was captured, or its log has expired")]
)
def test_a_job_without_a_log_is_told_as_far_as_that_is_known(ago, reason):
    """No log expires within a minute; behind that nobody may remember that there was one."""
    assert without_log(JobState("job", status="failed", ended_at=now_ms() - ago * 1000)).reason == reason
