"""The cutter: output in any pieces becomes chunks that join without a gap and end where a line does, if they can."""

import hashlib
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailer.records import MAX_CHUNK, STDERR, STDOUT
from worker.cutter import Cutter

# Now and then a long line or many short ones, so that some of what is held does not fit one chunk.
texts = st.tuples(st.binary(min_size=1, max_size=5), st.just(1)) | st.sampled_from(
    [(b"\n", 1), (b"a\n", 1), (b"ab\n", 30_000), (b"x", 70_000), ("aé€😀".encode(), 9_000)]
)
cuts = st.tuples(st.booleans(), st.sampled_from([sys.maxsize, MAX_CHUNK + 1, 100_000]))
fed = st.tuples(st.sampled_from([STDOUT, STDERR]), texts)


def output(parts):
    """The bytes of each stream's runs: neighbours of one stream are the same as one part."""
    runs = []
    for stream, data in parts:
        if runs and runs[-1][0] == stream:
            runs[-1] = stream, runs[-1][1] + data
        elif data:
            runs.append((stream, data))
    return runs


@given(st.lists(fed | cuts, max_size=12))
def test_nothing_is_lost_doubled_or_reordered(steps):
    """However output comes and whenever it is cut, the chunks are it, in order of arrival, with their true counts."""
    cutter, parts, chunks = Cutter(), [], []
    for now, step in enumerate(steps):
        if isinstance(step[0], bool):
            partial, most = step
            cut = cutter.cut(partial=partial, most=most)
            assert sum(chunk.length for chunk in cut) <= most + max(len(data) for _, data in [*parts, ("", b"")])
            chunks += cut
        else:
            stream, (text, times) = step
            cutter.feed(stream, text * times, now)
            parts.append((stream, text * times))
        assert cutter.offset + cutter.size == sum(len(data) for _, data in parts)
    chunks += cutter.cut(partial=True)

    assert output((chunk.stream, chunk.data) for chunk in chunks) == output(parts)
    assert [chunk.time for chunk in chunks] == sorted(chunk.time for chunk in chunks)
    written = b""
    for chunk in chunks:
        assert 0 < chunk.length <= MAX_CHUNK
        assert chunk.offset == len(written)
        assert chunk.line == written.count(b"\n") + 1
        assert chunk.midline == (bool(written) and not written.endswith(b"\n"))
        assert chunk.lines == chunk.data.count(b"\n")
        written += chunk.data
    assert (cutter.offset, cutter.lines, cutter.size) == (len(written), written.count(b"\n"), 0)
    assert cutter.sha256 == hashlib.sha256(written).hexdigest()
    assert cutter.since is None
    assert not cutter.whole_line


@given(st.lists(fed, max_size=6))
def test_only_an_unfinished_last_line_is_held_back(steps):
    """Without `partial`, what follows the last newline stays, and nothing else; it comes with what ends it."""
    parts = [(stream, text * times) for stream, (text, times) in steps]
    cutter = Cutter()
    for stream, data in parts:
        cutter.feed(stream, data, 7)
    runs = output(parts)
    last = runs[-1][1] if runs else b""
    unfinished = len(last) - (last.rfind(b"\n") + 1)

    cut = cutter.cut(partial=False)

    if unfinished <= MAX_CHUNK:
        assert cutter.size == unfinished
    else:
        assert 0 < cutter.size <= MAX_CHUNK
    assert (cutter.since is None) == (cutter.size == 0)
    assert not cutter.whole_line
    cutter.feed(runs[-1][0] if runs else STDOUT, b"!\n", 8)
    assert cutter.whole_line
    cut += cutter.cut(partial=False)
    assert b"".join(chunk.data for chunk in cut) == b"".join(data for _, data in parts) + b"!\n"
    assert cutter.size == 0


def test_chunks_end_with_a_line_where_one_ends_in_reach():
    """Of many lines, each full chunk ends behind a newline, and is as long as it can be."""
    cutter = Cutter()
    line = b"x" * 99 + b"\n"
    cutter.feed(STDOUT, line * 2000, 1)

    chunks = cutter.cut(partial=False)

    assert all(chunk.data.endswith(b"\n") for chunk in chunks)
    assert {chunk.length for chunk in chunks[:-1]} == {MAX_CHUNK // 100 * 100}


def test_a_line_that_fills_a_chunk_is_one():
    """A newline at the very end of what fits counts."""
    cutter = Cutter()
    cutter.feed(STDOUT, (b"a\n" + b"x" * (MAX_CHUNK - 3) + b"\n") * 2 + b"y\n", 1)
    assert [chunk.length for chunk in cutter.cut(partial=False)] == [MAX_CHUNK, MAX_CHUNK, 2]


@pytest.mark.parametrize("character", ["é", "€", "😀"])
@pytest.mark.parametrize("before", range(4))
def test_a_line_longer_than_a_chunk_is_cut_between_characters(character, before):
    """Chunks of a long line hold whole UTF-8 characters, so that each can be shown by itself."""
    cutter = Cutter()
    text = "a" * before + character * MAX_CHUNK
    cutter.feed(STDOUT, text.encode(), 1)

    chunks = cutter.cut(partial=True)

    assert "".join(chunk.data.decode() for chunk in chunks) == text
    assert all(chunk.length > MAX_CHUNK - 4 for chunk in chunks[:-1])


def test_bytes_that_are_no_text_are_cut_all_the_same():
    """A run of continuation bytes, which no character has, is cut at the limit."""
    cutter = Cutter()
    cutter.feed(STDOUT, b"\x80" * (3 * MAX_CHUNK), 1)
    assert [chunk.length for chunk in cutter.cut(partial=True)] == [MAX_CHUNK] * 3


def test_both_streams_keep_their_order_of_arrival():
    """Where stderr comes between two halves of a line on stdout, that is what the log has."""
    cutter = Cutter()
    for stream, data in [(STDOUT, b"ab"), (STDOUT, b"c"), (STDERR, b"err\n"), (STDOUT, b"d\n")]:
        cutter.feed(stream, data, 1)

    chunks = cutter.cut(partial=False)

    assert [(chunk.stream, chunk.data) for chunk in chunks] == [(STDOUT, b"abc"), (STDERR, b"err\n"), (STDOUT, b"d\n")]
    assert [(chunk.line, chunk.midline) for chunk in chunks] == [(1, False), (1, True), (2, False)]


def test_a_chunk_has_the_time_of_its_first_byte():
    """The time at which output was read stays with it, also with a line that waits for its end."""
    cutter = Cutter()
    cutter.feed(STDOUT, b"a\nb", 10)
    cutter.feed(STDOUT, b"c", 20)
    assert cutter.since == 10
    assert [chunk.time for chunk in cutter.cut(partial=False)] == [10]
    assert cutter.since == 10

    cutter.feed(STDOUT, b"d\n", 30)
    cutter.feed(STDERR, b"e\n", 40)
    assert [(chunk.data, chunk.time) for chunk in cutter.cut(partial=False)] == [(b"bcd\n", 10), (b"e\n", 40)]
    for now in (50, 60, 70):
        cutter.feed(STDOUT, b"x" * (MAX_CHUNK - 1) + b"\n", now)
    assert [chunk.time for chunk in cutter.cut(partial=False)] == [50, 60, 70]


def test_whole_line_tells_whether_there_is_something_to_send_at_once():
    """A newline among what is held shows in `whole_line`; part of a line does not."""
    cutter = Cutter()
    cutter.feed(STDOUT, b"progress 1%\r", 1)
    assert not cutter.whole_line
    cutter.feed(STDERR, b"error\n", 1)
    cutter.feed(STDOUT, b"more", 1)
    assert cutter.whole_line
    cutter.cut(partial=False)
    assert (cutter.size, cutter.whole_line) == (4, False)


def test_a_cutter_goes_on_where_another_one_left_off():
    """Begun at an offset and a line, its chunks continue that log."""
    cutter = Cutter(1000, 7)
    cutter.feed(STDOUT, b"a\nb", 1)
    first, second = cutter.cut(partial=False) + cutter.cut(partial=True)
    assert (first.offset, first.line, second.offset, second.line) == (1000, 8, 1002, 9)
    assert (cutter.offset, cutter.lines) == (1003, 8)


def test_cutting_nothing_gives_nothing():
    """With nothing held, or nothing but empty reads, there are no chunks."""
    cutter = Cutter()
    assert cutter.cut(partial=True) == []
    cutter.feed(STDOUT, b"", 1)
    assert cutter.cut(partial=False) == []
    assert cutter.cut(partial=True) == []
