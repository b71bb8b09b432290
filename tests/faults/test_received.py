"""The suite's own accounts: what they are there to find, they find."""

import itertools

import pytest

from tailer.records import STDERR, STDOUT
from tests.faults.account import SHAPES, Account
from tests.faults.followers import Text
from tests.faults.received import Received

SHAPE = SHAPES["lines"]


def pieces(lines):
    """What a log of so many lines consists of: stream and bytes of each line."""
    return [SHAPE.line(number) for number in range(lines)]


def received(*parts):
    """The account of a follower who gets these: a stream and bytes, or the size of a hole."""
    account = Received(SHAPE)
    for part in parts:
        if isinstance(part, int):
            account.hole(part, "a test")
        else:
            account.data(part[1], part[0])
    return account


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_any_part_of_a_stream_can_be_told(shape):
    """Sizes and parts are those of the lines, put together."""
    lines = [shape.line(number) for number in range(50)]
    for stream in (STDOUT, STDERR):
        whole = b"".join(line for name, line in lines if name == stream)
        assert shape.size(stream, 50) == len(whole)
        for start, stop in itertools.combinations(range(0, len(whole), 997), 2):
            assert shape.part(stream, start, stop) == whole[start:stop]
    assert all(len(line) <= 4096 for _, line in lines)


def test_all_is_well():
    """A log that has everything has nothing wrong, and misses nothing."""
    account = received(*pieces(40))
    assert (account.length, account.wrong, account.skipped(40)) == (SHAPE.total(40), [], 0)


@pytest.mark.parametrize("number", [0, 1, 2, 7, 39])
def test_a_lost_line_is_found(number):
    """A line that is missing, be it the last one, without a hole."""
    parts = pieces(40)
    account = received(*parts[:number], *parts[number + 1 :])
    assert account.wrong or account.skipped(40) == len(parts[number][1])


@pytest.mark.parametrize("number", [0, 1, 2, 7, 39])
def test_a_doubled_line_is_found(number):
    """A line that came twice."""
    parts = pieces(40)
    assert received(*parts[: number + 1], *parts[number:]).wrong


def test_a_changed_byte_is_found():
    """One byte that is another one."""
    parts = pieces(40)
    changed = bytearray(parts[20][1])
    changed[-3] ^= 1
    assert "instead of" in received(*parts[:20], (parts[20][0], bytes(changed)), *parts[21:]).wrong[0]


def test_positions_that_do_not_join_are_counted():
    """Bytes that come from a position behind, or before, where the follower is."""
    account = Received(SHAPE)
    account.data(b"12345", position=0)
    account.data(b"12345", position=10)
    account.data(b"12345", position=12)
    assert (account.lost, account.doubled, account.at) == (5, 3, 17)


@pytest.mark.parametrize(("start", "stop"), [(10, 20), (0, 5), (35, 40), (13, 14)])
@pytest.mark.parametrize("cut", [0, 11])
def test_a_hole_is_measured(start, stop, cut):
    """What a hole swallowed of both streams is exactly what it says, also if it begins and ends within a line."""
    parts = pieces(40)
    before, after = parts[start], parts[stop] if stop < 40 else None
    missing = sum(len(line) for _, line in parts[start:stop]) - cut
    missing += cut if after else 0
    behind = [(after[0], after[1][cut:])] if after else []
    account = received(*parts[:start], (before[0], before[1][:cut]), missing, *behind, *parts[stop + 1 :])
    assert account.wrong == []
    assert account.skipped(40) == account.missing == missing
    assert account.length == SHAPE.total(40) - missing


def test_a_hole_that_hides_too_much_is_found():
    """More is missing around a hole than it says."""
    parts = pieces(40)
    account = received(*parts[:10], 100, *parts[20:])
    assert account.skipped(40) > account.missing


def test_a_traceback_is_counted_apart():
    """How a job failed comes behind its lines, and is not theirs."""
    account = received(*pieces(8), (STDERR, b"Traceback (most recent call last):\n"), (STDERR, b"ValueError\n"))
    assert (account.wrong, account.afterwards, account.skipped(8)) == ([], 46, 0)


def test_text_is_told_from_what_tailer_adds():
    """A hole's line, in pieces of any size and behind a line that it has cut short, counts as its bytes do."""
    text = b"a;\nb;\nhalf\n[tailer] 70 bytes are missing here: a test\nc;\n[tailer] killed\n"
    for size in range(1, 20):
        follower, rest = Text(None, "job", SHAPE), b""
        for start in range(0, len(text), size):
            rest = follower.parse(rest + text[start : start + size])
        got = follower.received
        assert (rest, got.length, got.holes, got.at) == (b"", 13, [(70, "a test")], 83)


def test_an_account_is_shared(tmp_path):
    """What one process writes into it another one sees."""
    account = Account.made(tmp_path / "account")
    Account.at(tmp_path / "account").done = 7
    assert (account.done, account.duration) == (7, None)
    account.began, account.ended = 1.0, 3.5
    assert Account.at(tmp_path / "account").duration == 2.5
