"""Following a log over a real server, without HTTP: every byte once and in order, whatever happens meanwhile."""

import random
import threading
import time

import pytest

from tailer import follow as following
from tailer import hub as hubs
from tailer.channel import Beat
from tailer.follow import Final, Selection, snapshot
from tailer.jobs import JobState
from tailer.records import STDERR, STDOUT, Attempt, Chunk, End
from tailer.store import Cursor, list_key, meta_key, wake_channel
from tests.waiting import wait_until
from tests.written import Written


def ended(log, watchers, outcome="finished", **fields):
    """End the log, and the job for RQ."""
    log.rq_job(watchers.connection, outcome)
    log.end(outcome, **fields)


def pieces(seed, count, most):
    """Some output: so many pieces of random lengths and bytes, with newlines in them."""
    rng = random.Random(seed)
    return [bytes(rng.choices(range(256), k=rng.randint(1, most))).replace(b"\0", b"\n") for _ in range(count)]


@pytest.mark.parametrize("seed", range(3))
def test_followers_that_join_at_any_moment_get_every_byte_once(watchers, seed):
    """Between what was written before a follower came and what comes live there is neither a gap nor an overlap."""
    rng, log, data = random.Random(seed), watchers.started(), pieces(seed, 400, 3000)
    whole = b"".join(data)
    done = threading.Event()

    def write():
        for piece in data:
            log.write(piece, rng.choice([STDOUT, STDERR]))
            if rng.random() < 0.3:
                time.sleep(rng.random() * 0.01)  # a job's own rhythm
        ended(log, watchers)
        done.set()

    threading.Thread(target=write, daemon=True).start()
    followers = []
    while not done.is_set() and len(followers) < 25:
        start = rng.randrange(log.at.offset + 1) if rng.random() < 0.5 else 0
        followers.append((start, watchers.follow(log.job_id, Cursor(1, start))))
        time.sleep(rng.random() * 0.03)
    followers.append((0, watchers.follow(log.job_id)))
    assert len(followers) > 10
    for start, follower in followers:
        assert follower.done(40).data == whole[start:]
        assert not follower.holes


def test_a_follower_that_lags_behind_goes_on_in_a_sealed_log(watchers):
    """The elements that it has not read yet are packed with others by now; it gets the rest, and no hole."""
    log, data, gate = watchers.started(), pieces(1, 2000, 40), threading.Event()
    slow = watchers.follow(log.job_id, pause=lambda: gate.wait(20))
    for piece in data:
        log.write(piece)
    ended(log, watchers)
    wait_until(lambda: slow.events, what="the first event")
    for _ in watchers.store.seal(log.job_id, 1):
        pass
    assert watchers.connection.llen(list_key(log.job_id, 1)) < 10
    gate.set()
    assert slow.done(40).data == b"".join(data)
    assert not slow.holes
    assert watchers.follow(log.job_id, Cursor(1, 777)).done().data == b"".join(data)[777:]


def test_each_event_comes_with_the_place_behind_it(watchers):
    """Whoever resumes from the cursor of any event gets exactly what came behind that event."""
    log = watchers.started()
    first = watchers.follow(log.job_id)
    for piece in pieces(1, 20, 500):
        log.write(piece)
    ended(log, watchers)
    first.done()
    chunks = [(event, cursor) for event, cursor in first.events if isinstance(event, Chunk)]
    assert [cursor.offset for _, cursor in chunks] == [chunk.end for chunk, _ in chunks]
    for index in (0, len(chunks) // 2, len(chunks) - 1):
        rest = b"".join(chunk.data for chunk, _ in chunks[index + 1 :])
        assert watchers.follow(log.job_id, chunks[index][1]).done().data == rest


def test_attempts_follow_one_another(watchers):
    """A log of several attempts is one stream: each attempt's record, output and end, in order, and one end of all."""
    log = watchers.started()
    follower = watchers.follow(log.job_id)
    for number in (1, 2, 3):
        log.write(b"attempt %d\n" % number)
        if number < 3:
            log.rq_job(watchers.connection, "queued")
            log.end("failed", final=False)
            log.start()
            log.rq_job(watchers.connection, "started")
    ended(log, watchers)
    for one in (follower, watchers.follow(log.job_id)):
        one.done()
        assert one.data == b"attempt 1\nattempt 2\nattempt 3\n"
        kinds = [type(event) for event, _ in one.events if not isinstance(event, JobState)]
        assert kinds == [Attempt, Chunk, End] * 3 + [Final]
        assert [cursor.attempt for event, cursor in one.events if isinstance(event, Chunk)] == [1, 2, 3]


def test_an_attempt_that_begins_before_the_last_one_has_ended_waits_its_turn(watchers):
    """With an immediate retry another worker may be quicker than the end record: the order stays that of attempts."""
    log = watchers.started()
    follower = watchers.follow(log.job_id)
    log.write(b"first\n")
    early = Written(watchers.store, log.job_id)
    assert early.at.attempt == 2
    early.write(b"second\n")
    wait_until(lambda: follower.data == b"first\n")
    watchers.joined(log.job_id, 1)
    log.write(b"last words of the first\n")
    log.end("failed", final=False)
    wait_until(lambda: follower.data == b"first\nlast words of the first\nsecond\n")
    ended(early, watchers)
    follower.done()


def test_a_follower_of_a_waiting_job_is_there_when_it_starts(watchers):
    """Before a job runs its follower hears of its state, and then gets its output from the first byte."""
    log = Written.__new__(Written)
    log.store, log.job_id = watchers.store, "not-started-yet"
    log.rq_job(watchers.connection, "queued")
    follower = watchers.follow(log.job_id)
    wait_until(lambda: [event.status for event, _ in follower.events if isinstance(event, JobState)] == ["queued"])
    log.start()
    log.rq_job(watchers.connection, "started")
    log.write(b"here\n")
    ended(log, watchers)
    assert follower.done().data == b"here\n"


def test_a_beat_comes_when_nothing_else_does(watchers):
    """A silent job's followers get a heartbeat in each interval; a talking one's do not."""
    log = watchers.started()
    follower = watchers.follow(log.job_id, heartbeat=0.3)
    wait_until(lambda: sum(isinstance(event, Beat) for event, _ in follower.events) >= 3)
    ended(log, watchers)
    follower.done()


def test_a_follower_slower_than_the_job_reads_on_from_redis(watchers, monkeypatch):
    """Who falls behind what the hub keeps gets every byte all the same, at its own pace."""
    monkeypatch.setattr(hubs, "RING", 20_000)
    log, data = watchers.started(), pieces(2, 300, 2000)
    go = threading.Event()
    slow, quick = watchers.follow(log.job_id, pause=lambda: go.wait(20)), watchers.follow(log.job_id)
    watchers.joined(log.job_id, 2)
    for piece in data:
        log.write(piece)
    wait_until(lambda: quick.data == b"".join(data))
    assert watchers.hub._channels[log.job_id]._ring_size <= 20_000
    go.set()
    ended(log, watchers)
    for one in (slow, quick):
        assert one.done().data == b"".join(data)
        assert not one.holes


def test_a_worker_that_stops_reporting_is_lost(watchers, monkeypatch):
    """When nobody keeps a log alive it gets an end that says so, in the store too; a late reader sees the same."""
    monkeypatch.setattr(hubs, "QUIET_S", 0.2)
    monkeypatch.setattr(hubs, "CONFIRM_S", 0.2)
    log = watchers.started()
    log.write(b"so far\n")
    followers = [watchers.follow(log.job_id) for _ in range(3)]
    watchers.joined(log.job_id, 3)
    watchers.connection.delete(f"{meta_key(log.job_id)}:1:alive")
    for follower in followers:
        (final,) = follower.done().finals
        assert (final.end.outcome, final.end.bytes, final.end.final) == ("lost", 7, True)
        assert follower.data == b"so far\n"
    assert watchers.store.summary(log.job_id).last.end.outcome == "lost"
    (record,) = [record for record in watchers.store.reader(log.job_id, Cursor()).read() if isinstance(record, End)]
    assert record.outcome == "lost"
    assert watchers.follow(log.job_id).done().finals[0].end.outcome == "lost"


def test_a_worker_that_writes_is_not_lost(watchers, monkeypatch):
    """Output shows that a worker lives, even where its alive key is gone."""
    monkeypatch.setattr(hubs, "QUIET_S", 1.0)
    monkeypatch.setattr(hubs, "CONFIRM_S", 0.2)
    monkeypatch.setattr(hubs, "POLL_S", 0.05)
    log = watchers.started()
    follower = watchers.follow(log.job_id)
    watchers.joined(log.job_id, 1)
    watchers.connection.delete(f"{meta_key(log.job_id)}:1:alive")
    began = time.monotonic()
    while time.monotonic() - began < 2.5:
        log.write(b"still here\n")
        time.sleep(0.05)  # a job's own rhythm
    assert not follower.finals
    ended(log, watchers)
    assert follower.done().finals[0].end.outcome == "finished"


def test_a_log_that_is_deleted_while_followed_ends(watchers, monkeypatch):
    """Followers of a deleted log are told so and end; they keep what they have."""
    monkeypatch.setattr(following, "GONE_S", 0.5)
    log = watchers.started()
    log.write(b"so far\n")
    follower = watchers.follow(log.job_id)
    wait_until(lambda: follower.data == b"so far\n")
    watchers.joined(log.job_id, 1)
    watchers.store.delete(log.job_id)
    watchers.connection.delete(f"rq:job:{log.job_id}")
    (final,) = follower.done().finals
    assert (final.end.outcome, final.end.reason) == ("deleted", "its log was deleted")


def swap(watchers, log, other):
    """Put another log in this one's place, at once: what a server that lost its data has after a worker's resend."""
    old, new = meta_key(log.job_id), meta_key(other.job_id)
    with watchers.connection.pipeline() as pipe:
        for suffix in ("", ":1"):
            pipe.rename(new + suffix, old + suffix)
        pipe.publish(wake_channel(log.job_id), "1")
        pipe.execute()
    other.job_id = log.job_id


@pytest.mark.parametrize("joined", [0, 40_000, 49_950])
def test_a_log_that_was_rebuilt_is_followed_on(watchers, joined):
    """After Redis lost a log and the worker sent the rest again, cut otherwise, followers go on where they were.

    Nothing that the new list holds is called missing, and nothing comes twice.
    """
    data = bytes(random.Random(3).choices(range(256), k=200_000))
    log = watchers.started()
    early = watchers.follow(log.job_id)
    watchers.joined(log.job_id, 1)
    for start in range(0, 50_000, 100):
        log.write(data[start : start + 100])
    late = watchers.follow(log.job_id, Cursor(1, joined))
    followers = [(0, early), (joined, late)]
    for place, follower in followers:
        wait_until(lambda place=place, follower=follower: follower.data == data[place:50_000])
    watchers.joined(log.job_id, 2)
    rebuilt = Written(watchers.store)
    rebuilt.hole(40_000, data[:40_000].count(b"\n"), "Redis lost it")
    for start in range(40_000, 80_000, 1000):
        rebuilt.write(data[start : start + 1000])
    swap(watchers, log, rebuilt)
    for start in range(80_000, 200_000, 150):
        rebuilt.write(data[start : start + 150])
    ended(rebuilt, watchers)
    for place, follower in followers:
        assert [(hole.offset, hole.length) for hole in follower.done().holes] == []
        assert follower.data == data[place:]
    new = watchers.follow(log.job_id).done()
    assert new.data == data[40_000:]
    assert [hole.length for hole in new.holes] == [40_000]


def test_what_is_missing_in_the_list_is_told(watchers):
    """Elements that somebody removed from the list come as a hole of their size, live and late."""
    log = watchers.started()
    live = watchers.follow(log.job_id)
    log.write(b"a\n" * 10)
    wait_until(lambda: live.data == b"a\n" * 10)
    watchers.joined(log.job_id, 1)
    other = Written(watchers.store)
    for data in (b"a\n" * 10, b"lost\n" * 10, b"b\n"):
        other.write(data)
    key = f"{meta_key(other.job_id)}:1"
    watchers.connection.lrem(key, 1, watchers.connection.lindex(key, 2))
    swap(watchers, log, other)
    ended(other, watchers)
    for follower in (live, watchers.follow(log.job_id)):
        assert follower.done().data == b"a\n" * 10 + b"b\n"
        (hole,) = follower.holes
        assert (hole.offset, hole.length, hole.line, hole.lines) == (20, 50, 11, 10)
        assert hole.cause == "missing from the store"


def test_a_snapshot_never_waits(watchers):
    """It holds what is there, of all attempts, and an end only if the log is over."""
    log = watchers.started()
    log.write(b"one\n")
    selection = Selection(job_id=log.job_id, start=Cursor())

    def kinds():
        return [type(event) for event, _ in snapshot(watchers.hub, selection)]

    assert kinds() == [Attempt, Chunk]
    log.end("failed", final=False)
    log.start()
    log.write(b"two\n")
    assert kinds() == [Attempt, Chunk, End, Attempt, Chunk]
    ended(log, watchers)
    assert kinds() == [Attempt, Chunk, End, Attempt, Chunk, End, Final]
    assert watchers.hub.followers() == {}
