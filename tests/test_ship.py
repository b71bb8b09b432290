"""The shipper against real servers and their troubles: each byte once, and every hole with its size."""

import contextlib
import hashlib
import itertools
import os
import random
import re
import signal
import socket
import threading
import time
import tracemalloc

import pytest
import redis

from tailer.embedded import EmbeddedServer
from tailer.figures import FigureStore
from tailer.records import STDERR, STDOUT, Attempt, Chunk, End, Hole, decode, encode
from tailer.store import Cursor, LogStore, connect, meta_key, now_ms
from tests.log_model import read_all
from tests.waiting import wait_until
from worker import backlog, ship
from worker.capture import Report
from worker.counts import COUNTS
from worker.redact import Masks, Redactor
from worker.ship import Shipper

FINISHED = End(outcome="finished", attempt=0, final=True, status="finished", exit=0)
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
def durable():
    """A server that keeps on disk whatever it confirmed."""
    with EmbeddedServer(extra=DURABLE) as server:
        yield server


@pytest.fixture
def report():
    """The page that a worker and its horse share."""
    report = Report.create()
    yield report
    report.close()


@contextlib.contextmanager
def shipping(url, report, *, buffer=8 << 20, spill=256 << 20, timeout=1.0, execution="e1", taking_over=False):
    """A started shipper for the job "job"; it is abandoned at the end of the block if it is not done."""
    about = Attempt(now_ms(), 0, execution, "worker", "queue", "a test", "separate")
    store = LogStore(connect(url, timeout=timeout))
    shipper = Shipper(store, "job", about, report, buffer=buffer, spill=spill, taking_over=taking_over)
    shipper.start()
    try:
        yield shipper
    finally:
        shipper.abandon()
        shipper.join(20)
        store.connection.connection_pool.disconnect()
        assert not shipper.is_alive()


_looking = {}


def look(url):
    """A store of the test's own."""
    if url not in _looking:
        _looking[url] = LogStore(connect(url))
    return _looking[url]


@pytest.fixture(autouse=True)
def closed_connections():
    """Close what `look` has opened, and tell nothing of what other tests have left to be told."""
    COUNTS.clear()
    yield
    while _looking:
        _looking.popitem()[1].connection.connection_pool.disconnect()


def stored(url, attempt=1):
    """The records of the log as it is now."""
    return read_all(look(url), Cursor(attempt), "job")


def told(url):
    """What the shippers have told that they counted."""
    return FigureStore(look(url).connection).read()["queue"]


def output(records):
    """The bytes that are in the log."""
    return b"".join(record.data for record in records if isinstance(record, Chunk))


def arrived(url, data, attempt=1):
    """Wait until the log ends with this."""
    store = look(url)

    def is_there():
        summary = store.summary("job")
        return summary and output(read_all(store, Cursor(attempt), "job")).endswith(data)

    wait_until(is_there, 15, f"{data!r} in the log")


def check(records, written, *, dropped=0, sha=True):
    """Assert that the log is what was written, with holes of `dropped` bytes in all, and tells the truth about both."""
    at, missing = 0, 0
    for record in records[1:-1]:
        assert record.offset == at
        assert record.lines == written[record.offset : record.end].count(b"\n")
        assert record.line == 1 + written[:at].count(b"\n")
        if isinstance(record, Chunk):
            assert record.data == written[record.offset : record.end]
        else:
            missing += record.length
        at = record.end
    end = records[-1]
    assert isinstance(records[0], Attempt)
    assert (end.outcome, end.bytes, end.lines) == ("finished", len(written), written.count(b"\n"))
    assert at == len(written)
    assert (missing, end.dropped) == (dropped, dropped)
    assert end.sha256 == (hashlib.sha256(written).hexdigest() if sha else None)


def holes(records):
    """The holes among these records."""
    return [record for record in records if isinstance(record, Hole)]


# Without trouble.


def test_all_output_arrives_in_order_with_a_true_end(server, report):
    """Both streams, any bytes: the log is what was taken, and its end record counts and sums it up."""
    parts = [(STDOUT, b"one\n"), (STDERR, b"\xff\0two\r"), (STDOUT, os.urandom(300_000)), (STDERR, b"no newline")]
    with shipping(server.url, report) as shipper:
        for part in parts:
            shipper.take(*part)
        assert shipper.finish(FINISHED, 10)

    records = stored(server.url)
    check(records, b"".join(data for _, data in parts))
    streams = [stream for stream, _ in itertools.groupby(record.stream for record in records[1:-1])]
    assert streams == [stream for stream, _ in parts]
    assert (records[0].number, records[0].execution, records[0].worker) == (1, "e1", "worker")
    assert (records[-1].attempt, records[-1].exit, records[-1].status) == (1, 0, "finished")
    assert report.attempt == 1


def test_no_output_is_a_log_too(server, report):
    """A job that prints nothing has a log of nothing: its beginning and its end."""
    with shipping(server.url, report) as shipper:
        assert shipper.finish(FINISHED, 10)
    check(stored(server.url), b"")


def test_the_log_is_there_before_the_first_output(server, report):
    """A quiet job's log begins at once, so that followers see that it runs."""
    with shipping(server.url, report):
        wait_until(lambda: look(server.url).summary("job"))
        assert look(server.url).alive("job", 1)


def test_a_prompt_is_shown_without_its_newline(server, report):
    """An unfinished line is shipped after a moment; what ends it follows as the rest of that line."""
    with shipping(server.url, report) as shipper:
        shipper.take(STDOUT, b"password: ")
        arrived(server.url, b"password: ")
        shipper.take(STDOUT, b"ok\n")
        assert shipper.finish(FINISHED, 10)
    chunks = stored(server.url)[1:-1]
    assert [(chunk.data, chunk.line, chunk.midline) for chunk in chunks] == [
        (b"password: ", 1, False),
        (b"ok\n", 1, True),
    ]


def test_a_line_in_two_halves_is_one_chunk(server, report):
    """An unfinished line is held back for its end if that comes at once."""
    with shipping(server.url, report) as shipper:
        shipper.take(STDOUT, b"first\n")
        arrived(server.url, b"first\n")
        for _ in range(20):
            shipper.take(STDOUT, b"one half, ")
            shipper.take(STDOUT, b"the other\n")
        assert shipper.finish(FINISHED, 10)
    assert all(record.data.endswith(b"the other\n") for record in stored(server.url)[2:-1])


def test_a_flood_is_sent_in_few_chunks(server, report):
    """While output keeps coming it is gathered for 50 ms, so that Redis and followers see batches and not lines."""
    with shipping(server.url, report) as shipper:
        wait_until(lambda: report.attempt)
        began = time.monotonic()
        for n in range(2000):
            shipper.take(STDOUT, b"line %d\n" % n)
            if n % 10 == 0:
                time.sleep(0.001)  # a job does not hold this process's lock
        took = time.monotonic() - began
        assert shipper.finish(FINISHED, 10)
    records = stored(server.url)
    check(records, b"".join(b"line %d\n" % n for n in range(2000)))
    assert len(records) - 2 <= took / 0.05 + 5


def test_the_end_is_not_before_the_last_byte(server, report):
    """The end record's time is that of the last byte or later, whatever the worker's clock said before the draining."""
    with shipping(server.url, report) as shipper:
        shipper.take(STDOUT, b"last words\n")
        early = End(outcome="finished", attempt=0, final=True, ended_at=1.0)
        assert shipper.finish(early, 10)
    chunk, end = stored(server.url)[1:]
    assert end.time >= chunk.time
    assert look(server.url).since("job", chunk.time) == Cursor(1, 0)


def test_it_says_that_the_worker_lives(server, report):
    """While the job is quiet, the alive key is refreshed again and again; at the end it goes."""
    with shipping(server.url, report) as shipper:
        wait_until(lambda: look(server.url).alive("job", 1))
        look(server.url).connection.delete(f"{meta_key('job')}:1:alive")
        wait_until(lambda: look(server.url).alive("job", 1), 15)
        assert shipper.finish(FINISHED, 10)
    assert not look(server.url).alive("job", 1)


def test_nothing_says_that_the_worker_lives_behind_the_end(server, report, monkeypatch):
    """However near the next sign of life was: else the log would get the life time of one that is still written."""
    monkeypatch.setattr(ship, "ALIVE_MS", 0)
    with shipping(server.url, report) as shipper:
        shipper.take(STDOUT, b"all of it\n")
        assert shipper.finish(FINISHED, 10)
    assert not look(server.url).alive("job", 1)


def test_executions_of_one_job_have_attempts_of_their_own(server):
    """A retry that begins while the first attempt's output is on its way gets its own list."""
    first_report, second_report = Report.create(), Report.create()
    with (
        shipping(server.url, first_report) as first,
        shipping(server.url, second_report, execution="e2") as second,
    ):
        wait_until(lambda: first_report.attempt and second_report.attempt)
        first.take(STDOUT, b"first\n")
        second.take(STDOUT, b"second\n")
        assert first.finish(FINISHED, 10)
        assert second.finish(FINISHED, 10)
        by_number = {first_report.attempt: b"first\n", second_report.attempt: b"second\n"}
    assert {number: output(stored(server.url, number)) for number in (1, 2)} == by_number
    first_report.close()
    second_report.close()


# Outages.


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_an_outage_with_data_kept_loses_nothing(durable, report, caplog, how):
    """A server that goes and comes back, in order or not: nothing missing, nothing twice, one warning for each way."""
    written = b""
    with shipping(durable.url, report) as shipper:
        for n in range(3):
            for when in ("before", "during", "after"):
                data = b"%s %d\n" % (when.encode(), n) * 500
                if when == "during":
                    durable.stop(how)
                if when == "after":
                    durable.start()
                shipper.take(STDOUT, data)
                written += data
                if when == "during":
                    wait_until(lambda noticed=n + 1: caplog.text.count("its output waits for Redis") == noticed)
                else:
                    arrived(durable.url, data[-20:])
        assert shipper.finish(FINISHED, 15)

    check(stored(durable.url), written)
    assert len(re.findall(r"Redis is back after \d+\.\d s", caplog.text)) == 3
    assert caplog.text.count("its output waits for Redis") == 3


def test_a_server_that_comes_back_empty_gets_what_is_still_held(server, report, caplog):
    """With nothing kept, all of a small log is sent again under its old number."""
    with shipping(server.url, report) as shipper:
        shipper.take(STDOUT, b"before\n" * 1000)
        arrived(server.url, b"before\n")
        server.stop()
        shipper.take(STDERR, b"during\n")
        server.start()
        shipper.take(STDOUT, b"after\n")
        assert shipper.finish(FINISHED, 15)

    check(stored(server.url), b"before\n" * 1000 + b"during\nafter\n")
    assert "Redis has lost its log; sending what is still held" in caplog.text
    assert [attempt.number for attempt in look(server.url).summary("job").attempts] == [1]


def test_a_quiet_job_notices_the_loss_too(server, report):
    """A log that vanished while the job is quiet is back within some seconds, without the job's doing."""
    with shipping(server.url, report) as shipper:
        shipper.take(STDOUT, b"only this\n")
        arrived(server.url, b"only this\n")
        look(server.url).connection.flushall()
        arrived(server.url, b"only this\n")
        assert shipper.finish(FINISHED, 10)
    check(stored(server.url), b"only this\n")


def test_what_is_no_longer_held_is_a_hole_of_exact_size(server, report, monkeypatch):
    """A loss of more than the resend window leaves a hole in front, counted to the byte and line, and the rest."""
    monkeypatch.setattr(backlog, "RESEND", 100_000)
    text = os.urandom(300_000)
    with shipping(server.url, report) as shipper:
        for start in range(0, len(text), 10_000):
            shipper.take(STDOUT, text[start : start + 10_000])
            arrived(server.url, text[: start + 10_000][-100:])
        server.stop()
        server.start()
        shipper.take(STDOUT, b"after\n")
        assert shipper.finish(FINISHED, 15)

    records = stored(server.url)
    (hole,) = holes(records)
    check(records, text + b"after\n", dropped=hole.length)
    assert (hole.offset, hole.cause) == (0, "Redis lost it")
    assert len(text) - 100_000 <= hole.length < len(text)
    counted = told(server.url)
    assert (counted["holes.redis_lost"], counted["hole_bytes.redis_lost"]) == (1, hole.length)
    assert counted["resends"] >= 1


def test_losing_twice_counts_once(server, report, monkeypatch):
    """What is lost again with the hole that stood for it is not counted a second time."""
    monkeypatch.setattr(backlog, "RESEND", 1000)
    written = b""
    with shipping(server.url, report) as shipper:
        for n in range(3):
            for part in range(5):
                data = os.urandom(800) + b"%d.%d\n" % (n, part)
                shipper.take(STDOUT, data)
                written += data
                arrived(server.url, data[-10:])
            look(server.url).connection.flushall()
        shipper.take(STDOUT, b"after\n")
        assert shipper.finish(FINISHED, 15)

    records = stored(server.url)
    check(records, written + b"after\n", dropped=sum(hole.length for hole in holes(records)))
    assert len(holes(records)) == 1


def test_a_failover_to_older_data_loses_nothing(server, report):
    """A replica that lags behind becomes the server: it is brought up to date from the resend window."""
    client = redis.Redis.from_url(server.url)
    with shipping(server.url, report) as shipper:
        shipper.take(STDOUT, b"old\n" * 100)
        arrived(server.url, b"old\n")
        older = {key: client.dump(key) for key in client.keys("*")}
        for n in range(5):
            shipper.take(STDOUT, b"newer %d\n" % n)
            arrived(server.url, b"newer %d\n" % n)
        with client.pipeline() as pipe:
            pipe.flushall()
            for key, value in older.items():
                pipe.restore(key, 60_000, value)
            pipe.execute()
        shipper.take(STDOUT, b"newest\n")
        assert shipper.finish(FINISHED, 10)
    check(stored(server.url), b"old\n" * 100 + b"".join(b"newer %d\n" % n for n in range(5)) + b"newest\n")
    client.close()


def test_a_full_server_is_waited_for(server, report, caplog):
    """While Redis refuses for want of memory output is held; when it takes again, all of it comes."""
    client = redis.Redis.from_url(server.url)
    client.config_set("maxmemory-policy", "noeviction")
    with shipping(server.url, report) as shipper:
        shipper.take(STDOUT, b"before\n")
        arrived(server.url, b"before\n")
        client.config_set("maxmemory", 1)
        shipper.take(STDOUT, b"during\n")
        wait_until(lambda: "command not allowed when used memory" in caplog.text)
        assert output(stored(server.url)) == b"before\n"
        client.config_set("maxmemory", 0)
        shipper.take(STDOUT, b"after\n")
        assert shipper.finish(FINISHED, 15)
    check(stored(server.url), b"before\nduring\nafter\n")
    assert caplog.text.count("its output waits for Redis") == 1
    client.close()


def test_an_emptied_server_that_refuses_to_write_is_waited_for(server, report, caplog):
    """Data lost and memory full at once: the log is rebuilt as soon as Redis takes it."""
    client = redis.Redis.from_url(server.url)
    with shipping(server.url, report) as shipper:
        shipper.take(STDOUT, b"before\n")
        arrived(server.url, b"before\n")
        with client.pipeline() as pipe:
            pipe.flushall()
            pipe.config_set("maxmemory", 1)
            pipe.execute()
        shipper.take(STDOUT, b"during\n")
        wait_until(lambda: "its output waits for Redis" in caplog.text)
        client.config_set("maxmemory", 0)
        assert shipper.finish(FINISHED, 15)
    check(stored(server.url), b"before\nduring\n")
    client.close()


def test_a_read_only_server_is_waited_for(server, report, caplog):
    """A server that has become a replica refuses writes; when it is the primary again, all of it comes."""
    client = redis.Redis.from_url(server.url)
    with shipping(server.url, report) as shipper:
        shipper.take(STDOUT, b"before\n")
        arrived(server.url, b"before\n")
        client.replicaof("127.0.0.1", 1)
        shipper.take(STDOUT, b"during\n")
        wait_until(lambda: "its output waits for Redis" in caplog.text)
        client.replicaof("NO", "ONE")
        assert shipper.finish(FINISHED, 15)
    check(stored(server.url), b"before\nduring\n")
    client.close()


def test_output_beyond_the_buffers_is_a_hole_of_exact_size(durable, report, caplog):
    """With memory and file full, output is dropped from there on; the hole tells how much, and what follows is kept."""
    during = os.urandom(1 << 20)
    with shipping(durable.url, report, buffer=1 << 17, spill=1 << 18) as shipper:
        shipper.take(STDOUT, b"before\n")
        arrived(durable.url, b"before\n")
        durable.stop()
        for start in range(0, len(during), 4096):
            shipper.take(STDOUT, during[start : start + 4096])
        wait_until(lambda: "all buffers are full" in caplog.text)
        durable.start()
        arrived(durable.url, b"")
        wait_until(lambda: holes(stored(durable.url)), 15)
        shipper.take(STDOUT, b"after\n")
        assert shipper.finish(FINISHED, 15)

    records = stored(durable.url)
    check(records, b"before\n" + during + b"after\n", dropped=sum(hole.length for hole in holes(records)))
    (hole,) = holes(records)
    assert hole.cause == "Redis was unreachable and the worker's buffers were full"
    assert hole.offset >= 1 << 17  # at least what memory alone may hold
    assert 1 << 19 <= hole.length <= len(during) - (1 << 17)
    assert caplog.text.count("all buffers are full") == 1
    counted = told(durable.url)
    assert (counted["holes.buffers_full"], counted["hole_bytes.buffers_full"]) == (1, hole.length)
    assert (counted["outages"], counted["jobs.finished"]) == (1, 1)
    assert counted["outage_ms"] > 0


def test_a_file_holds_what_memory_cannot(durable, report):
    """Output of a long outage goes to a temporary file, and comes from there in order, with nothing missing."""
    during = os.urandom(3 << 20)
    with shipping(durable.url, report, buffer=1 << 16, spill=16 << 20) as shipper:
        durable.stop()
        for start in range(0, len(during), 10_000):
            shipper.take((STDOUT, STDERR)[start // 10_000 % 2], during[start : start + 10_000])
        durable.start()
        shipper.take(STDOUT, b"after\n")
        assert shipper.finish(FINISHED, 20)
    check(stored(durable.url), during + b"after\n")
    assert len(during) - (1 << 20) < told(durable.url)["spilled"] < 2 * len(during)


def test_memory_is_bounded_however_long_the_outage(report):
    """100 MiB of output with no server there cost no more memory than the buffer and some."""
    data = b"a line that is a hundred bytes long, or nearly so, and compresses as well as lines of logs do\n" * 700
    with EmbeddedServer() as server:
        url = server.url
    tracemalloc.start()
    try:
        with shipping(url, report, buffer=1 << 20, spill=0) as shipper:
            for n in range((100 << 20) // len(data)):
                shipper.take(STDOUT, data + b"%d\n" % n)
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_tiny_pieces_of_an_outage_cost_no_more_than_others(report):
    """Nor do single bytes: each of them, held as it came, would take a hundred times its size."""
    with EmbeddedServer() as server:
        url = server.url
    tracemalloc.start()
    try:
        with shipping(url, report, buffer=1 << 20, spill=0) as shipper:
            for _ in range(100_000):
                shipper.take(STDOUT, b".")
            assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_note_finds_room_in_a_full_buffer(server, report):
    """A mask that comes late is told of in the log, also where that fills the buffer; nobody waits for anybody."""
    buffer = 1 << 16
    with shipping(server.url, report, buffer=buffer, spill=0, timeout=5) as shipper:
        shipper.take(STDOUT, b"before\n")
        arrived(server.url, b"before\n")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            shipper.take(STDOUT, b"on its way\n")
            wait_until(lambda: shipper._tried > 7, 10, "the thread waits for Redis")
            shipper.take(STDOUT, b"x" * (buffer - 50))
            masked = threading.Thread(target=shipper.mask_again, args=[lambda _, data: data, Masks()], daemon=True)
            masked.start()
            masked.join(10)
            assert not masked.is_alive()
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert shipper.finish(FINISHED, 20)
    assert b"a value is masked from here on" in output(stored(server.url))


def test_alternating_streams_of_an_outage_fit_through(durable, report):
    """Tens of thousands of tiny chunks that gathered in an outage are sent, in order."""
    with shipping(durable.url, report) as shipper:
        durable.stop()
        parts = [((STDOUT, STDERR)[n % 2], b"%d\n" % n) for n in range(20_000)]
        for part in parts:
            shipper.take(*part)
        durable.start()
        assert shipper.finish(FINISHED, 30)
    records = stored(durable.url)
    check(records, b"".join(data for _, data in parts))
    assert [record.stream for record in records[1:5]] == [STDOUT, STDERR] * 2


def test_taking_output_never_waits_for_a_server_that_hangs(server, report):
    """While Redis is frozen, no call of `take` lasts, and when it thaws, all of it is there once."""
    parts = [os.urandom(1 << 16) for _ in range(100)]
    with shipping(server.url, report, timeout=5) as shipper:
        shipper.take(STDOUT, b"before\n")
        arrived(server.url, b"before\n")
        os.kill(server.pid, signal.SIGSTOP)
        slowest = 0.0
        for part in parts:
            began = time.monotonic()
            shipper.take(STDOUT, part)
            slowest = max(slowest, time.monotonic() - began)
        os.kill(server.pid, signal.SIGCONT)
        assert shipper.finish(FINISHED, 20)
    check(stored(server.url), b"before\n" + b"".join(parts))
    assert slowest < 2


class DeafProxy:
    """Passes bytes between clients and a server, except for one answer that it swallows with its connection."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = []
        self._sockets = []
        self._mark = None
        self.swallowed = 0
        self._start(self._accept)

    def swallow(self, mark: bytes) -> None:
        """Swallow the answer to the next request that holds `mark`."""
        self._mark = mark

    def _start(self, run, *args):
        thread = threading.Thread(target=run, args=args)
        thread.start()
        self._threads.append(thread)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._upstream))
                self._sockets += [client, server]
                deaf = threading.Event()
                self._start(self._requests, client, server, deaf)
                self._start(self._answers, client, server, deaf)

    def _requests(self, client, server, deaf):
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                if self._mark and self._mark in data:
                    self._mark = None
                    deaf.set()
                server.sendall(data)

    def _answers(self, client, server, deaf):
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                if deaf.is_set():
                    self.swallowed += 1
                    break
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)

    def close(self):
        """Close everything and wait for the threads."""
        self._listener.shutdown(socket.SHUT_RDWR)
        for one in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(10)


@pytest.mark.parametrize("mark", [b'"execution"', b"to be repeated", b'"outcome"'], ids=["start", "append", "end"])
def test_a_write_whose_answer_is_lost_is_done_once(server, report, caplog, mark):
    """Beginning, output and end are each sent again when no answer came, and are there once all the same."""
    ready = look(server.url)  # so that the scripts are known and the lost answer is that of the write itself
    at, _ = ready.start("other", Attempt(1, 0, "e1"))
    ready.append("other", at, [encode(Hole(1, 0, 1, 0, False, 1, "x"))], end=1, lines=0)
    ready.end("other", End(outcome="lost", attempt=1, final=True, bytes=1))
    proxy = DeafProxy(int(server.url.rpartition(":")[2].partition("/")[0]))
    try:
        proxy.swallow(mark)
        with shipping(f"redis://127.0.0.1:{proxy.port}/0", report) as shipper:
            shipper.take(STDOUT, b"first\n")
            arrived(server.url, b"first\n")
            shipper.take(STDOUT, b"to be repeated\n")
            arrived(server.url, b"to be repeated\n")
            assert shipper.finish(FINISHED, 15)
    finally:
        proxy.close()

    assert proxy.swallowed == 1
    elements = look(server.url).connection.lrange(f"{meta_key('job')}:1", 0, -1)
    check(stored(server.url), b"first\nto be repeated\n")
    assert len(elements) == 4
    assert "somebody else" not in caplog.text


# Ends.


def test_finish_does_not_wait_for_a_server_that_is_away(durable, report):
    """The worker goes on after its patience; the rest is brought when the server is back."""
    with shipping(durable.url, report) as shipper:
        shipper.take(STDOUT, b"before\n")
        arrived(durable.url, b"before\n")
        durable.stop()
        shipper.take(STDOUT, b"last words\n")
        began = time.monotonic()
        assert not shipper.finish(FINISHED, 0.3)
        assert time.monotonic() - began < 5
        durable.start()
        shipper.join(20)
        assert not shipper.is_alive()
    check(stored(durable.url), b"before\nlast words\n")


def test_an_abandoned_log_says_what_was_given_up(report, caplog):
    """Given up while Redis is away, the thread ends soon and the worker's log tells from which byte on."""
    with EmbeddedServer() as server, shipping(server.url, report) as shipper:
        shipper.take(STDOUT, b"before\n")
        arrived(server.url, b"before\n")
        server.stop()
        shipper.take(STDOUT, b"given up\n")
        wait_until(lambda: "its output waits for Redis" in caplog.text)
        shipper.finish(FINISHED, 0.1)
        shipper.abandon()
        shipper.join(10)
        assert not shipper.is_alive()
        shipper.take(STDOUT, b"nobody listens\n")
    assert "job job: gave up; output after byte 7 is not stored" in caplog.text


def test_a_log_that_somebody_else_ended_takes_nothing_more(server, report, caplog):
    """Behind another writer's end record nothing is written; the job and its output go on unharmed."""
    with shipping(server.url, report) as shipper:
        shipper.take(STDOUT, b"first\n")
        arrived(server.url, b"first\n")
        look(server.url).end("job", End(outcome="canceled", attempt=1, final=True, bytes=6, lines=1))
        shipper.take(STDOUT, b"second\n")
        wait_until(lambda: not shipper.is_alive())
        shipper.take(STDOUT, b"third\n")
        shipper.finish(FINISHED, 1)
    records = stored(server.url)
    assert output(records) == b"first\n"
    assert records[-1].outcome == "canceled"
    assert caplog.text.count("somebody else ended its log") == 1


def test_a_worker_that_was_thought_lost_goes_on(server, report):
    """When followers gave the worker up too early, its further output and its real end count."""
    with shipping(server.url, report) as shipper:
        shipper.take(STDOUT, b"first\n")
        arrived(server.url, b"first\n")
        look(server.url).end("job", End(outcome="lost", attempt=1, final=True, bytes=6, lines=1))
        shipper.take(STDOUT, b"second\n")
        arrived(server.url, b"second\n")
        assert shipper.finish(FINISHED, 10)
    records = [record for record in stored(server.url) if not (isinstance(record, End) and record.outcome == "lost")]
    check(records, b"first\nsecond\n")
    assert look(server.url).summary("job").last.end.outcome == "finished"


@pytest.mark.parametrize("unsent", [b"", b"in the worker's\nmemory\n"])
def test_a_horse_that_takes_over_tells_what_died_with_its_worker(server, report, unsent):
    """What the worker had drained and not shipped is a hole of its size; the horse's own output follows it."""
    with shipping(server.url, report) as worker:
        worker.take(STDOUT, b"shipped\n")
        arrived(server.url, b"shipped\n")
    report.drained = 8 + len(unsent), 1 + unsent.count(b"\n")
    with shipping(server.url, report, taking_over=True) as horse:
        horse.take(STDOUT, b"from the horse\n")
        assert horse.finish(FINISHED, 10)

    records = stored(server.url)
    check(records, b"shipped\n" + unsent + b"from the horse\n", dropped=len(unsent), sha=False)
    assert [hole.cause for hole in holes(records)] == (["the worker was killed"] if unsent else [])


@pytest.mark.parametrize("seed", [random.randrange(1000)])
def test_any_mixture_of_troubles_loses_nothing(durable, report, seed):
    """Killed, stopped, frozen, emptied, full, in any order: what was taken is in the log, once, and no hole with it."""
    chance, written = random.Random(seed), b""
    numbers = itertools.count()

    def write(shipper):
        nonlocal written
        for _ in range(chance.randrange(1, 30)):
            data = b"%d " % next(numbers) + chance.randbytes(chance.choice([1, 10, 1000])) + b"\n"
            shipper.take(chance.choice([STDOUT, STDERR]), data)
            written += data
            time.sleep(0.002)  # a job's pace, so that output meets every moment of the trouble

    with shipping(durable.url, report, timeout=0.3) as shipper:
        for trouble in chance.choices(["kill", "stop", "freeze", "empty", "full"], k=5):
            write(shipper)
            match trouble:
                case "kill" | "stop":
                    durable.stop(signal.SIGKILL if trouble == "kill" else signal.SIGTERM)
                    write(shipper)
                    durable.start()
                case "freeze":
                    os.kill(durable.pid, signal.SIGSTOP)
                    write(shipper)
                    os.kill(durable.pid, signal.SIGCONT)
                case "empty":
                    look(durable.url).connection.flushall()
                case "full":
                    look(durable.url).connection.config_set("maxmemory", 1)
                    write(shipper)
                    look(durable.url).connection.config_set("maxmemory", 0)
            write(shipper)
        assert shipper.finish(FINISHED, 30)
    check(stored(durable.url), written)


# Masks that come late.


@contextlib.contextmanager
def redacting(shipper, report):
    """A redactor in front of a shipper, as in a worker; yields what takes output."""
    redactor = Redactor(Masks(), report, shipper)

    def take(data, stream=STDOUT):
        report.count(data)
        shipper.take(stream, redactor.feed(stream, data))

    yield take
    shipper.take(STDOUT, redactor.flush(STDOUT))


@pytest.mark.parametrize("spill", [0, 64 << 20])
def test_a_late_mask_reaches_all_that_redis_has_not_got(server, report, spill):
    """What waits for Redis, in memory and in the file, is masked when its value becomes known, and holes stay holes."""
    chance = random.Random(1)
    lines = [b"the secret value, %s\n" % chance.randbytes(40).hex().encode() for _ in range(20_000)]
    with shipping(server.url, report, buffer=1 << 16, spill=spill, timeout=30) as shipper:
        with redacting(shipper, report) as take:
            take(b"first\n")
            arrived(server.url, b"first\n")
            os.kill(server.pid, signal.SIGSTOP)
            take(b"in flight\n")
            wait_until(lambda: shipper._tried == 16, 10)
            for number in range(0, len(lines), 100):
                take(b"".join(lines[number : number + 100]))
            wait_until(lambda: shipper._backlog, 10)
            assert bool(shipper._backlog._file) == bool(spill)
            assert bool(shipper._missing) != bool(spill)
            take(b"the end: secret value")
            take(b"\n::add-mask::secret value\nsecret value\n")
            os.kill(server.pid, signal.SIGCONT)
        assert shipper.finish(FINISHED, 30)
    records = stored(server.url)
    data = output(records)
    note = b"[tailer] a value is masked from here on; what was stored before this line may show it\n"
    assert b"secret value" not in data
    assert data.startswith(b"first\nin flight\n")
    assert data.endswith(b"the end: ***\n" + note + b"\n" + b"::add-mask::***\n***\n") or not spill
    assert b"the ************, " in data
    end, missing = records[-1], sum(hole.length for hole in holes(records))
    assert (end.dropped, end.sha256) == (missing, None)
    assert end.bytes == len(data) + missing == report.position[0]
    assert end.lines == report.position[1]
    at = 0
    for record in records[1:-1]:
        assert record.offset == at
        at = record.end


def test_a_late_mask_on_what_is_not_cut_yet(server, report):
    """What no chunk has yet is masked like anything else, with a true checksum, and there is nothing to be told."""
    os.kill(server.pid, signal.SIGSTOP)
    with shipping(server.url, report) as shipper:
        with redacting(shipper, report) as take:
            take(b"a secret va")
            take(b"a secret va", STDERR)
            take(b"lue\n::add-mask::secret value\n")
            take(b"lue\n", STDERR)
            os.kill(server.pid, signal.SIGCONT)
        assert shipper.finish(FINISHED, 30)
    records = stored(server.url)
    assert output(records) == b"a a ***\n::add-mask::***\n***\n"
    assert records[-1].sha256 == hashlib.sha256(output(records)).hexdigest()
    assert records[-1].bytes == report.position[0]


def test_a_late_mask_when_all_is_over(server, report):
    """A daemon that registers a mask behind the end harms nobody."""
    with shipping(server.url, report) as shipper, redacting(shipper, report) as take:
        take(b"output\n")
        assert shipper.finish(FINISHED, 30)
        take(b"::add-mask::secret value\n")
    assert output(stored(server.url)) == b"output\n"


def test_no_secret_is_in_the_spill_file(server, report):
    """What is written to disk while Redis is away has its secrets masked already."""
    chance = random.Random(1)
    os.kill(server.pid, signal.SIGSTOP)
    with shipping(server.url, report, buffer=1 << 16) as shipper:
        redactor = Redactor(Masks([b"secret value"]), report, shipper)
        for _ in range(200):
            text = b"".join(b"a secret value, %s\n" % chance.randbytes(40).hex().encode() for _ in range(100))
            shipper.take(STDOUT, redactor.feed(STDOUT, text[:1000]))
            shipper.take(STDOUT, redactor.feed(STDOUT, text[1000:]))
        file, head = shipper._backlog._file, backlog.Backlog._HEAD
        raw, at, spilled = os.pread(file.fileno(), 1 << 26, 0), 0, b""
        while at < len(raw):
            length = head.unpack_from(raw, at)[-1]
            spilled += decode(raw[at + head.size : at + head.size + length]).data
            at += head.size + length
        os.kill(server.pid, signal.SIGCONT)
        assert shipper.finish(FINISHED, 30)
    assert b"a ***, " in spilled
    assert b"secret value" not in spilled + output(stored(server.url))
