"""Compressed responses: the same bytes, each piece readable at once, and nothing compressed twice."""

import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import Accept

from tailer.compression import Gzip, Zstd, negotiate
from tailer.formats import Options, Text
from tailer.records import STDERR, STDOUT, Chunk, decode, encode
from tailer.store import Cursor

UNPACK = {
    Gzip: lambda data: zlib.decompressobj(wbits=31).decompress(data),
    Zstd: lambda data: zstandard.ZstdDecompressor().decompressobj(read_across_frames=True).decompress(data),
}
pieces = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=30),
        st.tuples(st.binary(min_size=1, max_size=40), st.integers(30, 1500)).map(lambda parts: parts[0] * parts[1]),
    ),
    max_size=12,
)


def chunks(data, stream=STDOUT):
    """The pieces as a reader gets them: large ones that shrink by it were stored as frames."""
    compressor, offset, line = zstandard.ZstdCompressor(level=1), 0, 1
    for piece in data:
        lines = piece.count(b"\n")
        yield decode(encode(Chunk(stream, 1, offset, line, lines, False, piece), compressor))
        offset, line = offset + len(piece), line + lines


@pytest.mark.parametrize("packer", [Gzip, Zstd])
@given(data=pieces, start=st.integers(0, 50))
def test_every_piece_can_be_read_when_it_has_come(packer, data, start):
    """Up to each piece and in the end a client reads exactly the bytes of the log; also from the middle of a chunk."""
    packed, expected, pack = b"", b"", packer()
    for index, chunk in enumerate(chunks(data)):
        shown = chunk.part(chunk.offset + min(start, chunk.length - 1), chunk.end) if index == 0 else chunk
        packed += pack.pack(shown.data, shown)
        expected += shown.data
        assert UNPACK[packer](packed) == expected
    assert UNPACK[packer](packed + pack.end()) == expected


@pytest.mark.parametrize("packer", [Gzip, Zstd])
def test_nothing_is_compressed_too(packer):
    """A response without a body is one that can be unpacked, and has been seen to its end."""
    unpacker = zlib.decompressobj(wbits=31) if packer is Gzip else zstandard.ZstdDecompressor().decompressobj()
    assert unpacker.decompress(packer().end()) == b""
    assert unpacker.eof


def test_what_is_stored_compressed_is_sent_as_it_is():
    """A frame of the store goes out to clients of zstd, byte for byte; a part of it, or with changes, cannot."""
    (chunk,) = chunks([b"\x1b[1msome line\n" * 1000])
    assert chunk.frame
    cursor = Cursor(1, chunk.end)
    assert Zstd().pack(Text(Options()).encode(chunk, cursor), chunk) == chunk.frame
    for options in (Options(timestamps=True), Options(strip=True)):
        shown = Text(options).encode(chunk, cursor)
        assert chunk.frame not in Zstd().pack(shown, chunk)
    assert chunk.part(10, chunk.end).frame is None
    (other,) = chunks([b"\x1b[1msome line\n" * 1000], STDERR)
    assert Text(Options(streams=frozenset({STDOUT}))).encode(other, cursor) == b""


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ([("zstd", 1), ("gzip", 1)], Zstd),
        ([("gzip", 1), ("br", 1)], Gzip),
        ([("*", 1)], Gzip),
        ([("zstd", 0), ("gzip", 1)], Gzip),
        ([("gzip", 0)], type(None)),
        ([("identity", 1)], type(None)),
        ([], type(None)),
    ],
)
def test_what_the_client_takes_is_chosen(accepted, chosen):
    """Of zstd and gzip the first, and nothing that the client did not name; `*` stands for gzip."""
    assert type(negotiate(Accept(accepted))) is chosen
