"""What `LogStore` promises on any Redis. `test_store.py` runs it on each server that Tailer supports, and on fakeredis.

Two classes: `StoreContract` is for all of them. `ServerContract` adds what needs a real server, because fakeredis

- has no memory limit, so it never refuses a write for want of memory;
- is a dictionary in this process: it can't be stopped, killed, hung or restarted, and no second process can reach it;
- runs scripts in another Lua, whose limits (arguments of one call) are others.
"""

import contextlib
import copy
import inspect
import json
import os
import random
import signal
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from tailer import sealed as packing
from tailer.budget import BYTES, EXPIRY, FINISHED
from tailer.errors import AttemptMissing, CorruptRecord, LogClosed, StoreUnavailable, UnknownJob
from tailer.index import UNTIL
from tailer.reader import MAX_RECORDS, PIECE
from tailer.records import MAX_CHUNK, OUTCOMES, OVER_LIMIT, STDERR, STDOUT, Attempt, Chunk, End, Hole, decode, encode
from tailer.sealed import FIRST
from tailer.store import (
    ALIVE_MS,
    INDEX,
    Cursor,
    LogStore,
    connect,
    list_key,
    meta_key,
    now_ms,
    tail_key,
    wake_channel,
)
from tests.log_machine import LogMachine
from tests.log_model import COMPRESSOR, WrittenLog, flat, pieces, read_all
from tests.waiting import wait_until

TTL = 1000

BAD_IDS = ["", " ", "a b", "a:b", "a}b", "{a", "a\n", "a\0", "é", "a/../b", "tailer:jobs", "*", "%s", "x" * 201]

examples = settings(
    max_examples=40,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,  # each example has a job of its own
        HealthCheck.differing_executors,  # the same test runs for each kind of server
        HealthCheck.too_slow,
    ],
)


def new_job():
    """An id that no other test, nor another example of this one, has."""
    return uuid.uuid4().hex


def lines(text, at=0, line=1, stream=STDOUT, time=1):
    """A chunk of whole lines."""
    return Chunk(stream, time, at, line, text.count(b"\n"), False, text)


def add(store, job_id, at, *records):
    """Append records whose line counts begin at 0 newlines; returns what the store says."""
    counted = sum(record.lines for record in records)
    return store.append(job_id, at, list(map(encode, records)), end=records[-1].end, lines=counted)


def sealed(store, job_id):
    """Seal a log, also where that saves nothing."""
    for _ in store.seal(job_id, 1, always=True):
        pass


def write_numbers(store, job_id, stop, first=0):
    """Append lines of four bytes with their numbers, each by itself, up to and without ``stop``."""
    store.start(job_id, Attempt(5, 0, "e1"))
    for n in range(first, stop):
        chunk = lines(b"%03d\n" % n, 4 * n, n + 1, time=100 + n)
        assert store.append(job_id, Cursor(1, chunk.offset), [encode(chunk)], end=chunk.end, lines=n + 1) == chunk.end


def bytes_of(chunk):
    """What it holds."""
    return chunk.data


def ended(attempt=1, outcome="finished", *, final=True, bytes_=0, lines_=0, **more):
    """An end record."""
    return End(outcome=outcome, attempt=attempt, final=final, bytes=bytes_, lines=lines_, ended_at=2.0, **more)


def raw(store, job_id, attempt=1):
    """The list's elements as they are."""
    return store.connection.lrange(f"{meta_key(job_id)}:{attempt}", 0, -1)


def put(store, job_id, index, element, attempt=1):
    """Overwrite an element, as a fault of the server or somebody's script might."""
    store.connection.lset(f"{meta_key(job_id)}:{attempt}", index, element)


class StoreContract:
    """Promises kept on every kind of server. A subclass has a fixture ``connection`` to an empty one."""

    @pytest.fixture
    def store(self, connection):
        """A store with a life time of `TTL` seconds."""
        return LogStore(connection, ttl=TTL)

    @pytest.fixture
    def short(self, connection):
        """A store that keeps the first 10 bytes of a log, and the last 20."""
        return LogStore(connection, ttl=TTL, keep_head=10, keep_tail=20)

    # Starting.

    def test_the_first_attempt_is_1_and_begins_at_0(self, store):
        """A job's first execution gets attempt 1, at byte 0, with no newline before it."""
        assert store.start("job", Attempt(5, 0, "e1", "w", "q", "d", "pty")) == (Cursor(1, 0), 0)

        summary = store.summary("job")
        assert summary.job_id == "job"
        assert [attempt.number for attempt in summary.attempts] == [1]
        assert summary.last.about == Attempt(5, 1, "e1", "w", "q", "d", "pty")
        assert (summary.last.started, summary.last.bytes, summary.last.lines, summary.last.end) == (5, 0, 0, None)
        assert store.reader("job", Cursor()).read() == [summary.last.about]

    def test_starting_is_safe_to_repeat(self, store):
        """The same execution gets the same attempt, and where its log stands, however often it starts."""
        store.start("job", Attempt(5, 0, "e1"))
        add(store, "job", Cursor(1, 0), lines(b"a\nb\n"))

        assert store.start("job", Attempt(6, 0, "e1")) == (Cursor(1, 4), 2)
        assert store.start("job", Attempt(6, 1, "e1")) == (Cursor(1, 4), 2)
        assert len(raw(store, "job")) == 2

    def test_executions_are_numbered_in_order(self, store):
        """Each further execution gets the next number, also when the one before has not ended."""
        started = [store.start("job", Attempt(5, 0, f"e{n}"))[0] for n in (1, 2, 3)]

        assert started == [Cursor(1), Cursor(2), Cursor(3)]
        assert store.start("job", Attempt(5, 0, "e2"))[0] == Cursor(2)
        assert store.summary("job").after(1).number == 2
        assert store.summary("job").after(3) is None

    def test_executions_that_start_at_once_get_numbers_of_their_own(self, store):
        """Workers that start executions of one job at the same time never share an attempt."""
        with ThreadPoolExecutor(4) as pool:
            started = list(pool.map(lambda n: store.start("job", Attempt(5, 0, f"e{n % 8}"))[0].attempt, range(16)))

        assert sorted(started[:8]) == list(range(1, 9))
        assert started[:8] == started[8:]

    def test_a_lost_attempt_is_rebuilt_under_its_number(self, store):
        """After the data are gone, an execution can have its old number again, and numbering goes on behind it."""
        assert store.start("job", Attempt(5, 3, "e3"))[0] == Cursor(3)
        assert store.start("job", Attempt(5, 0, "e4"))[0] == Cursor(4)

        assert [attempt.number for attempt in store.summary("job").attempts] == [3, 4]
        assert store.tail("job", 10) == Cursor(3)

    def test_a_number_is_never_taken_from_another_execution(self, store):
        """Asking for a number that another execution has, or one before it, is refused."""
        store.start("job", Attempt(5, 2, "e2"))

        for number in (1, 2):
            with pytest.raises(LogClosed, match=f"attempt {number} .* another execution"):
                store.start("job", Attempt(5, number, "other"))
        assert [attempt.about.execution for attempt in store.summary("job").attempts] == ["e2"]

    def test_what_an_eviction_left_is_not_mixed_into_a_new_log(self, store):
        """Where a server evicted a job's hash but not its list, the next log of that job begins empty."""
        WrittenLog([(STDOUT, b"of old\n", 0)]).store(store, "job", end=True)
        store.connection.delete(meta_key("job"))
        WrittenLog([(STDOUT, b"new\n", 0)]).store(store, "job", execution="e2", end=True)

        assert [r.data for r in read_all(store, Cursor(), "job") if isinstance(r, Chunk)] == [b"new\n"]

    # Appending.

    def test_an_append_in_its_place_is_stored(self, store):
        """Output is counted, stored as it is, and can be read back."""
        store.start("job", Attempt(5, 0, "e1"))
        chunks = [lines(b"a\nb\n"), lines(b"c\n", 4, 3, STDERR)]

        assert add(store, "job", Cursor(1, 0), *chunks) == 6

        assert (store.summary("job").last.bytes, store.summary("job").last.lines) == (6, 3)
        assert store.end_of("job", 1) == Cursor(1, 6)
        assert store.reader("job", Cursor()).read()[1:] == chunks

    def test_a_repeated_append_changes_nothing(self, store):
        """Sent again because its answer was lost, an append says that it is stored and adds nothing."""
        store.start("job", Attempt(5, 0, "e1"))
        for _ in range(3):
            assert add(store, "job", Cursor(1, 0), lines(b"a\n")) == 2

        assert len(raw(store, "job")) == 2
        assert (store.summary("job").last.bytes, store.summary("job").last.lines) == (2, 1)

    def test_an_append_that_would_leave_a_gap_or_overlap_is_refused(self, store):
        """Where an append doesn't join the log's end, nothing is added and the end is told."""
        store.start("job", Attempt(5, 0, "e1"))
        add(store, "job", Cursor(1, 0), lines(b"a\nb\n"))

        for at in (0, 2, 3, 5, 10**12):
            assert add(store, "job", Cursor(1, at), lines(b"XYZ\n", at)) == 4
        assert len(raw(store, "job")) == 2

    def test_of_two_writers_at_the_same_place_one_is_stored(self, store):
        """The check and the write are one step: racing appends at one offset never both apply."""
        store.start("job", Attempt(5, 0, "e1"))
        with ThreadPoolExecutor(4) as pool:
            data = [b"%d" % n * (n + 1) for n in range(8)]
            stored = list(pool.map(lambda text: add(store, "job", Cursor(1, 0), lines(text)), data))

        assert len(set(stored)) == 1
        assert [r.data for r in read_all(store, Cursor(), "job")[1:]] == [data[stored[0] - 1]]

    def test_a_long_outage_worth_of_small_records_fits_one_append(self, store):
        """As many records as a worker sends at once are stored by one call, in order."""
        store.start("job", Attempt(5, 0, "e1"))
        chunks = [Chunk((STDOUT, STDERR)[n % 2], 1, n, 1, 0, True, b"x") for n in range(30_000)]

        assert add(store, "job", Cursor(1, 0), *chunks) == 30_000

        assert [record.offset for record in read_all(store, Cursor(), "job")[1:]] == list(range(30_000))

    def test_a_log_that_is_not_there_takes_nothing(self, store):
        """Appending, ending or keeping alive an attempt that the store does not have says so and leaves no key."""
        for at in (Cursor(1, 0), Cursor(2, 0)):
            with pytest.raises(AttemptMissing, match="job 'job'"):
                add(store, "job", at, lines(b"a\n"))
            with pytest.raises(AttemptMissing):
                store.end("job", ended(at.attempt))
            with pytest.raises(AttemptMissing):
                store.keep_alive("job", at.attempt)
        assert not store.connection.keys(f"{meta_key('job')}*")

    # Ending.

    def test_the_end_record_is_the_last_one(self, store):
        """The end record is read behind the last byte, and the summary has it."""
        store.start("job", Attempt(5, 0, "e1"))
        add(store, "job", Cursor(1, 0), lines(b"a\n"))
        end = ended(bytes_=2, lines_=1, exit=0, status="finished", sha256="0" * 64, reason='a "reason"')

        assert store.end("job", end) == 2

        assert store.summary("job").last.end == end
        assert read_all(store, Cursor(), "job")[-1] == end
        assert read_all(store, Cursor(1, 2), "job") == [end]

    def test_nothing_comes_behind_the_end(self, store):
        """An append after the end is refused, also one at the right place."""
        store.start("job", Attempt(5, 0, "e1"))
        store.end("job", ended())

        with pytest.raises(LogClosed, match="has its end record"):
            add(store, "job", Cursor(1, 0), lines(b"a\n"))
        assert len(raw(store, "job")) == 2

    def test_ending_is_safe_to_repeat_but_not_to_change(self, store):
        """The same end record sent again is taken as stored; a different one is refused."""
        store.start("job", Attempt(5, 0, "e1"))
        for _ in range(3):
            assert store.end("job", ended()) == 0
        store.start("job", Attempt(5, 0, "e2"))
        assert store.end("job", ended()) == 0

        with pytest.raises(LogClosed):
            store.end("job", ended(outcome="failed"))
        assert len(raw(store, "job")) == 2

    def test_an_end_before_the_last_byte_is_not_written(self, store):
        """An end record that doesn't join the log's end is not stored; the end of the log is told."""
        store.start("job", Attempt(5, 0, "e1"))
        add(store, "job", Cursor(1, 0), lines(b"a\n"))

        assert store.end("job", ended(bytes_=1)) == 2
        assert store.end("job", ended(bytes_=3)) == 2
        assert store.summary("job").last.end is None

    @pytest.mark.parametrize("final", [True, False])
    def test_an_attempt_is_not_the_last_one_if_a_later_one_exists(self, store, final):
        """With a later attempt, the end record says that it is not final, whatever the worker thought."""
        store.start("job", Attempt(5, 0, "e1"))
        store.start("job", Attempt(5, 0, "e2"))
        store.end("job", ended(1, final=True))
        store.end("job", ended(2, final=final))

        first, second = store.summary("job").attempts
        assert (first.end.final, second.end.final) == (False, final)
        assert read_all(store, Cursor(1), "job")[-1].final is False

    def test_a_worker_thought_lost_that_comes_back_goes_on(self, store):
        """Output behind a lost end reopens the log; its real end is then the last one."""
        store.start("job", Attempt(5, 0, "e1"))
        add(store, "job", Cursor(1, 0), lines(b"a\n"))
        lost = ended(outcome="lost", bytes_=2, lines_=1)
        store.end("job", lost)
        assert store.summary("job").last.end == lost

        assert store.append("job", Cursor(1, 2), [encode(lines(b"b\n", 2, 2))], end=4, lines=2) == 4
        assert store.summary("job").last.end is None
        real = ended(bytes_=4, lines_=2)
        assert store.end("job", real) == 4

        assert store.summary("job").last.end == real
        told = read_all(store, Cursor(), "job")
        assert [record for record in told if isinstance(record, End)] == [lost, real]
        assert bytes(value for _, value, _ in flat(told)) == b"a\nb\n"
        with pytest.raises(LogClosed):
            add(store, "job", Cursor(1, 4), lines(b"c\n", 4))

    def test_a_real_end_takes_the_place_of_a_lost_one(self, store):
        """A worker that comes back only to end its log does; being lost a second time adds nothing."""
        store.start("job", Attempt(5, 0, "e1"))
        store.end("job", ended(outcome="lost"))
        with pytest.raises(LogClosed):
            store.end("job", ended(outcome="lost", reason="again"))

        assert store.end("job", ended()) == 0
        assert store.summary("job").last.end == ended()
        with pytest.raises(LogClosed):
            store.end("job", ended(outcome="lost"))

    @pytest.mark.parametrize("outcome", [outcome for outcome in OUTCOMES if outcome != "lost"])
    def test_words_in_an_end_record_do_not_reopen_it(self, store, outcome):
        """A reason that reads like a lost end, as a job's exception might, keeps the log closed."""
        store.start("job", Attempt(5, 0, "e1"))
        forged = '"outcome":"lost"'
        store.end("job", ended(outcome=outcome, reason=forged, worker=forged, status=f"{forged},\\"))

        with pytest.raises(LogClosed):
            add(store, "job", Cursor(1, 0), lines(b"a\n"))

    # Life time.

    def test_every_key_of_a_job_expires(self, store):
        """Whatever was done with a job, none of its keys, nor the index, is there for ever."""
        connection = store.connection
        for number in (1, 2):
            store.start("job", Attempt(5, 0, f"e{number}"))
            add(store, "job", Cursor(number, 0), lines(b"a\n"))
        store.keep_alive("job", 2)
        store.end("job", ended(1, bytes_=2, lines_=1))

        names = {key.decode() for key in connection.keys("*")}
        key = meta_key("job")
        assert names == {INDEX, UNTIL, key, f"{key}:1", f"{key}:2", f"{key}:2:alive"}
        for name in names:
            assert connection.pttl(name) > 0, name
        assert connection.pttl(f"{key}:2:alive") <= ALIVE_MS
        assert connection.pttl(INDEX) > TTL * 1000
        assert connection.pttl(UNTIL) > TTL * 1000

    @pytest.mark.parametrize(
        ("outcome", "final", "seconds"),
        [("finished", True, 100), ("finished", False, 300), ("failed", True, 300), ("stopped", True, 300)],
    )
    def test_a_log_lives_as_long_as_its_outcome_says(self, connection, outcome, final, seconds):
        """While the job runs or will run again for the longer time, then for that of its end, in all its keys."""
        store = LogStore(connection, ttl_finished=100, ttl_failed=300, keep_head=1)
        store.start("job", Attempt(5, 0, "e1"))
        add(store, "job", Cursor(1, 0), lines(b"a\n"), lines(b"b\n", 2, 2))
        keys = [meta_key("job"), f"{meta_key('job')}:1", f"{meta_key('job')}:1:tail"]
        for _ in range(2):
            for key in keys:
                assert 290_000 < connection.pttl(key) <= 300_000, key
                connection.pexpire(key, 5000)
            store.keep_alive("job", 1)
        store.end("job", ended(outcome=outcome, final=final, bytes_=4, lines_=2))
        for key in keys:
            assert seconds - 10 < connection.pttl(key) / 1000 <= seconds, key
        assert seconds - 10 < (connection.zscore(UNTIL, "job") - now_ms()) / 2000 <= seconds

    def test_whoever_ends_a_log_keeps_it_as_its_worker_said(self, connection):
        """A follower that ends the log of a lost worker has other settings; those of the worker count."""
        LogStore(connection, ttl_finished=100, ttl_failed=500).start("job", Attempt(5, 0, "e1"))
        LogStore(connection, ttl=9000).end("job", ended(outcome="lost"))
        assert 490 < connection.pttl(meta_key("job")) / 1000 <= 500

    def test_a_job_is_forgotten_after_its_own_time(self, connection):
        """Others' times do not matter: neither goes one too soon whose log lives for longer, nor stays one for them."""
        brief, long = LogStore(connection, ttl=60), LogStore(connection, ttl=6000)
        for job_id in ("old", "new"):
            brief.start(f"brief-{job_id}", Attempt(5, 0, "e1"))
            long.start(f"long-{job_id}", Attempt(5, 0, "e1"))
        connection.zadd(INDEX, {"brief-old": now_ms() - 121_000, "long-old": now_ms() - 121_000})
        connection.zincrby(UNTIL, -121_000, "brief-old")
        connection.zincrby(UNTIL, -121_000, "long-old")
        brief.start("another", Attempt(5, 0, "e1"))
        found = {job_id for _, job_id in brief.jobs()}
        assert found == {"brief-new", "long-new", "long-old", "another"}
        assert connection.zcard(UNTIL) == 4
        assert connection.pttl(INDEX) > 10_000_000

    @pytest.mark.parametrize("what", ["start", "again", "append", "keep_alive", "end"])
    def test_a_sign_of_life_keeps_the_whole_log(self, store, what):
        """Each thing that a worker does gives the job its full time again: to all attempts when it starts or ends."""
        for number in (1, 2):
            store.start("job", Attempt(5, 0, f"e{number}"))
            add(store, "job", Cursor(number, 0), lines(b"a\n"))
        kept = [meta_key("job"), f"{meta_key('job')}:1", f"{meta_key('job')}:2"]
        for key in kept:
            store.connection.pexpire(key, 5000)
        match what:
            case "start":
                store.start("job", Attempt(5, 0, "e3"))
            case "again":
                # Once every 5 s is enough for what is not written to just now.
                add(store, "job", Cursor(2, 0), lines(b"a\n"))
                store.keep_alive("job", 2)
            case "append":
                add(store, "job", Cursor(2, 2), lines(b"b\n", 2))
                kept.remove(f"{meta_key('job')}:1")
            case "keep_alive":
                store.keep_alive("job", 2)
            case "end":
                store.end("job", ended(2, bytes_=2, lines_=1))

        for key in kept:
            assert store.connection.pttl(key) > (TTL - 60) * 1000, key

    def test_what_is_over_the_limit_lives_and_goes_with_the_rest(self, short):
        """The list that holds the end of a long log has the others' time to live, and is deleted with them."""
        write_numbers(short, "job", 20)
        keys = [f"{meta_key('job')}{suffix}" for suffix in ("", ":1", ":1:tail")]
        assert set(short.connection.keys(f"{meta_key('job')}*")) == {
            key.encode() for key in [*keys, f"{keys[1]}:alive"]
        }
        for change in (
            lambda: short.append("job", Cursor(1, 80), [encode(lines(b"020\n", 80, 21))], end=84, lines=21),
            lambda: short.keep_alive("job", 1),
            lambda: short.start("job", Attempt(5, 0, "e2")),
            lambda: short.end("job", ended(1, bytes_=84, lines_=21)),
        ):
            for key in keys:
                short.connection.pexpire(key, 5000)
            change()
            for key in keys:
                assert short.connection.pttl(key) > (TTL - 60) * 1000, key
        short.delete("job")
        assert not short.connection.keys(f"{meta_key('job')}*")

    def test_what_an_eviction_left_of_a_long_log_is_not_mixed_into_a_new_one(self, short):
        """Where the job's hash is gone and its lists are not, the next log begins empty."""
        write_numbers(short, "job", 20)
        short.connection.delete(meta_key("job"))
        write_numbers(short, "job", 5)
        assert bytes(value for _, value, _ in flat(read_all(short, Cursor(), "job"))) == b"000\n001\n002\n003\n004\n"

    def test_a_worker_is_alive_until_it_ends_its_log_or_falls_silent(self, store):
        """Alive from the start, for 15 s after the last sign of it, and not behind the end."""
        store.start("job", Attempt(5, 0, "e1"))
        key = f"{meta_key('job')}:1:alive"
        assert store.alive("job", 1)
        assert ALIVE_MS - 5000 < store.connection.pttl(key) <= ALIVE_MS

        store.connection.delete(key)
        assert not store.alive("job", 1)
        store.keep_alive("job", 1)
        assert store.alive("job", 1)
        assert ALIVE_MS - 5000 < store.connection.pttl(key) <= ALIVE_MS

        store.end("job", ended())
        assert not store.alive("job", 1)
        assert not store.alive("job", 2)

    def test_deleting_removes_every_trace(self, store):
        """After a delete no key of the job is left, and the job was never there."""
        for number in (1, 2):
            store.start("job", Attempt(5, 0, f"e{number}"))
        store.start("other", Attempt(5, 0, "e1"))

        store.delete("job")
        store.delete("unknown")

        assert not store.connection.keys(f"{meta_key('job')}*")
        assert store.summary("job") is None
        assert not store.expired("job")
        assert [job_id for _, job_id in store.jobs()] == ["other"]
        assert store.reader("job", Cursor()).read() == []

    def test_an_expired_log_is_told_from_one_that_never_was(self, store):
        """When its time is over a log has expired; an unknown job has not, nor has one that is there."""
        store.start("job", Attempt(5, 0, "e1"))
        assert not store.expired("job")
        assert not store.expired("unknown")

        for key in store.connection.keys(f"{meta_key('job')}*"):
            store.connection.pexpire(key, 1)
        wait_until(lambda: not store.connection.keys(f"{meta_key('job')}*"))  # each ends at its own millisecond

        assert store.summary("job") is None
        assert store.expired("job")
        assert store.reader("job", Cursor()).read() == []

    def test_followers_are_woken_by_every_change(self, store):
        """Start, append, end and delete each publish to the job's channel, and to no other job's."""
        with store.connection.pubsub(ignore_subscribe_messages=True) as pubsub:
            pubsub.subscribe(wake_channel("job"))
            pubsub.get_message(timeout=5)
            changes = [
                lambda: store.start("job", Attempt(5, 0, "e1")),
                lambda: add(store, "job", Cursor(1, 0), lines(b"a\n")),
                lambda: store.end("job", ended(bytes_=2, lines_=1)),
                lambda: store.delete("job"),
            ]
            store.start("other", Attempt(5, 0, "e1"))
            for change in changes:
                change()
                assert wait_until(lambda: pubsub.get_message(timeout=0.1))["channel"] == wake_channel("job").encode()
            assert pubsub.get_message(timeout=0.05) is None

    # Jobs.

    def test_jobs_are_listed_by_their_last_start_or_end(self, store):
        """Newest first; starting or ending brings a job to the top, output does not."""
        for job_id in ("a", "b", "c"):
            store.start(job_id, Attempt(5, 0, "e1"))
            store.connection.zincrby(INDEX, -10_000 + ord(job_id), job_id)
        assert [job_id for _, job_id in store.jobs()] == ["c", "b", "a"]

        add(store, "a", Cursor(1, 0), lines(b"a\n"))
        store.keep_alive("a", 1)
        assert [job_id for _, job_id in store.jobs()] == ["c", "b", "a"]
        store.end("b", ended())
        assert [job_id for _, job_id in store.jobs()] == ["b", "c", "a"]
        assert [job_id for _, job_id in store.jobs(limit=1)] == ["b"]
        assert abs(store.jobs(limit=1)[0][0] - now_ms()) < 60_000

    @examples
    @given(times=st.lists(st.integers(1, 3), max_size=12), limit=st.integers(1, 5))
    @example(times=[1] * 60, limit=2)
    def test_pages_hold_every_job_once(self, store, times, limit):
        """Page by page, each job comes once and in order, however many share a millisecond."""
        store.connection.delete(INDEX)
        names = {f"{'b-_Za9'[n % 6]}{n}": time for n, time in enumerate(times)}
        if names:
            store.connection.zadd(INDEX, names)

        found, before = [], None
        while page := store.jobs(limit=limit, before=before):
            assert len(page) == limit or len(found) + len(page) == len(names)
            found += page
            before = page[-1]

        assert found == sorted(((time, name) for name, time in names.items()), reverse=True)

    def test_entries_of_the_index_that_are_no_jobs_are_passed_over(self, store):
        """Something else's members in the index neither appear nor shorten a page."""
        store.connection.zadd(INDEX, {name: 50 for name in BAD_IDS if name} | {b"\xff": 50, "good": 1, "better": 99})
        assert store.jobs(limit=2) == [(99, "better"), (1, "good")]

    def test_a_job_that_runs_for_longer_than_the_index_remembers_stays_in_it(self, store):
        """A sign of life puts a job back that the index has dropped for its age, and keeps what it says otherwise."""
        store.start("job", Attempt(5, 0, "e1"))
        store.connection.zadd(UNTIL, {"job": now_ms() - 1})
        store.start("other", Attempt(5, 0, "e1"))
        assert [job_id for _, job_id in store.jobs()] == ["other"]

        store.keep_alive("job", 1)
        assert {job_id for _, job_id in store.jobs()} == {"job", "other"}

    # Limits.

    def test_a_long_log_keeps_its_beginning_and_its_end(self, short):
        """Between what is kept is a hole of exact size, with its lines and its cause; cursors hold on both sides."""
        write_numbers(short, "job", 20)
        short.end("job", ended(bytes_=80, lines_=20))
        # The tail is what was there before the last append, and that.
        hole = Hole(113, 12, 4, 11, False, 44, OVER_LIMIT)

        told = read_all(short, Cursor(), "job")
        assert [told[0].number, *map(bytes_of, told[1:4]), told[4]] == [1, b"000\n", b"001\n", b"002\n", hole]
        assert b"".join(map(bytes_of, told[5:-1])) == b"014\n015\n016\n017\n018\n019\n"
        assert [record.line for record in told[5:-1]] == [15, 16, 17, 18, 19, 20]
        assert short.summary("job").last.gap == hole

        for at, first in [
            (10, b"2\n"),
            (12, hole),
            (30, Hole(113, 30, 4, 11, True, 26, OVER_LIMIT)),
            (56, b"014\n"),
            (79, b"\n"),
        ]:
            record = short.reader("job", Cursor(1, at)).read()[0]
            assert (record if isinstance(first, Hole) else record.data) == first
        assert [short.line("job", 1, number).offset for number in (3, 4, 9, 14, 15, 20)] == [8, 12, 12, 12, 56, 76]
        assert [short.tail("job", count).offset for count in (2, 6, 7, 17, 18)] == [72, 56, 12, 12, 8]
        assert [short.since("job", time).offset for time in (102, 103, 113, 114)] == [8, 12, 12, 56]

    def test_an_element_keeps_its_index_for_as_long_as_it_is_there(self, short):
        """What is removed before an element is counted, and a hole tells where the next one is."""
        write_numbers(short, "job", 20)
        assert short.find("job", 1, "line", 15)[:2] == (4, 12)
        assert short.find("job", 1, "line", 16)[:2] == (15, 56)
        kept = [encode(lines(b"%03d\n" % n, 4 * n, n + 1, time=100 + n)) for n in range(20)]
        assert short.elements("job", 1, 1, 3) == kept[:3]
        assert short.elements("job", 1, 15, 16) == kept[14:16]
        for first in (4, 9, 14):
            before, *behind = short.elements("job", 1, first, first + 2)
            assert (decode(before).next, behind) == (15, kept[14:16])
        assert len(short.elements("job", 1, 0, -1)) == 4 + 1 + 6
        assert short.elements("job", 1, 21, 30) == []

        with short.connection.pubsub(ignore_subscribe_messages=True) as pubsub:
            pubsub.subscribe(wake_channel("job"))
            pubsub.get_message(timeout=5)
            last = encode(lines(b"\0\xff\n", 80, 21))
            assert short.append("job", Cursor(1, 80), [last], end=83, lines=21) == 83
            message = wait_until(lambda: pubsub.get_message(timeout=0.1))
            assert message["data"] == b"1 21 " + last
        assert short.find("job", 1, "offset", 80) == (21, 80, last)

    def test_a_copy_of_a_reader_reads_by_itself(self, store):
        """What one of them has read the other one gets as well, beginnings and ends included."""
        job, log = new_job(), WrittenLog([(STDOUT, b"one\n", 1)])
        log.store(store, job, end=True)
        reader = store.reader(job, Cursor())
        other = copy.copy(reader)
        assert [*reader.read(), *reader.read()] == [*other.read(), *other.read()] == read_all(store, Cursor(), job)

    # Sealing: a finished log, packed.

    @examples
    @given(
        written=pieces,
        reads=st.integers(0, 5),
        aim=st.sampled_from([1, 50, PIECE]),
        at=st.integers(0, 60),
    )
    def test_a_reader_anywhere_goes_on_in_a_log_that_is_sealed(self, store, written, reads, aim, at):
        """It gets each byte and the end once, whether its index is now that of another element, or of none."""
        job, log = new_job(), WrittenLog(written)
        log.store(store, job, batches=[1] * len(log.records), end=True)
        whole = read_all(store, Cursor(1, min(at, len(log.bytes))), job)
        reader = store.reader(job, Cursor(1, min(at, len(log.bytes))))
        reader.piece = aim
        reader.count = 1 + aim % 7
        found = [record for _ in range(reads) for record in reader.read()]
        sealed(store, job)
        while more := reader.read():
            found += more
        assert found == whole

    @examples
    @given(written=pieces)
    def test_all_that_is_found_in_a_log_is_where_it_was(self, store, written):
        """Lines, times, last lines and any cursor, and the same records behind them."""
        job, log = new_job(), WrittenLog(written)
        log.store(store, job, batches=[1] * len(log.records), end=True)

        def answers():
            found = [store.line(job, 1, line) for line in sample(len(log.starts) + 2)]
            found += [store.tail(job, count) for count in sample(len(log.starts) + 2)]
            found += [store.since(job, log.began + ms) for ms in sample(log.time - log.began + 2)]
            return found, [read_all(store, Cursor(1, at), job) for at in sample(len(log.bytes) + 2)]

        before = answers()
        sealed(store, job)
        assert answers() == before

    def test_a_sealed_log_takes_a_third_and_lives_as_long(self, store):
        """Its lists hold few elements, expire when they would have, and sealing them again changes nothing."""
        job = new_job()
        log = WrittenLog(
            (STDOUT, b"2026-11-26 08:00:00 INFO billing: sent invoice %06d\n" % n, 100) for n in range(2000)
        )
        log.store(store, job, end=True)
        before = [store.connection.pttl(list_key(job, 1)), sum(map(len, raw(store, job)))]
        for _ in store.seal(job, 1):
            pass
        elements = raw(store, job)
        assert [element[:1] for element in elements] == [b"a", b"p", b"p", b"p", b"x"]
        assert sum(map(len, elements)) < before[1] / 3
        assert before[0] - 60_000 < store.connection.pttl(list_key(job, 1)) <= before[0]
        sealed(store, job)
        assert raw(store, job) == elements
        assert store.elements(job, 1, 0, 9) is None
        assert store.elements(job, 1, FIRST + 1, FIRST + 2) == elements[1:3]
        assert store.elements(job, 1, FIRST + 5, FIRST + 9) == []
        assert flat(read_all(store, Cursor(), job)) == log.bytes

    @pytest.mark.parametrize("how", ["runs", "lost", "large", "few", "long", "off", "gone"])
    def test_other_logs_stay_as_they_were_written(self, store, how, monkeypatch):
        """Those of jobs that run or were lost, large or few chunks, more than 32 MiB, and all if it is switched off."""
        if how == "long":
            assert packing.MOST == 32 << 20
            monkeypatch.setattr(packing, "MOST", 1000)
        job = new_job()
        size = {"large": 2000, "few": 1}.get(how, 20)
        log = WrittenLog(
            (STDOUT, random.Random(n).randbytes(10 * size).hex().encode() + b"\n", 1)
            for n in range(5 if how == "few" else 10)
        )
        log.store(store, job, end=how not in {"runs", "lost", "gone"})
        if how == "lost":
            store.end(job, End(outcome="lost", attempt=1, final=True, bytes=len(log.bytes), lines=log.lines))
        before = raw(store, job)
        if how == "gone":
            store.delete(job)
        other = LogStore(store.connection, seals=False) if how == "off" else store
        assert list(other.seal(job, 1)) == []
        assert raw(store, job) == ([] if how == "gone" else before)

    def test_a_log_that_goes_or_changes_while_it_is_packed_is_left_alone(self, store):
        """What was deleted does not come back, and what was written anew is not overwritten."""
        job = new_job()
        log = WrittenLog((STDOUT, b"line %d\n" % n, 1) for n in range(20))
        log.store(store, job, end=True)
        steps = store.seal(job, 1)
        next(steps)
        store.delete(job)
        WrittenLog([(STDOUT, b"another\n", 1)]).store(store, job, end=True)
        list(steps)
        assert [record.data for record in read_all(store, Cursor(), job)[1:-1]] == [b"another\n"]
        log = WrittenLog((STDOUT, b"line %d\n" % n, 1) for n in range(20))
        other = new_job()
        log.store(store, other, end=True)
        steps = store.seal(other, 1)
        next(steps)
        store.delete(other)
        list(steps)
        assert store.summary(other) is None
        assert not store.connection.exists(list_key(other, 1))

    def test_head_and_tail_of_a_long_log_are_sealed(self, short):
        """The hole between them stays as it is, and so do all places."""
        write_numbers(short, "job", 40)
        short.end("job", End(outcome="finished", attempt=1, final=True, bytes=160, lines=40, ended_at=0.2))
        before = read_all(short, Cursor(), "job")
        found = [short.line("job", 1, line) for line in range(42)]
        counts = [len(raw(short, "job")), short.connection.llen(tail_key("job", 1))]
        sealed(short, "job")
        assert [len(raw(short, "job")), short.connection.llen(tail_key("job", 1))] < counts
        assert read_all(short, Cursor(), "job") == before
        assert [short.line("job", 1, line) for line in range(42)] == found

    def test_who_is_up_to_date_never_notices(self, short):
        """A reader that reads what each append brings gets all of it; one that is late gets one hole."""
        ready, late = short.reader("job", Cursor()), short.reader("job", Cursor())
        data = b""
        for number in range(30):
            write_numbers(short, "job", number + 1, number)
            if number == 10:
                assert late.read()[-1].data == b"010\n"
            data += b"".join(record.data for record in ready.read() if isinstance(record, Chunk))
        assert data == b"".join(b"%03d\n" % number for number in range(30))
        assert late.read()[0] == Hole(123, 44, 12, 13, False, 52, OVER_LIMIT)

    def test_one_append_is_kept_whatever_the_limit(self, short):
        """Who waits for it finds all of it, however much it is; the next one takes what is too much away."""
        short.start("job", Attempt(5, 0, "e1"))
        chunks = [lines(b"%03d\n" % (n % 1000), 4 * n, n + 1) for n in range(2500)]
        assert short.append("job", Cursor(1, 0), list(map(encode, chunks)), end=10_000, lines=2500) == 10_000
        assert read_all(short, Cursor(), "job")[1:] == chunks
        assert short.append("job", Cursor(1, 10_000), [encode(lines(b"x\n", 10_000, 2501))], end=10_002, lines=2501)
        assert short.summary("job").last.gap.length == 10_000 - 12 - 20

    # Reading places.

    @examples
    @given(written=pieces, batches=st.lists(st.integers(1, 4), max_size=4), end=st.booleans())
    def test_what_is_read_is_what_was_written(self, store, written, batches, end):
        """From every cursor: each byte once, in order, with its stream and line number; holes where they are."""
        log, job_id = WrittenLog(written), new_job()
        log.store(store, job_id, batches=batches, end=end)

        for offset in sample(len(log.bytes)):
            told = read_all(store, Cursor(1, offset), job_id)
            assert flat(told) == log.bytes[offset:]
            for record in told:
                if isinstance(record, Chunk) and record.offset:
                    before = log.bytes[record.offset - 1]
                    assert record.midline == (before[1] != 10) if before else True
            assert [record for record in told if isinstance(record, End)] == [log.end_record()] * end
            assert [record.number for record in told if isinstance(record, Attempt)] == [1] * (offset == 0)

    @examples
    @given(written=pieces, end=st.booleans())
    def test_every_line_is_found(self, store, written, end):
        """`line(n)` is where line n begins, for every n; behind the last one it is the log's end."""
        log, job_id = WrittenLog(written), new_job()
        log.store(store, job_id, end=end)

        for number in sample(log.lines + 3):
            assert store.line(job_id, 1, number) == Cursor(1, log.line(number)), number

    @examples
    @given(written=pieces, end=st.booleans())
    def test_the_last_lines_are_found(self, store, written, end):
        """`tail(n)` is where the last n lines begin, for every n; an unfinished last line counts."""
        log, job_id = WrittenLog(written), new_job()
        log.store(store, job_id, end=end)

        for count in sample(log.all_lines + 3):
            expected = log.line(max(1, log.all_lines - count + 1))
            assert store.tail(job_id, count) == Cursor(1, expected), count
            assert store.tail(job_id, count, attempt=1) == Cursor(1, expected), count

    @examples
    @given(logs=st.lists(pieces, min_size=1, max_size=3))
    def test_the_last_lines_reach_over_attempts(self, store, logs):
        """The attempts of a job are one log: its last n lines may begin in an earlier one."""
        job_id = new_job()
        written = [WrittenLog(log, began=1000 + 10 * n) for n, log in enumerate(logs)]
        for number, log in enumerate(written, 1):
            log.store(store, job_id, execution=f"e{number}", end=True)

        places = [
            Cursor(number, log.line(n)) for number, log in enumerate(written, 1) for n in range(1, log.all_lines + 1)
        ]
        for count in sample(len(places)):
            assert store.tail(job_id, count + 1) == (places[-count - 1] if count < len(places) else Cursor(1, 0))
        last = written[-1]
        assert store.tail(job_id, 0) == Cursor(len(logs), last.line(last.all_lines + 1))
        assert store.tail(job_id, 10**9, attempt=len(logs)) == Cursor(len(logs), 0)

    @examples
    @given(logs=st.lists(pieces, min_size=1, max_size=3), end=st.booleans())
    def test_a_time_is_found(self, store, logs, end):
        """`since(t)` is where the first bytes read at or after t begin, in whichever attempt that is."""
        job_id, began, written = new_job(), 1000, []
        for log in logs:
            written.append(WrittenLog(log, began=began))
            began += 30
        for number, log in enumerate(written, 1):
            log.store(store, job_id, execution=f"e{number}", end=end)

        times = {log.began for log in written} | {record.time for log in written for record in log.records}
        for moment in sorted({at + near for at in times for near in (-1, 0, 1)}):
            places = [(number, log.since(moment)) for number, log in enumerate(written, 1)]
            expected = next((Cursor(n, at) for n, at in places if at is not None), None)
            assert store.since(job_id, moment) == (expected or Cursor(len(logs), len(written[-1].bytes))), moment

    def test_places_in_a_log_that_is_not_there(self, store):
        """Without a log every place is its beginning, so that a follower can wait there."""
        assert store.tail("job", 5) == store.since("job", 5) == store.line("job", 1, 5) == Cursor(1, 0)
        assert store.end_of("job", 1) == Cursor(1, 0)
        assert store.find("job", 1, "offset", 0) == (0, 0, None)
        assert store.reader("job", Cursor(1, 7)).read() == []

    def test_finding_tells_index_offset_and_element(self, store):
        """`find` gives the first element that reaches what is sought; behind the last one there is none."""
        WrittenLog([(STDOUT, b"a\n", 1), (STDERR, b"bc\n", 1), (STDOUT, b"d", 5)]).store(store, "job", end=False)
        elements = raw(store, "job")

        for what, value, index in [
            ("offset", 0, 0),
            ("offset", 1, 1),
            ("offset", 2, 2),
            ("offset", 4, 2),
            ("offset", 5, 3),
            ("line", 1, 0),
            ("line", 2, 1),
            ("line", 3, 2),
            ("time", 0, 0),
            ("time", 1001, 1),
            ("time", 1003, 3),
        ]:
            assert store.find("job", 1, what, value) == (index, [0, 0, 2, 5][index], elements[index]), (what, value)
        for what, value in [("offset", 6), ("line", 4), ("time", 1008)]:
            assert store.find("job", 1, what, value) == (4, 6, None), (what, value)

    # The reader.

    def test_a_reader_sees_what_comes_later(self, store):
        """At the log's end a reader gets nothing, and then what was added, from where it stood."""
        store.start("job", Attempt(5, 0, "e1"))
        add(store, "job", Cursor(1, 0), lines(b"abc\n"))
        readers = [store.reader("job", Cursor(1, offset)) for offset in (0, 2, 4)]
        for reader in readers:
            while reader.read():
                pass

        for reader in readers:
            assert reader.read() == []
            assert reader.cursor == Cursor(1, 4)
        store.append("job", Cursor(1, 4), [encode(lines(b"d\n", 4, 2))], end=6, lines=2)
        for reader in readers:
            assert flat(reader.read()) == [(STDOUT, 100, 2), (STDOUT, 10, 2)]

    def test_a_reader_ahead_of_the_log_waits_for_its_place(self, store):
        """From a cursor that the log has not reached, nothing before it is given."""
        store.start("job", Attempt(5, 0, "e1"))
        reader = store.reader("job", Cursor(1, 5))
        assert reader.read() == []
        add(store, "job", Cursor(1, 0), lines(b"abc"))
        assert reader.read() == []
        store.append("job", Cursor(1, 3), [encode(lines(b"defg", 3))], end=7, lines=0)
        assert [record.data for record in reader.read()] == [b"fg"]

    @pytest.mark.parametrize("text", [b"z" * MAX_CHUNK, os.urandom(MAX_CHUNK)], ids=["compressible", "random"])
    def test_a_reader_takes_bounded_pieces(self, store, text):
        """Whatever mixture of small and large chunks a log is, however well packed, a piece is a few MiB at most."""
        store.start("job", Attempt(5, 0, "e1"))
        at = Cursor(1, 0)
        for data, count in ((b"x", 300), (text, 300), (b"y", 300)):
            chunks = [lines(data, at.offset + n * len(data)) for n in range(count)]
            elements = [encode(chunk, COMPRESSOR) for chunk in chunks]
            for n in range(0, count, 50):  # a request has its bounds too
                end = chunks[n + 49].end
                at = Cursor(1, store.append("job", at, elements[n : n + 50], end=end, lines=0))

        reader, sizes = store.reader("job", Cursor()), []
        while records := reader.read():
            sizes.append(sum(record.length for record in records))

        assert sum(sizes) == 600 + 300 * MAX_CHUNK
        assert max(sizes) <= MAX_RECORDS * MAX_CHUNK
        assert sorted(sizes)[-2] <= 2 * PIECE  # one piece finds out that chunks are large now
        assert len(sizes) < 100

    @examples
    @given(
        written=pieces,
        damage=st.lists(st.tuples(st.integers(0, 20), st.sampled_from(["", "garbage", "payload", "remove", "repeat"]))),
        end=st.booleans(),
    )
    def test_damage_is_told_and_ends_nothing(self, store, written, damage, end):
        """Unreadable, missing and repeated elements: holes of their exact size, and all else as it was written."""
        log, job_id = WrittenLog(written), new_job()
        log.store(store, job_id, end=True)
        hurt = self._damage(store, job_id, damage)
        expected = [None if any(a <= n < b for a, b in hurt) else log.bytes[n] for n in range(len(log.bytes))]

        for offset in sample(len(log.bytes)):
            told = read_all(store, Cursor(1, offset), job_id)
            found = flat(told)
            assert found == expected[offset : offset + len(found)]
            # What is missing at the very end shows with what comes behind it, be it only the end record.
            assert all(byte is None for byte in expected[offset + len(found) :])
            for record in told:
                if isinstance(record, Hole) and record.cause != "a test":
                    assert record.cause in {"unreadable in the store", "missing from the store"}

    @examples
    @given(
        written=pieces,
        damage=st.lists(st.tuples(st.integers(0, 20), st.sampled_from(["", "garbage", "payload", "repeat"]))),
    )
    def test_lines_are_found_around_damage(self, store, written, damage):
        """A line whose beginning is readable is found where it is; any other one not behind it, in the damage."""
        log, job_id = WrittenLog(written), new_job()
        log.store(store, job_id, end=True)
        hurt = self._damage(store, job_id, damage)

        for number in sample(log.lines + 3):
            found, true = store.line(job_id, 1, number).offset, log.line(number)
            if number > 1 and any(a < true <= b for a, b in hurt):
                assert any(a <= found <= b for a, b in hurt), number
                assert all(any(a <= n < b for a, b in hurt) for n in range(found, true)), number
            elif any(a == true for a, _ in hurt):
                # Whether a hole before it holds its beginning is told by what is hurt.
                assert found in {
                    true,
                    *(one.offset for one in log.records if isinstance(one, Hole) and one.end == true),
                }
            else:
                assert found == true, number

    @staticmethod
    def _damage(store, job_id, damage):
        """Hurt elements of the list, and return the ranges of bytes that cannot be read any more."""
        key, hurt, removed, repeated = f"{meta_key(job_id)}:1", [], [], []
        elements = store.connection.lrange(key, 0, -1)
        for index, kind in dict(damage).items():
            if index >= len(elements) or kind == "":
                continue
            numbers = elements[index].split(b" ")
            offset, length = int(numbers[2]), int(numbers[3])
            match kind:
                case "repeat":
                    repeated.append(elements[index])
                    continue
                case "remove":
                    removed.append(index)
                case "garbage":
                    store.connection.lset(key, index, [b"", b"\xff\0garbage", b"o 1 2"][index % 3])
                case "payload":
                    store.connection.lset(key, index, elements[index][:-1])
            hurt.append((offset, offset + length))
        for index in removed:
            store.connection.lset(key, index, b"to be removed")
        if removed:
            store.connection.lrem(key, 0, b"to be removed")
        for element in repeated:
            store.connection.linsert(key, "AFTER", element, element)
        return hurt

    def test_many_unreadable_elements_do_not_look_like_the_end(self, store, caplog):
        """A reader goes on behind a run of unreadable elements that is longer than a piece, and logs them."""
        store.start("job", Attempt(5, 0, "e1"))
        add(store, "job", Cursor(1, 0), *[lines(b"a\n", 2 * n, n + 1) for n in range(300)])
        for index in range(1, 291):
            put(store, "job", index, b"" if index % 2 else b"garbage")

        told = read_all(store, Cursor(), "job")

        assert told[1] == Hole(1, 0, 1, 290, False, 580, "unreadable in the store")
        assert b"".join(record.data for record in told[2:]) == b"a\n" * 10
        assert "job job, attempt 1, behind byte 0: not a record: b'garbage'" in caplog.text

    def test_each_hole_has_its_own_cause(self, store):
        """What cannot be read and what is not there are told apart, also one after the other."""
        log = WrittenLog([((STDOUT, STDERR)[n % 2], b"%d\n" % n, 0) for n in range(6)])
        log.store(store, "job", end=True)
        put(store, "job", 2, b"garbage")
        store.connection.lrem(f"{meta_key('job')}:1", 1, raw(store, "job")[4])

        told = [record for record in read_all(store, Cursor(), "job") if isinstance(record, Hole)]

        assert [(hole.offset, hole.length, hole.line, hole.lines) for hole in told] == [(2, 2, 2, 1), (6, 2, 4, 1)]
        assert [hole.cause for hole in told] == ["unreadable in the store", "missing from the store"]

    def test_a_missing_beginning_is_a_hole(self, store):
        """Elements that somebody removed from the front, as a trim would, are told with their size."""
        log = WrittenLog([(STDOUT, b"ab\ncd\n", 0), (STDERR, b"ef\n", 0), (STDOUT, b"g\n", 0)])
        log.store(store, "job", end=True)
        store.connection.ltrim(f"{meta_key('job')}:1", 3, -1)

        told = read_all(store, Cursor(), "job")

        assert told[0] == Hole(log.records[2].time, 0, 1, 3, False, 9, "missing from the store")
        assert told[1:] == [log.records[2], log.end_record()]

    def test_a_reader_finds_its_place_in_a_rebuilt_list(self, store):
        """After `relocate` a reader goes on from its byte, though that is at another index now."""
        log = WrittenLog([(STDOUT, b"%d\n" % n, 0) for n in range(9)])
        log.store(store, "job", end=False)
        reader = store.reader("job", Cursor())
        reader.read()
        store.delete("job")
        at, _ = store.start("job", Attempt(5, 1, "e1"))
        hole = Hole(5, 0, 1, 8, True, 16, "Redis lost it")
        store.append("job", at, [encode(hole), encode(log.records[8])], end=18, lines=9)
        tail = Chunk(STDOUT, 9, 18, 10, 1, False, b"new\n")
        store.append("job", Cursor(1, 18), [encode(tail)], end=22, lines=10)

        assert reader.read() == []
        reader.relocate()
        assert reader.read() == [tail]

    def test_whatever_happens_in_whatever_order_is_as_on_plain_lists(self, connection):
        """Workers that start, send, resend, end or fall silent, failovers and readers: all answers are the model's.

        Also where logs are over their limits, from their first bytes on or later.
        """
        run_state_machine_as_test(lambda: LogMachine(connection), settings=settings(examples, stateful_step_count=50))

    # Forging and keys.

    @examples
    @given(st.data())
    def test_output_never_passes_for_a_record(self, store, data):
        """A job that prints what the store's own elements look like is read as what it printed, and found by line."""
        job_id = new_job()
        forgeries = [
            encode(ended(bytes_=0)),
            encode(Hole(9, 0, 99, 9, False, 10**6, "forged")),
            encode(Attempt(9, 7, "forged")),
            encode(lines(b"forged\n", 500, 500)),
            b"missing",
            b"closed",
            b"x 1 0 0 1 0 -",
        ]
        written = data.draw(
            st.lists(st.sampled_from(forgeries).map(lambda text: (STDOUT, text + b"\n", 1)), max_size=5)
        )
        log = WrittenLog(written)
        log.store(store, job_id, end=True)

        assert flat(read_all(store, Cursor(), job_id)) == log.bytes
        for number in range(1, log.lines + 2):
            assert store.line(job_id, 1, number) == Cursor(1, log.line(number))

    def test_names_in_an_execution_never_reach_other_fields(self, store):
        """An execution, a worker or a description of any name changes nothing but itself."""
        odd = ["attempts", "1.end", "x.e1", "1.ended", "é\n{}", '"', "", "a" * 1000]
        for number, name in enumerate(odd, 1):
            assert store.start("job", Attempt(5, 0, name, name, name, name, name))[0] == Cursor(number)
            assert store.start("job", Attempt(5, 0, name))[0] == Cursor(number)

        summary = store.summary("job")
        assert [attempt.about.execution for attempt in summary.attempts] == odd
        assert [attempt.bytes for attempt in summary.attempts] == [0] * len(odd)

    @pytest.mark.parametrize("job_id", BAD_IDS)
    def test_an_id_that_rq_would_not_accept_never_reaches_redis(self, store, job_id):
        """Every method that takes a job id refuses such a one as unknown, and no key comes of it."""
        arguments = {
            "start": (Attempt(5, 0, "e1"),),
            "append": (Cursor(),),
            "end": (ended(),),
            "keep_alive": (1,),
            "alive": (1,),
            "line": (1, 2),
            "tail": (1,),
            "since": (1,),
            "end_of": (1,),
            "find": (1, "line", 1),
            "elements": (1, 0, 1),
            "reader": (Cursor(),),
            "delete": (),
            "expired": (),
            "summary": (),
            "kept": (),
            "check": (1,),
            "seal": (1,),
        }
        public = {name: method for name, method in inspect.getmembers(LogStore, inspect.isfunction) if name[0] != "_"}
        assert {name for name, method in public.items() if "job_id" in inspect.signature(method).parameters} == set(
            arguments
        )
        for name, args in arguments.items():
            more = {"elements": [b"x"], "end": 1, "lines": 0} if name == "append" else {}
            with pytest.raises(UnknownJob, match=r"^no job "):
                getattr(store, name)(job_id, *args, **more)
        with pytest.raises(UnknownJob):
            store.summaries(["good", job_id])
        assert store.connection.dbsize() == 0

    @pytest.mark.parametrize("job_id", ["a", "A-b_9", "-", "x" * 200, str(uuid.UUID(int=7))])
    def test_ids_that_rq_accepts_are_kept_apart(self, store, job_id):
        """All keys of a job are in its own hash slot and hold its id between braces; none belongs to another job."""
        store.start(job_id, Attempt(5, 0, "e1"))
        for key in store.connection.keys("tailer:{*"):
            assert key.decode().startswith(f"tailer:{{{job_id}}}")
        assert store.summaries(["z", job_id, f"{job_id[:-1]}0"])[1].job_id == job_id

    def test_a_summary_survives_what_others_wrote_into_the_hash(self, store):
        """Garbage in the fields of a job's hash leaves out what it hurts, and never raises."""
        store.start("job", Attempt(5, 0, "e1"))
        for field in ("1.started", "1.lines", "1.about", "1.ended", "2.end", "0.end", "x.end", "é", b"\xff.end"):
            store.connection.hset(meta_key("job"), field, b"\xff[]")

        summary = store.summary("job")
        assert [attempt.number for attempt in summary.attempts] == [1, 2]
        assert (summary.attempts[0].about, summary.attempts[0].end) == (None, None)
        newer = {**ended().as_dict(), "since_version_9": 1}
        store.connection.hset(meta_key("job"), "1.ended", json.dumps(newer))
        assert store.summary("job").attempts[0].end == ended()


class BudgetContract:
    """What a store with ``max_memory`` promises, on servers that tell how much a key takes; fakeredis does not."""

    LIMIT = 400_000

    @pytest.fixture
    def limited(self, connection):
        """A store whose logs may take `LIMIT` bytes."""
        return LogStore(connection, ttl=TTL, max_memory=self.LIMIT)

    @staticmethod
    def log(store, job_id, size=20_000, *, end=True, final=True):
        """Write a log that takes about so many bytes."""
        store.start(job_id, Attempt(5, 0, job_id))
        chunk = lines(random.randbytes(size))
        store.append(job_id, Cursor(1, 0), [encode(chunk)], end=chunk.end, lines=chunk.lines)
        if end:
            store.end(job_id, ended(bytes_=chunk.end, lines_=chunk.lines, final=final))
        else:
            store.keep_alive(job_id, 1)

    @staticmethod
    def taken(connection):
        """What all keys of jobs take, and what the budget says of that."""
        keys = connection.keys("tailer:{*")
        return sum(connection.memory_usage(key, samples=0) for key in keys), int(connection.hget(BYTES, ":total") or 0)

    def test_the_oldest_logs_go_for_new_ones(self, limited):
        """All together never take more than they may; those that are gone have expired."""
        for number in range(60):
            self.log(limited, f"job{number}")
            real, noted = self.taken(limited.connection)
            assert max(real, noted) <= self.LIMIT
            assert abs(real - noted) < 0.02 * self.LIMIT
        there = [number for number in range(60) if limited.summary(f"job{number}")]
        assert there == list(range(60 - len(there), 60))
        assert len(there) > 15
        for number in range(60):
            assert limited.expired(f"job{number}") == (number not in there)
        assert limited.connection.keys(f"{meta_key('job0')}*") == []

    def test_what_sealing_saves_is_there_for_others(self, limited):
        """The sum of all logs is that of the lists as they are."""
        log = WrittenLog((STDOUT, b"2026-11-26 08:00:00 INFO billing: sent invoice %06d\n" % n, 9) for n in range(500))
        log.store(limited, "job", end=True)
        before = self.taken(limited.connection)
        for _ in limited.seal("job", 1):
            pass
        real, noted = self.taken(limited.connection)
        assert real < before[0] / 2
        assert abs(real - noted) < 0.02 * self.LIMIT

    def test_what_runs_is_never_dropped(self, limited):
        """Nor what will run again, though that alone is more than logs may take; what is over goes for it."""
        self.log(limited, "over")
        for number in range(10):
            self.log(limited, f"running{number}", 60_000, end=False)
            self.log(limited, f"retried{number}", 60_000, final=False)
        self.log(limited, "new")
        assert limited.expired("over")
        for number in range(10):
            assert limited.summary(f"running{number}")
            assert limited.summary(f"retried{number}")
        assert limited.summary("new")

    def test_a_job_that_is_over_and_runs_again_stays(self, limited):
        """A requeued job is no longer the oldest log that is over, but one that runs."""
        self.log(limited, "job")
        limited.start("job", Attempt(5, 0, "e2"))
        for number in range(30):
            self.log(limited, f"job{number}")
        assert limited.summary("job")
        assert limited.expired("job0")

    def test_what_is_gone_by_itself_counts_no_longer(self, limited):
        """Logs that expired, were deleted, or evicted: nothing is dropped for what they took."""
        for number in range(15):
            self.log(limited, f"old{number}")
        limited.delete("old0")
        for number in range(1, 15):
            for key in limited.connection.keys(f"{meta_key(f'old{number}')}*"):
                limited.connection.delete(key)
            if number < 8:  # It expired; the others were evicted, which nobody notes.
                limited.connection.zadd(EXPIRY, {f"old{number}": now_ms() - 1})
        for number in range(15):
            self.log(limited, f"new{number}")
        assert all(limited.summary(f"new{number}") for number in range(15))
        assert self.taken(limited.connection)[1] <= self.LIMIT

    def test_many_workers_keep_within_it_together(self, limited):
        """Logs that end at the same time count once each, and no more of the old ones go than need to."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: self.log(limited, f"job{number}"), range(80)))
        self.log(limited, "last")
        real, noted = self.taken(limited.connection)
        assert self.LIMIT - 100_000 < real <= self.LIMIT
        assert abs(real - noted) < 0.02 * self.LIMIT

    def test_every_key_of_it_expires(self, limited):
        """As all others do."""
        self.log(limited, "job")
        for key in (BYTES, EXPIRY, FINISHED):
            assert limited.connection.pttl(key) > (TTL - 60) * 1000


class ServerContract(BudgetContract, StoreContract):
    """Promises about trouble that only a real server can have. A subclass also has ``own``, a server of its own."""

    def test_a_server_that_is_gone_is_unavailable(self, own):
        """Every call tells that Redis cannot be reached, in one line, and works again when it can."""
        store = LogStore(connect(own.url, timeout=1), ttl=TTL)
        store.start("job", Attempt(5, 0, "e1"))
        reader = store.reader("job", Cursor())
        own.stop()

        calls = [
            lambda: store.start("job", Attempt(5, 0, "e1")),
            lambda: add(store, "job", Cursor(1, 0), lines(b"a\n")),
            lambda: store.end("job", ended()),
            lambda: store.keep_alive("job", 1),
            lambda: store.delete("job"),
            lambda: store.alive("job", 1),
            lambda: store.expired("job"),
            lambda: store.summary("job"),
            store.jobs,
            lambda: store.line("job", 1, 2),
            lambda: store.tail("job", 1),
            lambda: store.since("job", 1),
            lambda: store.end_of("job", 1),
            reader.read,
        ]
        for call in calls:
            with pytest.raises(StoreUnavailable, match=r"^Redis: .*\Z"):
                call()
        own.start()
        assert store.summary("job") is None
        assert store.start("job", Attempt(5, 1, "e1")) == (Cursor(1, 0), 0)
        assert len(reader.read()) == 1

    def test_a_server_that_hangs_is_unavailable_in_time(self, own):
        """A server that takes connections and never answers fails a call within its timeout, once."""
        store = LogStore(connect(own.url, timeout=0.3), ttl=TTL)
        store.start("job", Attempt(5, 0, "e1"))
        add(store, "job", Cursor(1, 0), lines(b"a\n"))
        os.kill(own.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                add(store, "job", Cursor(1, 2), lines(b"b\n", 2))
            assert time.monotonic() - began < 5
        finally:
            os.kill(own.pid, signal.SIGCONT)
        # It was only late: the first try was carried out, and the second one is a repetition.
        wait_until(lambda: store.summary("job").last.bytes == 4)
        assert add(store, "job", Cursor(1, 2), lines(b"b\n", 2)) == 4
        assert len(raw(store, "job")) == 3

    def test_a_full_server_takes_all_or_nothing(self, own):
        """Out of memory, a write is refused as a whole; nothing of it is there, and later it can be repeated."""
        store = LogStore(connect(own.url), ttl=TTL)
        for job_id in ("job", "reopened"):
            store.start(job_id, Attempt(5, 0, "e1"))
        store.end("reopened", ended(outcome="lost"))
        store.connection.config_set("maxmemory-policy", "noeviction")
        store.connection.config_set("maxmemory", 1)

        for call in (
            lambda: add(store, "job", Cursor(1, 0), lines(b"a\n")),
            lambda: store.end("job", ended()),
            lambda: store.start("job", Attempt(5, 0, "e2")),
            lambda: store.keep_alive("job", 1),
        ):
            with pytest.raises(StoreUnavailable, match=r"OOM|maxmemory"):
                call()
        assert [(one.number, one.bytes, one.end) for one in store.summary("job").attempts] == [(1, 0, None)]
        assert len(raw(store, "job")) == 1
        with contextlib.suppress(StoreUnavailable):
            add(store, "reopened", Cursor(1, 0), lines(b"a\n"))
        summary = store.summary("reopened").last
        assert (len(raw(store, "reopened")), summary.bytes, summary.end is None) in {(2, 0, False), (3, 2, True)}

        store.connection.config_set("maxmemory", 0)
        assert add(store, "job", Cursor(1, 0), lines(b"a\n")) == 2
        assert store.end("job", ended(bytes_=2, lines_=1)) == 2

    def test_scripts_survive_a_server_that_forgets_them(self, store):
        """A restarted or flushed server no longer has the scripts; the store sends them again."""
        store.start("job", Attempt(5, 0, "e1"))
        store.connection.script_flush()
        assert add(store, "job", Cursor(1, 0), lines(b"a\n")) == 2
        store.connection.script_flush()
        assert store.line("job", 1, 2) == Cursor(1, 2)

    def test_a_wrong_kind_of_key_is_told_in_rediss_words(self, store):
        """A key that somebody else made is told as such: waiting for Redis would not help."""
        store.connection.set(meta_key("job"), "not a hash")
        with pytest.raises(CorruptRecord, match="WRONGTYPE"):
            store.summary("job")
        with pytest.raises(CorruptRecord, match="WRONGTYPE"):
            store.start("job", Attempt(5, 0, "e1"))
        store.start("other", Attempt(5, 0, "e1"))
        broken, whole, missing = store.summaries(["job", "other", "nobody"])
        assert (type(broken), whole.job_id, missing) == (CorruptRecord, "other", None)

    def test_a_reader_beside_a_writer_sees_each_byte_once(self, store):
        """While one thread writes, readers from different places get a complete log, in order, without doubles."""
        store.start("job", Attempt(5, 0, "e1"))
        total = 400

        def write():
            for n in range(total):
                chunk = lines(b"%03d\n" % n, 4 * n, n + 1)
                assert store.append("job", Cursor(1, 4 * n), [encode(chunk)], end=4 * n + 4, lines=n + 1) == chunk.end
            store.end("job", ended(bytes_=4 * total, lines_=total))

        writer = threading.Thread(target=write)
        writer.start()
        found = {}
        for offset in (0, 6, 800):
            reader, data = store.reader("job", Cursor(1, offset)), b""
            while not found.get(offset):
                for record in reader.read():
                    data += record.data if isinstance(record, Chunk) else b""
                    if isinstance(record, End):
                        found[offset] = data
        writer.join()

        whole = b"".join(b"%03d\n" % n for n in range(total))
        assert found == {offset: whole[offset:] for offset in found}


def sample(last):
    """Every number from 0 to `last`, or, where that are many, those at both ends and some between."""
    if last <= 24:
        return range(last + 1)
    return sorted({*range(8), *range(8, last, last // 8), *range(last - 8, last + 1)})
