"""The hub: one reader of Redis per process, however many follow; it starts, shares, forgets and ends."""

import gc
import random
import socket
import threading
import time
import weakref

import pytest

from tailer import channel as channels
from tailer import clients
from tailer import hub as hubs
from tailer.follow import Selection, follow, waiting
from tailer.follower import Follower
from tailer.formats import Options, Text
from tailer.readers import Reader
from tailer.records import Chunk
from tailer.store import Cursor, meta_key, wake_channel
from tailer.streaming import stream
from tests.waiting import wait_until
from tests.written import Written


def calls(watchers, command):
    """How often the server has been sent a command since `config resetstat`."""
    return watchers.connection.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"]


def reads_of(watchers, count):
    """How often Redis is asked for output while so many followers get twenty batches; none of them is behind.

    The batches are too large to be told in a wake-up.
    """
    log = watchers.started()
    followers = [watchers.follow(log.job_id) for _ in range(count)]
    watchers.joined(log.job_id, count)
    log.write(b"begin\n")
    wait_until(lambda: all(follower.data == b"begin\n" for follower in followers))
    watchers.connection.config_resetstat()
    for number in range(20):
        log.write(random.randbytes(2000).hex().encode() + b"\n")
        wait_until(lambda number=number: all(follower.data.count(b"\n") == number + 2 for follower in followers))
    made = calls(watchers, "lrange"), calls(watchers, "hgetall")
    log.rq_job(watchers.connection, "finished")
    log.end()
    for follower in followers:
        follower.done()
    return made


def test_one_read_of_redis_for_all_followers(watchers):
    """Twenty batches cost the same number of reads with forty followers as with one."""
    alone, together = reads_of(watchers, 1), reads_of(watchers, 40)
    assert alone[0] >= 20
    # A poll each second may come in between; each batch is a read, and another one that finds nothing more.
    for made in (alone, together):
        assert max(made) <= 50


def test_short_output_is_not_read_at_all(watchers):
    """The wake-up for a small piece of output brings it along."""
    log = watchers.started()
    follower = watchers.follow(log.job_id)
    watchers.joined(log.job_id, 1)
    log.write(b"begin\n")
    wait_until(lambda: follower.data == b"begin\n")
    watchers.connection.config_resetstat()
    for number in range(20):
        log.write(b"line %d\n" % number)
        wait_until(lambda number=number: follower.data.count(b"\n") == number + 2)
    assert calls(watchers, "lrange") <= 2
    log.rq_job(watchers.connection, "finished")
    log.end()
    follower.done()


def test_silence_costs_next_to_nothing(watchers):
    """Followers of a quiet log cost a look a second in all, not each."""
    log = watchers.started()
    followers = [watchers.follow(log.job_id) for _ in range(40)]
    watchers.joined(log.job_id, 40)
    watchers.connection.config_resetstat()
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 2.5)
    assert calls(watchers, "lrange") == 0
    assert calls(watchers, "hgetall") <= 4
    log.rq_job(watchers.connection, "finished")
    log.end()
    for follower in followers:
        follower.done()


def test_a_wake_up_is_not_needed(watchers):
    """Pub/sub may lose a message: what nobody told of is found within seconds."""
    log = watchers.started()
    follower = watchers.follow(log.job_id)
    watchers.joined(log.job_id, 1)
    other = Written(watchers.store)
    other.write(b"untold\n")
    with watchers.connection.pipeline() as pipe:
        for suffix in ("", ":1"):
            pipe.rename(meta_key(other.job_id) + suffix, meta_key(log.job_id) + suffix)
        pipe.execute()
    wait_until(lambda: follower.data == b"untold\n", 5)


def test_wake_ups_of_others_are_not_read(watchers):
    """A job that nobody follows here costs this process nothing, however much it prints."""
    followed, other = watchers.started(), watchers.started()
    watchers.follow(followed.job_id)
    watchers.joined(followed.job_id, 1)
    watchers.connection.config_resetstat()
    for _ in range(50):
        other.write(b"not for us\n")
    followed.write(b"for us\n")
    wait_until(lambda: watchers.hub._channels[followed.job_id].summary.last.bytes == 7)
    assert calls(watchers, "lrange") <= 4


def test_the_thread_ends_when_nobody_follows(watchers):
    """The hub's thread starts with the first follower, ends a while after the last one, and starts again."""
    for _ in range(2):
        assert watchers.hub._thread is None
        log = watchers.started()
        follower = watchers.follow(log.job_id)
        watchers.joined(log.job_id, 1)
        thread = watchers.hub._thread
        assert thread in threading.enumerate()
        log.rq_job(watchers.connection, "finished")
        log.end()
        follower.done()
        wait_until(lambda thread=thread: watchers.hub._thread is None and not thread.is_alive())
    assert watchers.connection.pubsub_numpat() == 0
    assert watchers.connection.pubsub_channels() == []


def test_a_closed_generator_is_freed(watchers):
    """A client that goes away leaves nothing behind: its follower, its channel and the subscription are gone."""
    log = watchers.started()
    log.write(b"line\n")
    generator = follow(watchers.hub, Selection(job_id=log.job_id, start=Cursor()), 15.0)
    next(event for event, _ in waiting(generator) if isinstance(event, Chunk))
    watchers.joined(log.job_id, 1)
    channel = weakref.ref(watchers.hub._channels[log.job_id])
    wait_until(lambda: watchers.connection.pubsub_channels(wake_channel(log.job_id)))
    generator.close()
    assert watchers.hub.followers() == {}
    wait_until(lambda: not watchers.connection.pubsub_channels(wake_channel(log.job_id)))
    wait_until(lambda: gc.collect() >= 0 and channel() is None, 5)


def test_one_of_many_leaves(watchers):
    """The others follow on, live."""
    log = watchers.started()
    stay = watchers.follow(log.job_id)
    generator = follow(watchers.hub, Selection(job_id=log.job_id, start=Cursor()), 15.0)
    next(generator)
    watchers.joined(log.job_id, 2)
    generator.close()
    assert watchers.hub.followers() == {log.job_id: 1}
    log.write(b"live\n")
    wait_until(lambda: stay.data == b"live\n")


def test_a_ring_that_begins_anew_joins_nothing_to_what_it_held(watchers):
    """Where the hub goes on from another place, who comes from before it reads Redis, and misses nothing."""
    log = watchers.started()
    for _ in range(20):
        log.write(b"x" * 999 + b"\n")
    channel = channels.Channel(log.job_id, share=channels.Share(1 << 20), resume=print, look=print)
    (summary,) = watchers.store.summaries([log.job_id])
    live = channel.expect(watchers.store, summary)
    (records,) = watchers.store.fetch([live])
    channel.extend(records[:11])
    channel.settle()  # the list holds more than was found: it is another one
    behind = watchers.store.reader(log.job_id, Cursor())
    behind.join(records[:11])
    ahead = watchers.store.reader(log.job_id, Cursor())
    while ahead.read():
        pass
    channel.adopt(ahead, channel.version)
    log.write(b"y" * 999 + b"\n")
    (summary,) = watchers.store.summaries([log.job_id])
    channel.extend(watchers.store.fetch([channel.expect(watchers.store, summary)])[0])
    read = []
    while more := channel.read(behind):
        read += more
    assert b"".join(record.data for record in read) == (b"x" * 999 + b"\n") * 10 + b"y" * 999 + b"\n"


def test_the_ring_is_bounded(watchers, monkeypatch):
    """However much a job prints, the hub keeps the newest of it, up to its limit."""
    monkeypatch.setattr(hubs, "RING", 100_000)
    log = watchers.started()
    follower = watchers.follow(log.job_id)
    watchers.joined(log.job_id, 1)
    for number in range(50):
        log.write(b"%d\n" % number * 5000)
    wait_until(lambda: len(follower.data) == log.at.offset)
    channel = watchers.hub._channels[log.job_id]
    assert 0 < channel._ring_size <= 100_000
    assert channel._ring_size == sum(map(channels._size, channel._ring))


def test_a_broken_log_does_not_hold_up_others(watchers):
    """What the hub cannot read fails its own followers; the others get theirs as it comes."""
    broken, sound = watchers.started(), watchers.started()
    failing, going = watchers.follow(broken.job_id), watchers.follow(sound.job_id)
    watchers.joined(broken.job_id, 1)
    watchers.joined(sound.job_id, 1)
    watchers.connection.set(f"{meta_key(broken.job_id)}:1", "not a list")
    watchers.connection.hset(meta_key(broken.job_id), "1.end", 999)
    watchers.connection.publish(wake_channel(broken.job_id), "1")
    wait_until(lambda: failing.failure)
    assert "WRONGTYPE" in str(failing.failure)
    sound.write(b"live\n")
    wait_until(lambda: going.data == b"live\n", 3)


@pytest.mark.parametrize("down_s", [0.0, 1.0])
def test_the_hub_comes_back_with_redis(server, watchers, down_s):
    """Followers wait through a restart of Redis, and get what the rebuilt log has behind their place."""
    log = watchers.started()
    log.write(b"before\n")
    follower = watchers.follow(log.job_id)
    wait_until(lambda: follower.data == b"before\n")
    watchers.joined(log.job_id, 1)
    server.stop()
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began >= down_s)
    server.start()
    again = Written(watchers.store, log.job_id)
    again.rq_job(watchers.connection, "started")
    again.write(b"before\nbehind\n")
    wait_until(lambda: follower.data == b"before\nbehind\n")
    again.rq_job(watchers.connection, "finished")
    again.end()
    assert follower.done().data == b"before\nbehind\n"
    assert not follower.holes


def test_a_served_follower_ends_with_its_credential(watchers, monkeypatch):
    """One whom the hub writes to by itself gets all until then, and nothing behind it, also after many a look."""
    monkeypatch.setattr(clients, "DEADLINE_STEP_S", 0.1)
    log = watchers.started()
    log.write(b"old\n")
    ends_at = time.time() + 1.5
    reader = Reader(name="a link", expires_at=ends_at)
    events = reader.bounded(follow(watchers.hub, Selection(job_id=log.job_id, start=Cursor()), 15))
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours:
        ours.settimeout(10)
        watchers.hub.take(Follower(theirs, stream(Text(Options()), events, lambda _: {}), chunked=False))
        assert ours.recv(100) == b"old\n"
        wait_until(lambda: watchers.hub._channels[log.job_id].feeds, what="the hub serves it")
        log.write(b"new\n")
        assert ours.recv(100) == b"new\n"
        assert ours.recv(100) == b""
        assert time.time() >= ends_at
    wait_until(lambda: not watchers.hub.followers())


def test_a_client_leaves_nothing_with_a_hub_that_rests(watchers):
    """Whose stream was to end at some time, and who left before: its threads and channel go without the collector."""
    log = watchers.started()
    log.write(b"line\n")
    reader = Reader(name="a link", expires_at=time.time() + 3600)
    events = reader.bounded(follow(watchers.hub, Selection(job_id=log.job_id, start=Cursor()), 15))
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    gc.disable()
    try:
        with ours:
            watchers.hub.take(Follower(theirs, stream(Text(Options()), events, lambda _: {}), chunked=False))
            del events, theirs
            wait_until(lambda: log.job_id in watchers.hub.followers() and watchers.hub._channels[log.job_id].feeds)
            channel = weakref.ref(watchers.hub._channels[log.job_id])
        wait_until(lambda: watchers.hub._thread is None)
        wait_until(lambda: not [one for one in threading.enumerate() if one.name.startswith("tailer-follower")])
        wait_until(lambda: channel() is None)
    finally:
        gc.enable()
