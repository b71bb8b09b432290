"""Records and their bytes: whatever is written comes back, and nothing else is taken for a record."""

import json
import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tailer.errors import CorruptRecord
from tailer.formats import rfc3339
from tailer.records import MAX_CHUNK, OUTCOMES, STDERR, STDOUT, Attempt, Chunk, End, Hole, decode, encode

COMPRESSOR = zstandard.ZstdCompressor(level=1)

counts = st.integers(0, 10**14 - 1)  # times have 14 digits at most
text = st.text(max_size=40)
# Every third byte a newline or a header's character; long runs, so that some chunks are worth a frame.
output = st.lists(st.sampled_from([b"\n", b"x 1", b"\0\xff\r", b"line of output\n" * 90]), max_size=8).map(b"".join)


@st.composite
def chunks(draw):
    """Chunks of either stream with any bytes."""
    data = draw(output | st.binary(max_size=50))
    stream = draw(st.sampled_from([STDOUT, STDERR]))
    return Chunk(stream, draw(counts), draw(counts), draw(counts), data.count(b"\n"), draw(st.booleans()), data)


holes = st.builds(Hole, counts, counts, counts, counts, st.booleans(), counts, text)
attempts = st.builds(Attempt, counts, st.integers(1, 10**9), text, text, text, text, text)
ends = st.builds(
    End,
    outcome=st.sampled_from(OUTCOMES),
    attempt=st.integers(0, 10**9),
    final=st.booleans(),
    status=st.none() | text,
    exit=st.none() | st.integers(0, 255),
    signal=st.none() | st.integers(1, 64),
    reason=st.none() | text,
    duration=st.none() | st.floats(0, 1e9),
    bytes=counts,
    lines=counts,
    dropped=counts,
    sha256=st.none() | st.text("0123456789abcdef", min_size=64, max_size=64),
    max_rss=st.none() | counts,
    worker=st.none() | text,
    ended_at=st.floats(0, 1e10),
)
records = chunks() | holes | attempts | ends


@given(records, st.booleans())
def test_every_record_comes_back_as_it_was(record, compressed):
    """Encoding and decoding gives the same record, with and without compression."""
    assert decode(encode(record, COMPRESSOR if compressed else None)) == record


@given(records)
def test_an_element_begins_with_the_header_that_the_schema_names(record):
    """The first line holds kind, time, offset, length, line, lines and flags, for readers without Python."""
    kind, *numbers, flags = encode(record).split(b"\n")[0].split(b" ")

    kinds = {Chunk: b"o" if isinstance(record, Chunk) and record.stream == STDOUT else b"e"}
    kinds |= {Hole: b"h", Attempt: b"a", End: b"x"}
    assert kind == kinds[type(record)]
    assert list(map(int, numbers[:3])) == [record.time, record.offset, record.length]
    assert set(flags) <= set(b"-zm")


def test_only_chunks_that_shrink_become_frames():
    """Small and incompressible chunks stay as they are; a log that compresses well takes a fraction of its size."""
    small = Chunk(STDOUT, 1, 0, 1, 0, False, b"a" * 1023)
    lines = b"the same line\n" * 1000
    large = Chunk(STDOUT, 1, 0, 1, 1000, False, lines)
    noise = Chunk(STDOUT, 1, 0, 1, 0, False, bytes(COMPRESSOR.compress(bytes(range(256)) * 9)) * 1)

    assert encode(small, COMPRESSOR) == encode(small)
    assert len(encode(large, COMPRESSOR)) < len(lines) / 20
    assert len(encode(noise, COMPRESSOR)) <= len(encode(noise))


@given(st.binary(max_size=80))
def test_arbitrary_bytes_are_refused(element):
    """What was not written by Tailer raises CorruptRecord, and nothing else."""
    with pytest.raises(CorruptRecord):
        decode(element)


@given(records, st.data())
def test_a_damaged_element_is_a_record_or_refused(record, data):
    """Cut or altered anywhere, an element decodes to some record or raises CorruptRecord, never anything else."""
    element = bytearray(encode(record, data.draw(st.sampled_from([None, COMPRESSOR]))))
    at = data.draw(st.integers(0, len(element) - 1))
    if data.draw(st.booleans()):
        del element[at:]
    else:
        element[at] = data.draw(st.integers(0, 255))
    try:
        found = decode(bytes(element))
    except CorruptRecord:
        return
    rfc3339(found.time)
    assert found.end >= found.offset >= 0


HEADER = b"%b 1 0 0 1 0 -\n"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
)
fields = st.dictionaries(st.sampled_from(["outcome", "attempt", "final", "bytes", "lines", "ended_at", "time"]), JSON)


@given(st.sampled_from([b"a", b"x", b"h"]), JSON | fields)
def test_a_payload_of_another_shape_is_refused(kind, payload):
    """A record whose payload is JSON of another shape raises CorruptRecord, so that no reader trips over it."""
    with pytest.raises(CorruptRecord):
        decode(HEADER % kind + json.dumps(payload).encode())


@pytest.mark.parametrize(
    "element",
    [
        b"",
        b"\n",
        b"o 1 0 3 1 0 -abc",
        b"o 1 0 3 1 0 -\nabcd",
        b"o 1 0 3 1 0 -\nab",
        b"o 1 0 3 1 1 -\nabc",
        b"o 1 0 3 1 -\nabc",
        b"o 1 0 3 1 0 - -\nabc",
        b"o 1 0 3 1 0 q\nabc",
        b"q 1 0 3 1 0 -\nabc",
        b"O 1 0 3 1 0 -\nabc",
        b"o -1 0 3 1 0 -\nabc",
        b"o 1 -5 3 1 0 -\nabc",
        b"o +1 0 3 1 0 -\nabc",
        b"o 1_0 0 3 1 0 -\nabc",
        b"o  1 0 3 1 0 -\nabc",
        b"o 999999999999999 0 3 1 0 -\nabc",
        b"o 1 9999999999999999 3 1 0 -\nabc",
        "o 1 ٣ 3 1 0 -\nabc".encode(),
        b"h 1 0 -3 1 0 -\n" + b'{"cause":"x"}',
        b"h 1 0 3 1 0 -\n{}",
        b"h 1 0 3 1 0 -\n[]",
        b"h 1 0 3 1 0 -\n" + b"[" * 100_000,
        b'h 1 0 3 1 0 -\n{"cause":"c","next":0}',
        b'h 1 0 3 1 0 -\n{"cause":"c","next":"7"}',
        b"a 1 0 0 1 0 -\n[]",
        b'a 1 0 0 1 0 -\n{"time":1,"number":1}',
        b'a 1 0 0 1 0 -\n{"time":2,"number":1,"execution":"e"}',
        b'a 1 0 0 1 0 -\n{"time":1,"number":"1","execution":"e"}',
        b"x 1 0 0 1 0 -\nnull",
        b'x 1 0 0 1 0 -\n{"outcome":"finished","attempt":1,"final":true,"ended_at":2}',
        b'x 0 5 0 1 0 -\n{"outcome":"finished","attempt":1,"final":true,"bytes":4}',
        b'x 0 0 0 1 0 -\n{"outcome":"finished","attempt":1,"final":true,"bytes":"0"}',
        b'x 0 0 0 1 0 -\n{"outcome":"finished","attempt":1,"final":true,"ended_at":1e999}',
        b"o 1 0 3 1 0 z\nabc",
        b"o 1 0 0 1 0 z\n",
    ],
)
def test_malformed_elements_are_refused(element):
    """Each way in which an element can differ from what the schema says raises CorruptRecord."""
    with pytest.raises(CorruptRecord, match="not a record"):
        decode(element)


@pytest.mark.parametrize("claimed", [3, MAX_CHUNK, 1 << 28])
def test_a_forged_frame_does_not_fill_the_memory(claimed):
    """A frame that would unpack to 256 MiB is refused before it is unpacked, whatever its header claims."""
    frame = zstandard.ZstdCompressor().compress(bytes(1 << 28))
    tracemalloc.start()
    try:
        with pytest.raises(CorruptRecord):
            decode(b"o 1 0 %d 1 0 z\n" % claimed + frame)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_fields_of_newer_versions_are_left_out():
    """An attempt or end record with fields that this version doesn't know can be read."""
    about = Attempt(1, 1, "e")
    end = End(outcome="finished", attempt=1, final=True, bytes=2)
    for record in (about, end):
        header, _, payload = encode(record).partition(b"\n")
        newer = json.dumps({**json.loads(payload), "since_version_9": [1]}).encode()
        assert decode(header + b"\n" + newer) == record


def test_output_that_looks_like_a_record_stays_output():
    """A job that prints headers and end records, byte for byte, has printed just that."""
    end = encode(End(outcome="finished", attempt=1, final=True))
    for forged in (end, b"\n" + end, encode(Chunk(STDOUT, 1, 0, 1, 0, False, end)), b"x 0 0 0 1 0 -\n{}"):
        chunk = Chunk(STDERR, 1, 7, 3, forged.count(b"\n"), True, forged)
        assert decode(encode(chunk)) == chunk


@given(chunks(), st.integers(0, 60), st.integers(0, 60))
def test_a_part_of_a_chunk_is_what_a_chunk_of_these_bytes_would_be(chunk, start, stop):
    """Bytes, offset, line number, count of lines and the middle-of-a-line mark are those of the part."""
    data = chunk.data[start:stop]
    before = chunk.data[: min(start, len(chunk.data))]

    part = chunk.part(chunk.offset + start, chunk.offset + stop)

    assert part.data == data
    assert part.lines == data.count(b"\n")
    if data:
        assert part.offset == chunk.offset + start
        assert part.line == chunk.line + before.count(b"\n")
        assert part.midline == (not before.endswith(b"\n") if before else chunk.midline)
        assert (part.stream, part.time) == (chunk.stream, chunk.time)
