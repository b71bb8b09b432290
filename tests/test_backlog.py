"""The backlog: what waits for Redis keeps its order and its bounds, in memory, on disk, and after a loss."""

import contextlib
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tailer.records import Hole, decode
from worker import backlog as module
from worker.backlog import Backlog, Item


def item(start, size, line=0):
    """An item of `size` bytes of output, of which every tenth is a newline, kept as an element of as many bytes."""
    return Item(start, start + size, line, line + size // 10, b"%d:" % start + b"x" * (size - len(b"%d:" % start)))


def items(*sizes):
    """Items of these sizes that join."""
    made, start, line = [], 0, 0
    for size in sizes:
        made.append(item(start, size, line))
        start, line = made[-1].end, made[-1].lines
    return made


def drain(backlog, size=1000):
    """Take everything, as a sender does that has no trouble."""
    taken = []
    while backlog:
        some = backlog.peek(size)
        taken += some
        backlog.confirm(len(some))
    return taken


def open_files():
    """The temporary files that this process has open."""
    found = []
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the fd with which we look
            found.append(str(fd.readlink()))
    return [link for link in found if "tailer-" in link or link.startswith(tempfile.gettempdir())]


def test_what_goes_in_comes_out_in_order():
    """First in, first out, across memory and file."""
    backlog, pushed = Backlog(100, 1000), items(*[50] * 12)
    assert not backlog
    assert all(backlog.push(one) for one in pushed)
    assert backlog

    assert backlog.spilled == 500
    assert drain(backlog, 120) == pushed
    assert not backlog
    backlog.close()


def test_peek_takes_about_as_much_as_asked_for_and_at_least_one():
    """A batch stays within its size, except that one item is always given, and looking changes nothing."""
    backlog, pushed = Backlog(10_000, 0), items(100, 100, 100, 500)
    for one in pushed:
        backlog.push(one)
    assert backlog.peek(1) == pushed[:1]
    assert backlog.peek(200) == pushed[:2]
    assert backlog.peek(299) == pushed[:2]
    assert backlog.peek(10_000) == pushed
    assert Backlog(10, 10).peek(100) == []


def test_full_is_full():
    """When memory and file have what they may, an item is refused and nothing changes; a hole record still goes in."""
    backlog, pushed = Backlog(100, 200), items(60, 60, 60, 60)
    kept = [one for one in pushed if backlog.push(one)]
    assert kept == pushed[:3]
    assert not backlog.has_room(60)

    hole = Item(180, 240, 18, 24, b"a hole")
    assert backlog.push(hole, always=True)
    assert drain(backlog) == [*kept, hole]
    assert backlog.has_room(60)
    backlog.close()


def test_without_a_file_only_memory_counts():
    """A spill size of 0 never touches the disk."""
    before = open_files()
    backlog, pushed = Backlog(100, 0), items(60, 60, 30)
    assert [backlog.push(one) for one in pushed] == [True, False, True]
    assert open_files() == before
    assert backlog.push(Item(0, 5, 0, 0, b"a hole" * 10), always=True)


def test_the_file_is_gone_when_it_is_empty_and_when_the_backlog_is_closed():
    """The temporary file has no name, and its space is given back once all of it was sent."""
    before = open_files()
    backlog = Backlog(10, 1000)
    for _ in range(2):
        for one in items(100, 100, 100):
            assert backlog.push(one)
        assert len(open_files()) == len(before) + 1
        assert "(deleted)" in "".join(open_files())
        drain(backlog)
        assert open_files() == before
    backlog.push(item(0, 100))
    backlog.close()
    assert open_files() == before


def test_a_full_disk_counts_as_no_room():
    """A file that cannot be written refuses the item, and what was kept before stays good."""
    code = """
import resource, signal
from worker.backlog import Backlog, Item
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
backlog = Backlog(0, 10**9)
stored = [backlog.push(Item(n, n + 1, 0, 0, b"%03d" % n * 100)) for n in range(5)]
taken = []
while backlog:
    some = backlog.peek(10**6)
    backlog.confirm(len(some))
    taken += [one.element[:3] for one in some]
print(stored, taken)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "[True, True, False, False, False] [b'000', b'001']\n"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000  # the limit was the other process's


def test_after_a_loss_what_is_still_held_is_sent_again():
    """Items the server forgot come first again, in order, with no hole; those it has are let go."""
    backlog, pushed = Backlog(10_000, 0), items(*[100] * 5)
    for one in pushed:
        backlog.push(one)
    backlog.confirm(3)

    assert backlog.rewind(100, 10, (500, 50), 7, "a test") == 0
    assert backlog.peek(10_000) == pushed[1:]
    assert backlog.rewind(300, 30, (500, 50), 7, "a test") == 0
    assert backlog.peek(10_000) == pushed[3:]
    assert backlog.rewind(500, 50, (500, 50), 7, "a test") == 0
    assert not backlog
    assert backlog.rewind(0, 0, (500, 50), 7, "a test") == 0
    assert drain(backlog) == pushed


def test_what_is_no_longer_held_becomes_a_hole(monkeypatch):
    """Of what the server forgot and the backlog let go, a hole record tells size, lines and cause."""
    monkeypatch.setattr(module, "RESEND", 200)
    backlog, pushed = Backlog(10_000, 0), items(*[100] * 5)
    for one in pushed:
        backlog.push(one)
    backlog.confirm(4)

    assert backlog.rewind(50, 5, (500, 50), 7, "a test") == 150

    first, *rest = backlog.peek(10_000)
    assert (first.start, first.end, first.line, first.lines) == (50, 200, 5, 20)
    assert decode(first.element) == Hole(7, 50, 6, 15, True, 150, "a test")
    assert rest == pushed[2:]


def test_with_nothing_held_the_whole_difference_is_a_hole():
    """A server behind an empty backlog misses everything up to the end of what was ever pushed."""
    backlog = Backlog(1000, 0)
    assert backlog.rewind(10, 1, (500, 50), 7, "a test") == 490
    assert decode(backlog.peek(1)[0].element) == Hole(7, 10, 2, 49, True, 490, "a test")


@pytest.mark.parametrize("memory", [50, 10_000])
def test_a_loss_while_output_waits_in_the_file(memory):
    """What was spilled follows what is sent again."""
    backlog, pushed = Backlog(memory, 10_000), items(*[60] * 6)
    for one in pushed:
        backlog.push(one)
    backlog.peek(1)
    backlog.confirm(1)

    assert backlog.rewind(0, 0, (360, 36), 7, "a test") == 0
    assert drain(backlog) == pushed
    backlog.close()


class Holding(RuleBasedStateMachine):
    """A worker, and a server that now and then forgets: whatever happens, no byte is missed and no limit broken."""

    MEMORY, SPILL, RESEND = 300, 500, 250

    @initialize()
    def begin(self):
        """Nothing pushed, nothing stored."""
        self.backlog = Backlog(self.MEMORY, self.SPILL)
        self.pushed = self.lines = 0
        self.stored = []  # what the server holds: (start, end, is a hole)
        self._resend, module.RESEND = module.RESEND, self.RESEND

    def teardown(self):
        """Leave the module as it was."""
        if hasattr(self, "backlog"):
            module.RESEND = self._resend
            self.backlog.close()

    @rule(size=st.integers(10, 120))
    def push(self, size):
        """The job writes; what finds no room is tried again later, so that there is no gap of the test's making."""
        new = item(self.pushed, size, self.lines)
        room = self.backlog.has_room(size)
        assert self.backlog.push(new) == room
        if room:
            self.pushed, self.lines = new.end, new.lines

    @precondition(lambda self: bool(self.backlog))
    @rule(size=st.integers(1, 400), count=st.integers(1, 5))
    def send(self, size, count):
        """The server takes some of a batch's items; they must join what it has."""
        batch = self.backlog.peek(size)
        assert len(batch) == 1 or sum(len(one.element) for one in batch) <= size
        batch = batch[:count]
        assert batch[0].start == self.end
        for one in batch:
            self.stored.append((one.start, one.end, one.element.startswith(b"h ")))
        self.backlog.confirm(len(batch))

    @rule(keep=st.integers(0, 20))
    def forget(self, keep):
        """The server loses its newest records, and the worker finds out."""
        self.stored = self.stored[:keep]
        end = self.end
        lost = self.backlog.rewind(end, end // 10, (self.pushed, self.lines), 1, "a test")
        first = self.backlog.peek(1)
        assert (first[0].start if first else self.pushed) == end
        if lost:
            hole = decode(first[0].element)
            assert (hole.offset, hole.length) == (end, lost)

    @property
    def end(self):
        """Where the server's log ends."""
        return self.stored[-1][1] if self.stored else 0

    @invariant()
    def bounded(self):
        """Memory holds its limit, one batch from the file, what may be resent, and a hole; the file its limit."""
        if hasattr(self, "backlog"):
            held = sum(len(one.element) for one in self.backlog._items)
            assert held <= self.MEMORY + 520 + self.RESEND + 100
            assert sum(len(one.element) for one in self.backlog._sent) <= self.RESEND
            assert self.backlog._write_at <= self.SPILL + 40 * 50
            assert self.backlog._size == held

    @invariant()
    def joined(self):
        """What the server has joins, from the first byte on."""
        at = 0
        for start, end, _ in getattr(self, "stored", ()):
            assert start == at
            at = end


TestHolding = Holding.TestCase
TestHolding.settings = settings(max_examples=60, stateful_step_count=40)


@given(st.lists(st.integers(10, 200), max_size=20), st.integers(0, 500), st.integers(0, 2000), st.integers(1, 600))
def test_whatever_the_limits_what_was_accepted_comes_back(sizes, memory, spill, batch):
    """For every memory and file size, items that were accepted come out as they were, in order, and no others."""
    backlog = Backlog(memory, spill)
    kept = [one for one in items(*sizes) if backlog.push(one)]
    assert drain(backlog, batch) == kept
    backlog.close()
