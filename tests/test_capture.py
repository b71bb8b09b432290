"""The pipes of a job, and the memory that worker and horse share: across forks, execs and sudden deaths."""

import fcntl
import gc
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tailer.records import STDERR, STDOUT
from worker.capture import PIPE_SIZE, Capture, Report, Source, State, waiting

MODES = ("separate", "merged", "pty")


@pytest.fixture
def report():
    """An empty report."""
    report = Report.create()
    yield report
    report.close()


@pytest.fixture(params=MODES)
def capture(request):
    """An open capture, of each kind."""
    capture = Capture.open(request.param)
    yield capture
    capture.close()


def in_child(run):
    """Run this in a forked process and return its wait status."""
    if (pid := os.fork()) == 0:
        try:
            run()
            os._exit(0)
        except BaseException:  # noqa: BLE001 -- whatever it is, pytest must not go on in the child
            os._exit(99)
    return os.waitpid(pid, 0)[1]


def open_fds():
    """How many file descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


# The report.


def test_an_empty_report_says_that_nothing_happened(report):
    """Before anything is written down: nothing drained, no attempt, the job still runs."""
    assert report.drained == (0, 0)
    assert report.attempt == 0
    assert report.state is State.RUNNING
    assert report.reason is None
    assert report.rescue() is None


def test_what_one_process_writes_down_the_other_reads(report):
    """Numbers, state and reason cross the fork, both ways, and survive the process that wrote them."""
    report.drained = 2**40, 7

    def horse():
        assert report.drained == (2**40, 7)
        report.attempt = 3
        report.drained = 2**40 + 1, 8
        report.ended(State.RAISED, "ValueError: é")
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(horse) == signal.SIGKILL
    assert (report.drained, report.attempt) == ((2**40 + 1, 8), 3)
    assert (report.state, report.reason) == (State.RAISED, "ValueError: é")


@pytest.mark.parametrize("state", list(State))
def test_every_state_can_be_told(report, state):
    """Each way in which a job's function ends comes through, with and without a reason."""
    report.ended(state)
    assert (report.state, report.reason) == (state, None)
    report.ended(state, "why")
    assert (report.state, report.reason) == (state, "why")


def test_a_reason_of_any_length_and_any_characters_fits(report):
    """A reason that is too long is cut, one that is no UTF-8 is made so; neither reaches the numbers or the output."""
    report.drained, report.attempt = (5, 6), 7
    report.ended(State.RAISED, "\ud800" + "é€" * 100_000)

    assert report.reason.startswith("?é€é€")
    assert 1000 < len(report.reason.encode()) <= 4096
    assert (report.drained, report.attempt, report.state) == ((5, 6), 7, State.RAISED)
    report.ended(State.RETURNED, "short")
    assert report.reason == "short"


def test_drained_output_is_counted(report):
    """What is taken out of a pipe through the report is what was in it, with bytes and newlines added up."""
    read, write = os.pipe()
    source = Source(read, STDOUT)
    os.write(write, b"one\ntwo\nthree")
    assert report.drain(source, 4) == b"one\n"
    assert report.drained == (4, 1)
    assert report.drain(source, 100) == b"two\nthree"
    assert report.drained == (13, 2)
    assert report.rescue() is None
    report.count(b"\n\n")
    assert report.drained == (15, 4)
    os.close(read)
    os.close(write)


DIES = """
import os, signal, sys
import worker.capture
from worker.capture import Report, Source
report, read, stream, where = Report(int(sys.argv[1])), int(sys.argv[2]), sys.argv[3], sys.argv[4]
def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)
if where == "before the read":
    os.readv = die
if where == "before the count":
    Report.count = die
if where == "while counting":
    Report.drained = property(Report.drained.fget, die)
data = report.drain(Source(read, stream), int(sys.argv[5]))
"""


@pytest.mark.parametrize("stream", [STDOUT, STDERR])
@pytest.mark.parametrize("size", [1, 15, 16, 17, 100_000])
@pytest.mark.parametrize("where", ["before the read", "before the count", "while counting"])
def test_what_a_killed_worker_had_read_can_be_rescued(report, stream, size, where):
    """Killed at any point around a read, a worker leaves the bytes either in the pipe or in the report, never both."""
    report.drained = 1000, 10
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    data = os.urandom(size)
    os.write(write, data)
    argv = [sys.executable, "-c", DIES, *map(str, (report.fd, read, stream, where, size))]
    done = subprocess.run(argv, pass_fds=[report.fd, read], check=False, timeout=30)
    assert done.returncode == -signal.SIGKILL

    left = os.read(read, PIPE_SIZE) if waiting(Source(read, stream)) else b""
    rescued = report.rescue()

    if where == "before the read":
        assert (rescued, left) == (None, data)
        assert report.drained == (1000, 10)
    else:
        assert (rescued, left) == ((stream, data), b"")
        assert report.drained == (1000 + size, 10 + data.count(b"\n"))
    assert report.rescue() is None
    os.close(read)
    os.close(write)


# The pipes.


def test_output_comes_out_of_its_stream(capture):
    """Separate pipes keep the two streams apart; merged, and on a terminal, both come as stdout, in order."""
    os.write(capture.stdout, b"out\n")
    os.write(capture.stderr, b"err\n")
    found = dict.fromkeys([source.stream for source in capture.sources], b"")
    while sum(map(len, found.values())) < len(b"out\nerr\n"):  # A terminal may show one write before the other.
        for source in capture.sources:
            if select.select([source.fd], [], [], 10 if capture.mode == "pty" else 0)[0]:
                found[source.stream] += os.read(source.fd, 100)
    if capture.mode == "separate":
        assert found == {STDOUT: b"out\n", STDERR: b"err\n"}
    else:
        assert found == {STDOUT: b"out\nerr\n"}


def test_every_byte_goes_through_unchanged(capture):
    """No kind of capture changes, swallows, doubles or answers a byte, be it a newline, Ctrl-C or Ctrl-D."""
    text = bytes(range(256)) + b"\n\r\n\r\n\n" + b"\x03\x04\x11\x13\x1a\x1c\x7f\x00"
    for source, write in zip(capture.sources, dict.fromkeys([capture.stdout, capture.stderr]), strict=True):
        os.write(write, text)
        assert os.read(source.fd, 4096) == text
        os.set_blocking(source.fd, False)
        with pytest.raises(BlockingIOError):
            os.read(source.fd, 4096)


def test_a_pipe_holds_a_mebibyte():
    """So that the worker can read many lines at once while the job runs on."""
    capture = Capture.open("separate")
    assert fcntl.fcntl(capture.stdout, fcntl.F_GETPIPE_SZ) == PIPE_SIZE
    os.set_blocking(capture.stdout, False)
    assert os.write(capture.stdout, bytes(2 * PIPE_SIZE)) == PIPE_SIZE
    assert waiting(capture.sources[0]) == PIPE_SIZE
    assert waiting(capture.sources[1]) == 0
    capture.close()


def test_a_terminal_is_one_for_the_job():
    """On a pseudo terminal programs see a terminal of usual size, and buffer and colour as on one."""
    capture = Capture.open("pty")
    code = "import os, sys; print(sys.stdout.isatty(), os.get_terminal_size(), sys.stdout.line_buffering)"
    subprocess.run([sys.executable, "-c", code], stdout=capture.stdout, stderr=capture.stderr, check=True, timeout=30)
    told = os.read(capture.sources[0].fd, 4096)
    assert told == b"True os.terminal_size(columns=120, lines=24) True\n"
    size = fcntl.ioctl(capture.stdout, termios.TIOCGWINSZ, bytes(8))
    assert struct.unpack("HHHH", size)[:2] == (24, 120)
    capture.close()


def test_nothing_is_inherited_by_what_a_job_starts(capture):
    """A program run by somebody else gets none of the fds, so that it can't keep a job's log open."""
    code = "import os, sys\nfor fd in sys.argv[1:]:\n try: os.fstat(int(fd)); print(fd)\n except OSError: pass"
    for inheritable in (None, False):
        if inheritable is False:
            capture.set_inheritable(True)
            capture.set_inheritable(False)
        argv = [sys.executable, "-c", code, *map(str, capture.fds)]
        done = subprocess.run(argv, close_fds=False, capture_output=True, text=True, check=True, timeout=30)
        assert done.stdout == ""


SPAWNED = """
import os, sys
from worker.capture import Capture, State
capture = Capture.from_env(os.environ["HANDED_OVER"])
assert not any(os.get_inheritable(fd) for fd in capture.fds)
os.write(capture.stdout, b"out of ")
os.write(capture.stderr, b"another process")
capture.report.ended(State.RETURNED, "%s %d" % (capture.mode, capture.owner))
"""


def test_a_spawned_process_gets_the_same_pipes(capture):
    """Written into an environment variable and inherited, a capture works in a process that was not forked from us."""
    capture.set_inheritable(True)
    subprocess.run(
        [sys.executable, "-c", SPAWNED],
        env={**os.environ, "HANDED_OVER": capture.to_env()},
        close_fds=False,
        check=True,
        timeout=30,
    )
    assert (capture.report.state, capture.report.reason) == (State.RETURNED, f"{capture.mode} {os.getpid()}")
    told = b"".join(os.read(source.fd, 100) for source in capture.sources)
    assert told == b"out of another process"


def test_with_the_write_ends_closed_the_pipe_ends(capture):
    """Once the worker has closed its write ends, the last writer's end is the end."""
    os.write(capture.stdout, b"last words")
    capture.close_write_ends()
    assert (capture.stdout, capture.stderr) == (-1, -1)
    source = capture.sources[0]
    assert os.read(source.fd, 100) == b"last words"
    if capture.mode == "pty":
        with pytest.raises(OSError, match="Input/output error"):
            os.read(source.fd, 100)
    else:
        assert os.read(source.fd, 100) == b""


@pytest.mark.parametrize("mode", MODES)
def test_closing_gives_every_fd_back(mode):
    """Opened and closed, whole or after the write ends, a capture leaves no fd."""
    gc.collect()  # What earlier tests have left must not go meanwhile.
    before = open_fds()
    for write_ends_first in (False, True):
        capture = Capture.open(mode)
        assert open_fds() > before
        if write_ends_first:
            capture.close_write_ends()
        capture.close()
        del capture  # the shared memory stays for whoever holds it
        assert open_fds() == before


STARVED = """
import os, resource, sys
from worker.capture import Capture
used = len(os.listdir("/proc/self/fd")) - 1
for spare in range(12):
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + spare, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    try:
        Capture.open(sys.argv[1]).close()
        print("opened")
        break
    except OSError:
        print("refused")
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 50, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    assert len(os.listdir("/proc/self/fd")) - 1 == used, spare
"""


@pytest.mark.parametrize("mode", MODES)
def test_without_fds_left_it_raises_and_leaks_none(mode):
    """With too few file descriptors opening raises OSError, and what it had opened is closed again."""
    argv = [sys.executable, "-c", STARVED, mode]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert done.stderr == ""
    *refused, last = done.stdout.split()
    assert last == "opened"
    assert set(refused) == {"refused"}


def test_bytes_that_wait_are_counted_exactly():
    """`waiting` tells what can be read now, also what a process wrote that is gone."""
    capture = Capture.open("merged")
    assert waiting(capture.sources[0]) == 0
    in_child(lambda: os.write(capture.stdout, b"x" * 70_001) and os.kill(os.getpid(), signal.SIGKILL))
    assert waiting(capture.sources[0]) == 70_001
    capture.close()


def test_the_systems_own_terminals_would_change_bytes():
    """Why the terminal is set up by us: as the system makes it, a newline comes out as two bytes."""
    master, slave = pty.openpty()
    os.write(slave, b"a\n")
    assert os.read(master, 10) == b"a\r\n"
    os.close(slave)
    os.close(master)
