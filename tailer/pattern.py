"""What a search looks for in lines: an expression of RE2's, in whose time there is nothing to fear from any pattern."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any, TypeAlias

import re2

LONGEST = 500
"""Characters of an expression."""
LARGEST = 6000
"""Instructions of a compiled one (``RE2::ProgramSize``): RE2's slowest way takes time in proportion to them."""
MEMORY = 8 << 20
"""Bytes that RE2 may use for one. With less it takes that slowest way, at a hundredth of the speed, far more often."""
MOST_IN_LINE = 1000
"""Most matches of one line: no one looks at more, and a page of dots would have millions."""
LONGEST_IN_LINE_S = 0.05
"""How long is looked for more matches of one line."""
_EDGES = r"(?:^|[^\pL\pM\pN_])(%s)(?:[^\pL\pM\pN_]|$)"
_LINE_BY_LINE = re.compile(r"\\[ACz]|\(\?[a-zA-Z]*-")
"""What may mean something else in the middle of several lines than in a line alone."""

Span: TypeAlias = tuple[int, int]


class Pattern:
    """An expression, or with ``fixed`` a text, that lines are looked through for. ``^`` and ``$`` are a line's borders.

    ``ignorecase`` takes small letters for capital ones; ``word`` takes whole words only, of any script.

    Raises:
        ValueError: it cannot be used, in RE2's words.
    """

    def __init__(self, text: str, *, fixed: bool = False, ignorecase: bool = False, word: bool = False) -> None:
        if not 0 < len(text) <= LONGEST or "\n" in text:
            raise ValueError(f"use 1 to {LONGEST} characters, none of them a newline")
        expression = re2.escape(text) if fixed else text
        compiled = _compiled(expression, ignorecase=ignorecase)  # by itself, so that what is wrong is told as it stands
        self._group = int(word)
        self._regexp = _compiled("(?m)" + (_EDGES % expression if word else expression), ignorecase=ignorecase)
        self._by_line = not fixed and bool(_LINE_BY_LINE.search(text))
        if compiled.programsize > LARGEST:
            raise ValueError("the expression is too large when its repetitions are written out")

    def hits(self, lines: bytes) -> Iterator[tuple[int, list[Span]]]:
        """Yield the index of each line that matches, and where in it; ``lines`` is UTF-8, with newlines between them.

        Where it matches nothing but emptiness, one empty match stands for all.
        """
        if self._by_line:
            for index, line in enumerate(lines.split(b"\n")):
                if match := self._regexp.search(line):
                    yield index, self._spans(line, match, 0, len(line))
            return
        index = start = 0
        while match := self._regexp.search(lines, start):
            at = match.span(self._group)[0]
            index += lines.count(b"\n", start, at)
            begin = lines.rfind(b"\n", start, at) + 1 or start
            stop = lines.find(b"\n", at)
            stop = len(lines) if stop < 0 else stop
            yield index, self._spans(lines, match, begin, stop)
            if stop == len(lines):
                return
            start, index = stop + 1, index + 1

    def _spans(self, text: bytes, match: Any, begin: int, stop: int) -> list[Span]:
        """Return where ``match`` and those behind it are in the line from ``begin`` to ``stop``, from its beginning."""
        spans, empty = list[Span](), list[Span]()
        # An expression may look at the whole line for each match: then the first ones must do.
        deadline = time.monotonic() + LONGEST_IN_LINE_S
        for _ in range(MOST_IN_LINE):
            start, end = match.span(self._group)
            found = spans if end > start else empty
            found.append((start - begin, end - begin))
            at = end if end > start else _next(text, end)
            if at > stop or time.monotonic() > deadline or (match := self._regexp.search(text, at, stop)) is None:
                break
        return spans or empty[:1]


def _next(text: bytes, at: int) -> int:
    """Return where the character behind the one at ``at`` begins."""
    at += 1
    while at < len(text) and text[at] & 0xC0 == 0x80:  # noqa: PLR2004 (what goes on a character in UTF-8)
        at += 1
    return at


def _compiled(expression: str, *, ignorecase: bool) -> Any:
    options = re2.Options()
    options.case_sensitive = not ignorecase
    options.log_errors = False
    options.max_mem = MEMORY
    options.never_nl = True
    try:
        return re2.compile(expression.encode(), options)
    except re2.error as error:
        raise ValueError(error.args[0].decode(errors="replace")) from None
    finally:
        re2.purge()  # It keeps 128 of them, whoever has no more use for them.
