"""Compresses responses for clients that take it, each piece so that it can be read as soon as it has arrived."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Protocol

import zstandard

from tailer.records import Chunk

if TYPE_CHECKING:  # the command line does without werkzeug
    from werkzeug.datastructures import Accept

WINDOW_LOG = 17
"""128 KiB of what went before are used to compress the next piece, and kept for each client; zstd's own 2 MiB would
be no better for pieces of a log, which are at most 64 KiB."""


class Packer(Protocol):
    """Compresses one response, piece by piece."""

    encoding: str

    def pack(self, data: bytes, event: object) -> bytes:
        """Return the next piece, which stands for ``event``, compressed and complete."""

    def end(self) -> bytes:
        """Return what ends the response."""


class Gzip:
    """RFC 1952, with a flush behind each piece."""

    encoding = "gzip"

    def __init__(self) -> None:
        self._stream = zlib.compressobj(6, wbits=31)

    def pack(self, data: bytes, event: object) -> bytes:
        """Compress as ``Packer``."""
        del event
        return self._stream.compress(data) + self._stream.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        """End as ``Packer``."""
        return self._stream.flush(zlib.Z_FINISH)


class Zstd:
    """RFC 8878. What is stored as a frame goes out as that frame, other pieces in frames of our own between them.

    Frames may follow one another (section 3.1); curl, browsers and Python's clients read on behind the first one.
    """

    encoding = "zstd"

    def __init__(self) -> None:
        parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=WINDOW_LOG)
        self._compressor = zstandard.ZstdCompressor(compression_params=parameters)
        self._frame: zstandard.ZstdCompressionObj | None = None
        self._begun = False

    def pack(self, data: bytes, event: object) -> bytes:
        """Compress as ``Packer``."""
        self._begun = True
        if isinstance(event, Chunk) and event.frame and data is event.data:
            return self._close() + event.frame
        self._frame = self._frame or self._compressor.compressobj()
        return self._frame.compress(data) + self._frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    def _close(self) -> bytes:
        frame, self._frame = self._frame, None
        return frame.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH) if frame else b""

    def end(self) -> bytes:
        """End as ``Packer``. No frame at all would be no zstd; Python 3.14's clients refuse it."""
        return self._close() if self._begun else self._compressor.compress(b"")


def negotiate(accepted: Accept) -> Packer | None:
    """Return what an Accept-Encoding header names, zstd before gzip; ``None`` if neither.

    ``*`` alone does not ask for zstd: whoever sends that may be older than it.
    """
    if accepted.quality("zstd") > 0 and "zstd" in [name for name, _ in accepted]:
        return Zstd()
    return Gzip() if accepted.quality("gzip") > 0 else None
