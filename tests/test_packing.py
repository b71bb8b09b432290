"""Floods: what the pump, the cutter and the shipper do when a job prints faster than all can be stored."""

import fcntl
import hashlib
import os
import random
import threading
import time

import pytest

from tailer.records import MAX_CHUNK, STDERR, STDOUT, Attempt, Chunk, End
from tailer.store import Cursor, LogStore, connect, now_ms
from worker.capture import Capture
from worker.cutter import Cutter
from worker.pump import Pump
from worker.ship import Shipper


@pytest.fixture
def capture():
    """The pipes of a job, closed in the end."""
    capture = Capture.open("separate")
    yield capture
    capture.close()


def test_a_small_pipe_does_not_throttle_the_job(capture):
    """A pipe that is full again after every read is drained without a pause (with one of 2 ms this takes 4 s)."""
    if not hasattr(fcntl, "F_SETPIPE_SZ"):
        pytest.skip("no way to make a pipe smaller here")
    fcntl.fcntl(capture.stdout, fcntl.F_SETPIPE_SZ, 4096)
    taken = []
    pump = Pump(capture.sources, [lambda _stream, data: taken.append(len(data))], capture.report)
    pump.start()
    began = time.monotonic()
    for _ in range(2048):
        os.write(capture.stdout, b"x" * 4096)
    took = time.monotonic() - began
    pump.finish()
    assert sum(taken) == 2048 * 4096
    assert took < 2.5


def test_what_is_kept_for_later_has_the_time_at_which_it_came():
    """A job whose every piece of output ends within a line still gets chunks with the times of their bytes."""
    cutter = Cutter()
    times = []
    for now in range(1000, 2000, 100):
        cutter.feed(STDOUT, b"the end of a line\nand the beginning of the next, ", now)
        times += [chunk.time for chunk in cutter.cut(partial=False)]
    assert times == [1000, *range(1000, 1900, 100)]


def test_a_cut_may_be_bounded():
    """Cutting piece by piece gives the same bytes and lines as cutting all at once, and no piece is much too big."""
    parts = [
        (STDOUT, b"a line of output\n" * 3000),
        (STDOUT, b"no end"),
        (STDERR, b"an error\n"),
        (STDOUT, b"\n" * 9),
    ] * 5
    whole, bounded = Cutter(), Cutter()
    for stream, data in parts:
        whole.feed(stream, data, 1)
        bounded.feed(stream, data, 1)
    expected = whole.cut(partial=True)
    pieces = []
    while bounded.size:
        piece = bounded.cut(partial=True, most=2 * MAX_CHUNK)
        assert 0 < sum(chunk.length for chunk in piece) < 4 * MAX_CHUNK
        pieces += piece
    assert b"".join(chunk.data for chunk in pieces) == b"".join(chunk.data for chunk in expected)
    assert (bounded.offset, bounded.lines, bounded.sha256) == (whole.offset, whole.lines, whole.sha256)
    assert bounded.since is None
    assert not bounded.whole_line


@pytest.mark.timeout(60)
def test_a_flood_that_two_threads_pack_keeps_its_order(server):
    """When the pump packs beside the shipper, each byte is stored once and in its place."""
    store = LogStore(connect(server.url), keep_tail=1 << 30)
    about = Attempt(now_ms(), 0, "e1", "worker", "queue", "a test", "separate")
    capture = Capture.open("separate")
    shipper = Shipper(store, "job", about, capture.report, buffer=1 << 20, spill=256 << 20)
    shipper.start()
    packers = set()
    pack = shipper._pack
    shipper._pack = lambda **how: (packers.add(threading.current_thread().name), pack(**how))
    written = hashlib.sha256()
    for number in range(300):
        # Slow and quick to compress in turn, so that what was cut later would often be ready earlier.
        data = random.randbytes(1 << 18).hex().encode() + b"\n" if number % 2 else b"%d\n" % number * 100_000
        written.update(data)
        shipper.take(STDOUT, data)
    ended = shipper.finish(End(outcome="finished", attempt=0, final=True), 30)
    reader = store.reader("job", Cursor(1, 0))
    stored = hashlib.sha256()
    while records := reader.read():
        for record in records:
            if isinstance(record, Chunk):
                stored.update(record.data)
    end = store.summary("job").last.end
    store.connection.connection_pool.disconnect()
    capture.close()
    assert ended
    assert stored.hexdigest() == written.hexdigest() == end.sha256
    assert end.dropped == 0
    assert len(packers) == 2
