"""What a worker does for logs whose jobs are over, on real servers."""

import hashlib
import os
import signal
import threading

import pytest

from tailer.embedded import EmbeddedServer
from tailer.records import STDERR, STDOUT, Attempt, End
from tailer.store import Cursor, LogStore, connect, list_key, now_ms
from tests.log_model import read_all
from tests.stack import Stack, worker_process
from tests.waiting import wait_until
from worker import aftercare
from worker.aftercare import Aftercare
from worker.capture import Report
from worker.ship import Shipper

STREAMS = (STDOUT, STDERR)


@pytest.fixture
def store(server):
    """A store whose server only this test uses."""
    store = LogStore(connect(server.url))
    yield store
    store.connection.connection_pool.disconnect()


@pytest.fixture
def care():
    """Aftercare that ends with the test."""
    care = Aftercare()
    yield care
    care.rest()


def shipped(store, job_id, data, report):
    """A shipper that has brought this and the end of the job's log to the store."""
    shipper = Shipper(store, job_id, Attempt(now_ms(), 0, "e1"), report, buffer=8 << 20, spill=0)
    shipper.start()
    shipper.take(STDOUT, data)
    assert shipper.finish(End(outcome="finished", attempt=0, final=True), 20)
    return shipper


def whole(store, job_id):
    """The log's output if it has its end, else None."""
    records = read_all(store, Cursor(), job_id)
    return b"".join(record.data for record in records[1:-1]) if records and isinstance(records[-1], End) else None


@pytest.fixture
def report():
    """The page that a worker and its horse share."""
    report = Report.create()
    yield report
    report.close()


def threads():
    """How many threads of aftercare there are."""
    return [thread.name for thread in threading.enumerate()].count("tailer-aftercare")


def test_an_end_that_the_server_forgets_is_sent_again(store, care, report, caplog):
    """Whether the server lost the end record only or the whole log: soon after, it is as it was."""
    shipper = shipped(store, "job", b"before\n", report)
    written = {key: store.connection.dump(key) for key in store.connection.keys("tailer:{job}*")}
    care.add(shipper)
    store.connection.flushall()
    wait_until(lambda: whole(store, "job") == b"before\n", 10, "the whole log")
    assert "Redis has lost the end of its log; sending it again" in caplog.text
    assert {key: store.connection.dump(key) for key in store.connection.keys("tailer:{job}*")} == written


def test_a_log_that_is_still_there_is_let_go(store, care, report, monkeypatch, caplog):
    """What was sent is kept for no longer than the look takes, and the thread ends with the last of them."""
    monkeypatch.setattr(aftercare, "KEPT_S", 0.05)
    shippers = [shipped(store, f"job-{n}", b"x" * 1000, report) for n in range(3)]
    assert all(shipper.held for shipper in shippers)
    for shipper in shippers:
        care.add(shipper)
    wait_until(lambda: not any(shipper.held for shipper in shippers), 10, "that all are let go")
    wait_until(lambda: not threads(), 10, "the end of the thread")
    assert "lost" not in caplog.text


def test_a_worker_forks_without_that_thread(store, care, report):
    """While it rests there is no thread of it, and afterwards it goes on."""
    shipper = shipped(store, "job", b"before\n", report)
    care.add(shipper)
    assert threads() == 1
    care.rest()
    assert threads() == 0
    store.connection.flushall()
    care.go_on()
    wait_until(lambda: whole(store, "job") == b"before\n", 10, "the whole log")


def test_only_so_much_is_kept(store, care, report, monkeypatch):
    """However many jobs end within that time, the oldest are let go for the new."""
    monkeypatch.setattr(aftercare, "MAX_KEPT", 2)
    shippers = [shipped(store, f"job-{n}", b"x" * 1000, report) for n in range(4)]
    for shipper in shippers:
        care.add(shipper)
    assert [bool(shipper.held) for shipper in shippers] == [False, False, True, True]


def test_the_log_that_is_looked_for_just_now_is_kept_beyond_the_limit(server, store, care, report, monkeypatch):
    """Redis answers the look late, and has lost the log: it gets all of it, though newer logs have come meanwhile."""
    monkeypatch.setattr(aftercare, "MAX_KEPT", 2)
    monkeypatch.setattr(aftercare, "KEPT_S", 0.0)
    shippers = [shipped(store, f"job-{n}", b"before\n", report) for n in range(4)]
    store.connection.flushall()
    os.kill(server.pid, signal.SIGSTOP)
    try:
        care.add(shippers[0])
        wait_until(lambda: care._in_hand is shippers[0], 10, "the look at the first")
        for shipper in shippers[1:]:
            care.add(shipper)
        assert [bool(shipper.held) for shipper in shippers] == [True, False, False, True]
    finally:
        os.kill(server.pid, signal.SIGCONT)
    wait_until(lambda: whole(store, "job-0") == whole(store, "job-3") == b"before\n", 10, "both logs")


def test_a_log_that_is_there_is_sealed(store, care, report, monkeypatch):
    """Its small elements are packed once it was looked for, and it reads as before."""
    monkeypatch.setattr(aftercare, "KEPT_S", 0.05)
    shipper = Shipper(store, "job", Attempt(now_ms(), 0, "e1"), report, buffer=8 << 20, spill=0)
    shipper.start()
    text = b""
    for n in range(20):
        line = b"line %d of a job that takes its time\n" % n
        text += line
        shipper.take(STDOUT, line)
        wait_until(lambda: store.end_of("job", 1).offset == len(text), 10, "the line")  # noqa: B023 (called at once)
    shipper.finish(End(outcome="finished", attempt=0, final=True), 20)
    assert store.connection.llen(list_key("job", 1)) == 22
    care.add(shipper)
    wait_until(lambda: store.connection.llen(list_key("job", 1)) == 3, 10, "the sealed log")
    assert whole(store, "job") == text
    wait_until(lambda: not threads(), 10, "the end of the thread")


def test_a_log_is_sealed_between_forks(store, care, report, monkeypatch):
    """However often the thread rests meanwhile, it goes on from where it was."""
    monkeypatch.setattr(aftercare, "KEPT_S", 0.05)
    shipper = Shipper(store, "job", Attempt(now_ms(), 0, "e1"), report, buffer=8 << 20, spill=0)
    shipper.start()
    for n in range(4000):
        shipper.take(STREAMS[n % 2], b"line %d of two streams\n" % n)
    shipper.finish(End(outcome="finished", attempt=0, final=True), 20)
    before = read_all(store, Cursor(), "job")
    assert len(before) > 4000
    care.add(shipper)
    rests = 0

    def is_sealed():
        nonlocal rests
        rests += care.rest(5)
        assert threads() == 0
        care.go_on()
        return store.connection.llen(list_key("job", 1)) < 10

    wait_until(is_sealed, 20, "the sealed log")
    assert rests > 2
    assert read_all(store, Cursor(), "job") == before


@pytest.mark.parametrize("seal", ["1", "0"])
def test_a_worker_seals_the_logs_of_its_jobs(stack, seal):
    """At the latest when it exits, unless it is told not to; who follows by HTTP gets the same bytes."""
    queue = stack.queue()
    job = queue.enqueue("bench.jobs.print_slowly", 20, 0.06)
    stack.work(queue, env={"TAILER_SEAL": seal})
    kinds = {element[:1] for element in stack.connection.lrange(list_key(job.id, 1), 0, -1)}
    assert (b"p" in kinds) == (seal == "1")
    told = stack.log(job.id)
    assert hashlib.sha256(told.data()).hexdigest() == told.end.sha256
    assert stack.get(f"/jobs/{job.id}/log").body == told.data()
    assert stack.get(f"/jobs/{job.id}/log?offset=1:345").body == told.data()[345:]


def test_a_log_outlives_a_redis_that_is_killed_just_behind_its_end():
    """A worker's finished log is whole again behind a Redis that comes back with nothing at all."""
    with EmbeddedServer() as server, Stack.without_web(server.url) as stack:
        queue = stack.queue()
        job = queue.enqueue("tests.jobs.hello")
        with worker_process(server.url, queue.name) as worker:
            stack.wait_for(job, "finished")
            before = stack.log(job.id)
            server.stop(signal.SIGKILL)
            server.start()
            wait_until(lambda: "sending it again" in worker.text(), 20, "the worker's look")
            after = stack.log(job.id)
    assert (after.data(), after.end) == (before.data(), before.end)
