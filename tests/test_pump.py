"""The pump: pipes are drained whatever happens, and all that was written before the end is taken, and no more."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tailer.records import STDERR, STDOUT
from tests.waiting import wait_until
from worker.capture import PIPE_SIZE, Capture, Source
from worker.pump import COALESCE_MS, Pump, forward_rest, hung_up
from worker.redact import Masks, Redactor


class Taker:
    """Remembers what it was given."""

    def __init__(self):
        self.parts = []

    def __call__(self, stream, data):
        """Accept output."""
        self.parts.append((stream, data))

    def of(self, stream):
        """All bytes of one stream."""
        return b"".join(data for name, data in self.parts if name == stream)


@contextlib.contextmanager
def pumping(mode="separate", *takers):
    """A capture whose read ends are being drained into the takers, and the pump."""
    capture = Capture.open(mode)
    pump = Pump(capture.sources, takers, capture.report)
    pump.start()
    try:
        yield capture, pump
    finally:
        if pump.is_alive():
            pump.finish()
        capture.close()


def run(capture, code, *args):
    """Start a Python program that writes into the capture."""
    return subprocess.Popen([sys.executable, "-c", code, *args], stdout=capture.stdout, stderr=capture.stderr)


FLOOD = """
import os, sys
data = bytes(range(256)) * 256
for _ in range(int(sys.argv[1])):
    os.write(1, data)
    os.write(2, data[:100])
"""


@pytest.mark.parametrize("mode", ["separate", "merged", "pty"])
def test_a_flood_is_drained_while_it_comes(mode):
    """Far more than a pipe holds goes through without the writer's standing still, and every byte of it arrives."""
    taker = Taker()
    with pumping(mode, taker) as (capture, pump):
        assert run(capture, FLOOD, "200").wait(60) == 0
        capture.close_write_ends()
        pump.finish()

        out, err = bytes(range(256)) * 256, bytes(range(100))
        if mode == "separate":
            assert taker.of(STDOUT) == out * 200
            assert taker.of(STDERR) == err * 200
        else:
            assert taker.of(STDOUT) == (out + err) * 200
        written = 200 * (len(out) + len(err))
        assert capture.report.drained == (written, 200 * (256 + 1))


@pytest.mark.parametrize("mode", ["separate", "merged", "pty"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV])
def test_last_words_before_a_sudden_death_are_taken(mode, how):
    """What a killed process had written is taken to the last byte, the unfinished line at its end as well."""
    code = "import os, sys; os.write(1, b'x' * 3000 + b'\\n' + b'last words'); os.kill(os.getpid(), int(sys.argv[1]))"
    taker = Taker()
    with pumping(mode, taker) as (capture, pump):
        assert run(capture, code, str(int(how))).wait(30) == -how
        capture.close_write_ends()
        pump.finish()
        assert taker.of(STDOUT) == b"x" * 3000 + b"\nlast words"


@pytest.mark.parametrize("mode", ["separate", "merged", "pty"])
def test_a_full_pipe_at_the_end_is_emptied(mode):
    """As much as fits into the pipe between the pump's last look and the end is taken."""
    taker = Taker()
    capture = Capture.open(mode)
    os.set_blocking(capture.stdout, False)
    written = os.write(capture.stdout, os.urandom(2 * PIPE_SIZE))
    pump = Pump(capture.sources, [taker], capture.report)
    pump.start()
    pump.finish()
    assert len(taker.of(STDOUT)) == written
    capture.close()


@pytest.mark.parametrize("mode", ["separate", "merged"])
def test_a_daemon_that_floods_cannot_hold_the_log_open(mode):
    """With another process still writing, finish takes what is there and returns."""
    code = "import os\nwhile True: os.write(1, b'from the daemon\\n' * 1000)"
    taker = Taker()
    with pumping(mode, taker) as (capture, pump):
        daemon = run(capture, code)
        wait_until(lambda: len(taker.of(STDOUT)) > 10 * PIPE_SIZE)
        began = time.monotonic()
        pump.finish()
        assert time.monotonic() - began < 10
        capture.close_write_ends()
        assert not hung_up(capture.sources[0])
        daemon.kill()
        daemon.wait()
        assert taker.of(STDOUT).startswith(b"from the daemon\n")


def test_a_source_hangs_up_when_its_last_writer_is_gone():
    """`hung_up` is false while any process has the write end, or bytes are left, and true afterwards."""
    for mode in ("separate", "merged", "pty"):
        capture = Capture.open(mode)
        source = capture.sources[0]
        holder = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=capture.stdout, stderr=capture.stderr
        )
        os.write(capture.stdout, b"left")
        capture.close_write_ends()
        assert not hung_up(source)
        holder.communicate(b"\n")
        assert not hung_up(source)
        assert os.read(source.fd, 100).endswith(b"left")
        wait_until(lambda source=source: hung_up(source))
        capture.close()


def test_a_stream_that_ends_early_leaves_the_other_one():
    """A job that closes its stdout goes on with stderr, and the pump neither spins nor stops."""
    taker = Taker()
    code = "import os, sys; os.write(1, b'out'); os.close(1); sys.stdin.read(1); os.write(2, b'err')"
    with pumping("separate", taker) as (capture, pump):
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=capture.stdout, stderr=capture.stderr
        )
        capture.close_write_ends()
        wait_until(lambda: taker.of(STDOUT) == b"out")
        burned = time.process_time()
        time.sleep(0.3)  # long enough for a spinning thread to show
        assert time.process_time() - burned < 0.2
        process.communicate(b"x")
        pump.finish()
        assert taker.of(STDERR) == b"err"


def test_each_taker_gets_everything_in_order():
    """All takers get the same parts."""
    takers = Taker(), Taker()
    with pumping("merged", *takers) as (capture, pump):
        for n in range(100):
            os.write(capture.stdout, b"%d\n" % n)
        pump.finish()
    assert takers[0].parts == takers[1].parts
    assert takers[0].of(STDOUT) == b"".join(b"%d\n" % n for n in range(100))


def test_a_taker_that_fails_is_left_out_and_the_draining_goes_on(caplog):
    """One taker's trouble is logged once and costs neither the others nor the job anything."""
    taker, calls = Taker(), []

    def failing(stream, data):
        calls.append(data)
        raise RuntimeError("a test")

    with pumping("separate", failing, taker) as (capture, pump):
        assert run(capture, FLOOD, "100").wait(60) == 0
        os.write(capture.stderr, b"more")
        wait_until(lambda: taker.of(STDERR).endswith(b"more"))
        pump.finish()
    assert len(taker.of(STDOUT)) == 100 * (1 << 16)
    assert len(calls) == 1
    assert caplog.text.count("failed and gets no more of this job's output") == 1


def test_what_cannot_be_masked_is_handed_to_nobody(caplog):
    """Where masking fails, the draining goes on, and not a byte more is shown."""
    taker = Taker()

    class Failing(Redactor):
        def feed(self, stream, data):
            if b"trouble" in data:
                raise RuntimeError("a test")
            return super().feed(stream, data)

    capture = Capture.open("separate")
    pump = Pump(capture.sources, [taker], capture.report, Failing(Masks()))
    pump.start()
    os.write(capture.stdout, b"before\n")
    wait_until(lambda: taker.of(STDOUT) == b"before\n")
    os.write(capture.stdout, b"trouble\n")
    assert run(capture, FLOOD, "100").wait(60) == 0
    pump.finish()
    capture.close()
    assert taker.of(STDOUT) == b"before\n"
    assert "the pump failed" in caplog.text


def test_many_lines_are_taken_at_once():
    """A job that writes line by line is read in batches, which is what makes the pump cheap."""
    taker = Taker()
    code = "import os, time\nfor n in range(20_000): os.write(1, b'a line\\n'); n % 100 or time.sleep(0.0001)"
    with pumping("separate", taker) as (capture, pump):
        began = time.monotonic()
        assert run(capture, code).wait(60) == 0
        pump.finish()
        took = time.monotonic() - began
    assert taker.of(STDOUT) == b"a line\n" * 20_000
    assert len(taker.parts) <= took / (COALESCE_MS / 1000) + 10


def test_no_thread_and_no_fd_is_left(caplog):
    """A finished pump has given back what it had."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pumping("pty", Taker()) as (capture, pump):
        os.write(capture.stdout, b"x")
        pump.finish()
        assert not pump.is_alive()
    del capture, pump  # the shared memory stays for whoever holds it
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert caplog.text == ""


@pytest.mark.parametrize("wanted", [True, False])
def test_what_a_daemon_still_writes_goes_to_the_console(wanted):
    """After the job, output of what it left running is passed on or thrown away; it never blocks, and fds are freed."""
    read, write = os.pipe()
    taker = Taker() if wanted else None
    code = "import os\nfor _ in range(100): os.write(1, bytes(65536))"
    daemon = subprocess.Popen([sys.executable, "-c", code], stdout=write)
    os.close(write)

    forward_rest([Source(read, STDOUT)], taker)

    assert daemon.wait(60) == 0
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "tailer-left-over"])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read)
    if taker:
        assert taker.of(STDOUT) == bytes(6_553_600)
