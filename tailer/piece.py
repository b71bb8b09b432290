"""Elements packed together: one zstd frame, in it each element behind its length in decimal digits and a newline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import zstandard


def framed(elements: Iterable[bytes]) -> bytes:
    """Return what is to be compressed."""
    return b"".join(b"%d\n%b" % (len(element), element) for element in elements)


def elements(frame: bytes, most: int) -> list[bytes]:
    """Return the elements in a frame, which may have ``most`` bytes unpacked. Raises ``ValueError``."""
    return list(_split(unpack(frame, most)))


def unpack(frame: bytes, most: int) -> bytes:
    """Decompress, having checked the size that the frame claims: a forged frame must not fill the memory.

    Raises ``ValueError``.
    """
    try:
        if not 0 <= zstandard.frame_content_size(frame) <= most:
            raise ValueError("larger than any that Tailer writes")
        return zstandard.ZstdDecompressor().decompress(frame)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None


def _split(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        newline = data.index(b"\n", at, at + 20)
        length = int(data[at:newline])
        at = newline + 1 + length
        if length < 0 or at > len(data):
            raise ValueError("an element is cut")
        yield data[newline + 1 : at]
