"""Shows many logs on a terminal: a line for each line, behind the name of its job in a colour of its own."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterable
from typing import Literal

from tailer.errors import ExitCode
from tailer.follow import Final
from tailer.formats import Options
from tailer.many_formats import text_line, words_of
from tailer.many_lines import Lines
from tailer.many_logs import Notice, Refused, Told, name_of
from tailer.terminal import WIDEST_LINE, Tame, exit_code, printable

COLOURS = (36, 32, 35, 33, 34, 96, 92, 95, 93, 94)
"""SGR's colours (ECMA-48, section 8.3.117, and the bright ones), without red, which looks like an error."""
Colour = Literal["auto", "always", "never"]


class ManyScreen:
    """Shows lines on stdout, all else on stderr. A terminal is sent what is harmless only, unless it is to be ``raw``.

    With ``colours`` the names are in colours, the same for a job wherever it is shown.
    """

    def __init__(self, options: Options, *, colours: bool, raw: bool = False) -> None:
        self._options = options
        self._colours = colours
        self._tames = sys.stdout.isatty() and not raw

    def show(self, items: Iterable[Told]) -> int:
        """Show all; returns the exit code of the one that has ended worst."""
        worst: int = ExitCode.FINISHED
        for told in items:
            event, log = told.event, told.log
            if isinstance(event, Lines) and log:
                self._write(log.job_id, log.name, event)
            elif isinstance(event, Notice):
                self.tell(str(event))
            elif isinstance(event, Refused):
                worst = worse(worst, ExitCode.TROUBLE)
                self.tell(str(event.error), event.job_id)
            elif log:
                if isinstance(event, Final):
                    worst = worse(worst, exit_code(event.end))
                if words := words_of(event):
                    self.tell(words, log.job_id, log.name)
        return worst

    def _write(self, job_id: str, name: str, event: Lines) -> None:
        coloured = self._coloured(job_id, name)
        for line in event.lines:
            data = text_line("", line, self._options)
            sys.stdout.buffer.write(coloured.encode() + (_tamed(data) if self._tames else data))
        sys.stdout.buffer.flush()

    def _coloured(self, job_id: str, name: str) -> str:
        if not self._colours:
            return name
        return f"\x1b[{COLOURS[zlib.crc32(job_id.encode()) % len(COLOURS)]}m{name}\x1b[0m"

    def tell(self, text: str, job_id: str = "", name: str = "") -> None:
        """Write a line of Tailer's own to stderr, about a job if it is named."""
        about = f"{self._coloured(job_id, name or name_of(job_id, ''))} | " if job_id else ""
        sys.stderr.write(f"{about}[tailer] {printable(text, widest=WIDEST_LINE)}\n")
        sys.stderr.flush()


def _tamed(data: bytes) -> bytes:
    tame = Tame()
    return tame.tame(data[:-1]) + tame.end() + b"\n"


def worse(one: int, other: int) -> int:
    """Return the worse of two exit codes: trouble, then a signal, a failure, a stop; best of all is a good end."""

    def badness(code: int) -> int:
        order: tuple[int, ...] = (ExitCode.FINISHED, ExitCode.STOPPED, ExitCode.FAILED)
        return order.index(code) if code in order else 1000 if code == ExitCode.TROUBLE else code

    return max(one, other, key=badness)


def wants_colours(when: str, *, unwanted: bool) -> bool:
    """Return whether names are to be coloured; ``unwanted`` is whether colours are, in general."""
    if when == "auto":
        return sys.stdout.isatty() and not unwanted
    return when == "always"
