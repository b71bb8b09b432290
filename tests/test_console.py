"""The worker's own console: what jobs print still appears there, and a console that blocks harms nobody."""

import os
import time

import pytest

from tailer.records import STDERR, STDOUT
from tests.waiting import wait_until
from worker import console as module
from worker.console import Console, write_all


@pytest.fixture
def pipes():
    """Two pipes in place of stdout and stderr: read ends and write ends."""
    out, err = os.pipe(), os.pipe()
    yield (out[0], err[0]), (out[1], err[1])
    for fd in (*out, *err):
        try:
            os.close(fd)
        except OSError:
            continue


def drained(fd, size):
    """Read this many bytes."""
    data = b""
    while len(data) < size:
        data += os.read(fd, size - len(data))
    return data


def test_each_stream_goes_to_its_own_fd_in_order(pipes):
    """Output to stdout, errors to stderr, byte for byte and in order."""
    (out, err), ends = pipes
    console = Console(*ends)
    for n in range(100):
        console.write(STDOUT, b"out %d\n" % n)
        console.write(STDERR, b"\xff\0err %d\r" % n)
    console.flush(10)

    assert os.read(out, 1 << 16) == b"".join(b"out %d\n" % n for n in range(100))
    assert os.read(err, 1 << 16) == b"".join(b"\xff\0err %d\r" % n for n in range(100))


def test_more_than_a_pipe_holds_comes_through(pipes):
    """A reader that takes its time gets all of it."""
    (out, _), ends = pipes
    console, data = Console(*ends), os.urandom(1 << 20)
    console.write(STDOUT, data)
    assert drained(out, len(data)) == data


def test_a_console_that_takes_nothing_blocks_nobody(pipes):
    """With a paused terminal, writing returns at once, flushing at its timeout, and memory is bounded."""
    (out, _), ends = pipes
    console = Console(*ends)
    part = bytes(100_000)
    began = time.monotonic()
    for _ in range(1000):
        console.write(STDOUT, part)
    assert time.monotonic() - began < 5
    assert sum(len(data) for _, data in console._queue) <= module.LIMIT + len(part)

    began = time.monotonic()
    console.flush(0.1)
    assert 0.1 <= time.monotonic() - began < 5

    # What was kept comes when the terminal goes on, and then new output does too.
    kept = console._size
    assert module.LIMIT <= kept <= module.LIMIT + len(part)
    assert drained(out, kept) == bytes(kept)
    console.flush(10)
    console.write(STDOUT, b"after\n")
    assert drained(out, 6) == b"after\n"


def test_a_console_that_is_gone_harms_nobody(pipes):
    """With nobody at the other end, or no fd at all, output is thrown away and later output still tried."""
    (out, err), (out_end, err_end) = pipes
    os.close(out)
    console = Console(out_end, err_end)
    for _ in range(3):
        console.write(STDOUT, b"nobody reads this")
    console.write(STDERR, b"but this")
    console.flush(10)
    assert console._size == 0
    assert os.read(err, 100) == b"but this"

    nowhere = Console(10**6, 10**6)
    nowhere.write(STDOUT, b"x")
    nowhere.flush(10)
    assert nowhere._size == 0


def test_the_thread_starts_with_the_first_output():
    """A worker whose jobs are quiet has no thread for its console; flushing nothing returns at once."""
    console = Console()
    began = time.monotonic()
    console.flush(10)
    assert console._thread is None
    assert time.monotonic() - began < 5


def test_write_all_writes_on_where_a_write_stopped(pipes):
    """A short write is gone on with; an error is the caller's."""
    (out, _), (end, _) = pipes
    os.set_blocking(end, False)
    with pytest.raises(BlockingIOError):
        write_all(end, bytes(1 << 20))
    os.set_blocking(end, True)
    wait_until(lambda: os.read(out, 1 << 20))
    write_all(end, b"the rest")
    with pytest.raises(OSError, match="Bad file descriptor"):
        write_all(-1, b"x")
    write_all(-1, b"")
