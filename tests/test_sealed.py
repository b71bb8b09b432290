"""Sealed elements: chunks of a finished log in one element, and nothing of them lost."""

import re

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tailer import sealed
from tailer.errors import CorruptRecord
from tailer.piece import framed
from tailer.records import Attempt, Chunk, End, encode, header
from tailer.sealed import FULL, Sealer
from tests.log_model import COMPRESSOR, WrittenLog, pieces

LINE = b"2026-11-26 08:00:00,%03d INFO billing: an invoice was sent to customer %06d\n"


def packed(elements):
    """What takes the place of these elements."""
    sealer = Sealer()
    sealer.add(elements)
    sealer.close()
    assert (sealer.taken, sealer.made) == (sum(map(len, elements)), sum(map(len, sealer.packed)))
    return sealer.packed


def a_line_each(count):
    """Elements of a log whose job writes a line now and then."""
    log = WrittenLog(("stdout", LINE % (n % 1000, n), 100) for n in range(count))
    return [encode(record) for record in log.records]


@given(
    written=pieces,
    junk=st.sampled_from([None, b"", b"junk", b"o 1 2\n", b"p 1 0 1 1 0 z\nno frame"]),
    at=st.integers(0, 9),
)
def test_records_are_the_same_behind_a_sealed_element(written, junk, at):
    """Whatever a log consists of, holes and what cannot be read included, and in the same order."""
    log = WrittenLog(written)
    elements = [encode(record, COMPRESSOR) for record in (Attempt(1, 1, "e1"), *log.records, log.end_record())]
    if junk is not None:
        elements.insert(min(at, len(elements)), junk)
    known = [element for element in elements if element != junk]
    made = packed(elements)
    assert (junk in made) == (junk is not None)
    assert [record for one in made if one != junk for record in sealed.records(one)] == [
        record for one in known for record in sealed.records(one)
    ]


@given(written=pieces, value=st.integers(0, 3000))
def test_what_reaches_a_place_does_so_sealed(written, value):
    """The header of a sealed element says what is within: by offset, line and time the same chunk is found."""
    elements = [encode(record, COMPRESSOR) for record in WrittenLog(written).records]
    made = packed(elements)
    for what in ("offset", "line", "time"):
        expected = next((one for one in elements if header(one).reaches(what, value)), None)
        outer = next((one for one in made if header(one).reaches(what, value)), None)
        inner = outer and next(one for one in sealed.elements(outer) if header(one).reaches(what, value))
        assert (inner and header(inner)) == (expected and header(expected))


def test_a_log_of_single_lines_takes_a_third():
    """Lines that the log had in elements of their own; each sealed one is full, and none much more than that."""
    elements = a_line_each(5000)
    made = packed(elements)
    assert sum(map(len, made)) < sum(map(len, elements)) / 3
    sizes = [sum(map(len, sealed.elements(one))) for one in made]
    assert all(FULL <= size < FULL + 200 for size in sizes[:-1])


def test_only_the_last_of_an_element_has_nothing_behind_it():
    """A reader counts an element once, behind the last of its records."""
    [element] = packed(a_line_each(10))
    assert [record.more for record in sealed.records(element)] == [True] * 9 + [False]


def test_large_chunks_stay_as_they_are():
    """A chunk that fills an element alone is not packed again, and goes to clients as it is stored."""
    data = b"row\n" * 16_384
    large = [
        encode(Chunk("stdout", 1, n * len(data), 1 + n * 16_384, 16_384, False, data), COMPRESSOR) for n in range(3)
    ]
    assert packed(large) == large


def frame(*elements, rest=b""):
    """The payload of a sealed element with these in it."""
    return zstandard.ZstdCompressor().compress(framed(elements) + rest)


GOOD = a_line_each(3)


@pytest.mark.parametrize(
    "element",
    [
        b"p ",
        b"p 1 0 3 1 1 z\n",
        b"p 1 0 3 1 1 -\n" + frame(b"o 1 0 3 1 1 -\nab\n"),
        b"p 1 0 3 1 1 z\n" + frame(b"o 1 0 4 1 1 -\nab\n"),
        b"p 1 0 3 1 1 z\n" + frame(b"o 1 0 3 1 2 -\nab\n"),
        b"p 1 0 4 1 1 z\n" + frame(b"o 1 0 3 1 1 -\nab\n"),
        b"p 1 0 6 1 2 z\n" + frame(b"o 1 0 3 1 1 -\nab\n", b"o 1 4 2 2 1 -\na\n"),
        b"p 1 0 3 1 1 z\n" + frame(b"o 1 0 3 1 1 -\nab\n", rest=b"9\nrest"),
        b"p 1 0 3 1 1 z\n" + frame(),
        b"p 1 0 3 1 1 z\n" + frame(b"x 1 0 3 1 1 -\nab\n"),
        b"p 1 0 3 1 1 z\n" + frame(bytes(3 * FULL)),
        b"p 1 0 3 1 1 z\n" + frame(encode(End(outcome="finished", attempt=1, final=True))),
    ],
)
def test_what_no_sealer_made_is_refused(element):
    """As any element that cannot be read: with one error, and without unpacking what is too large."""
    with pytest.raises(CorruptRecord, match=re.escape("not a record")):
        sealed.records(element)


@given(at=st.integers(0, 400), value=st.integers(0, 255))
def test_a_sealed_element_that_was_changed_is_refused_or_the_same(at, value):
    """No change of a byte makes it raise anything else."""
    [element] = packed(GOOD)
    changed = bytearray(element)
    changed[at % len(changed)] = value
    try:
        found = sealed.records(bytes(changed))
    except CorruptRecord:
        return
    assert sum(record.length for record in found) == sum(header(one).length for one in GOOD) or not changed.startswith(
        b"p "
    )
