"""Masks secrets in a job's output before anything of it leaves the worker. Knows no pipe and no Redis.

``Masks`` says where in some bytes there are secrets; a ``Redactor`` applies it to streams that come in pieces. What
could be the beginning of a secret is held back until more of its stream comes, or its end: so no border between two
pieces can tear a secret into halves that pass.
"""

from __future__ import annotations

import base64
import json
import re
import sys
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias
from urllib.parse import quote, quote_plus

from tailer.errors import SettingsError
from tailer.records import STDERR, STDOUT
from tailer.settings import SHORTEST_SECRET, Redact
from worker.capture import Report

if TYPE_CHECKING:
    import hyperscan

MASK = b"***"
COMMAND = b"::add-mask::"
"""What a line begins with that registers the rest of it: GitHub's workflow command."""
SHORTEST_LINE = 8
"""Bytes of the shortest line of a secret of several lines that is masked by itself."""
MOST_VALUES, MOST_BYTES = 256, 1 << 15
"""How many values a job may register, and their bytes in all: each of them costs memory and compiling."""
LINE = 1 << 16
"""Bytes of an unfinished line that are held for a pattern, or for the value of a command."""
OVERLAP = 1 << 12
"""Longest match of a pattern that is surely found in a line longer than ``LINE``."""
_NEEDLE = 256
"""Bytes of a spelling that the engine looks for; the rest is compared. It refuses patterns of more than 16,000."""
_START = 3
"""Bytes by which most places are seen to begin nothing; no spelling is shorter."""
_JAVASCRIPT = "!'()*"
"""What encodeURIComponent leaves as it is, besides letters, digits and ``-_.~`` (ECMA-262, section 19.2.6.4)."""

Span: TypeAlias = tuple[int, int]
Again: TypeAlias = Callable[[str, bytes], bytes]


def spellings(secret: bytes) -> set[bytes]:
    """Return all the ways to write ``secret`` that are masked.

    They are the bytes themselves, without the white space around them too; each longer line of several; and base64
    (RFC 4648, both alphabets) wherever in the encoded text the secret begins, URL-encoding, and JSON's escapes.
    Characters of base64 that hold bits of what stands beside the secret are no part of it.
    """
    bare = secret.strip()
    found = {line for line in map(bytes.strip, bare.splitlines()) if len(line) >= SHORTEST_LINE}
    for plain in {secret, bare}:
        found |= {plain, *_base64(plain), *_url(plain), *_json(plain)}
    return {spelling for spelling in found if len(spelling) >= SHORTEST_SECRET}


def _base64(plain: bytes) -> Iterator[bytes]:
    for before in range(3):
        first, last = -(-before * 8 // 6), (before + len(plain)) * 8 // 6
        standard = base64.b64encode(bytes(before) + plain)[first:last]
        yield standard
        yield standard.translate(bytes.maketrans(b"+/", b"-_"))


def _url(plain: bytes) -> Iterator[bytes]:
    for text in (*(quote(plain, safe) for safe in ("", "/", _JAVASCRIPT)), quote_plus(plain)):
        yield text.encode()
        yield re.sub("%..", lambda code: code[0].lower(), text).encode()


def _json(plain: bytes) -> Iterator[bytes]:
    try:
        text = plain.decode()
    except UnicodeDecodeError:
        return
    for ascii_only in (True, False):
        escaped = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        yield escaped.encode()
        yield escaped.replace("/", "\\/").encode()
        yield re.sub("[<>&]", lambda char: f"\\u{ord(char[0]):04x}", escaped).encode()


class Held(Protocol):
    """Whoever still holds output that a redactor has let go: the shipper."""

    def mask_again(self, again: Again, masks: Masks) -> None:
        """Mask what is held once more, and tell the log if that is not all that there was."""

    def tell(self, line: str) -> None:
        """Put a line of Tailer's own into the log."""


class Masks:
    """A set of secrets and patterns, compiled. Never changed, so threads and work horses may share it.

    Patterns are RE2's, over bytes. They are matched within a line, whose borders are ``^`` and ``$``.

    Raises:
        SettingsError: a pattern is none that RE2 takes, or it matches the empty text.
    """

    def __init__(self, secrets: Iterable[bytes] = (), patterns: Iterable[str] = ()) -> None:
        self.secrets = tuple(dict.fromkeys(secrets))
        self.patterns = tuple(patterns)
        self._matchers = [_compiled(pattern) for pattern in self.patterns]
        self._any = _compiled("|".join(f"(?:{pattern})" for pattern in self.patterns)) if self._matchers else None
        spelled = sorted(set[bytes]().union(*map(spellings, self.secrets)))
        # Bytes without a newline can begin any of these; those with one can only begin what is in ``_several``.
        heads = [spelling[: spelling.find(b"\n") + 1] or spelling for spelling in spelled]
        self._several = [(head, whole) for head, whole in zip(heads, spelled, strict=True) if head != whole]
        self._heads = sorted(set(heads))
        self._starts = {head[:_START] for head in heads}
        self._longest = max(map(len, heads), default=0)
        self._wanted = [COMMAND, *spelled]
        needles = [b"".join(b"\\x%02x" % byte for byte in wanted[:_NEEDLE]) for wanted in self._wanted]
        import hyperscan  # noqa: PLC0415 (in memory only of processes that mask: a spawned work horse does not)

        self._engine = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        self._engine.compile(expressions=needles, ids=list(range(len(needles))), flags=[0] * len(needles))

    @classmethod
    def of(cls, redact: Redact) -> Masks:
        """Compile what the settings name; raises ``SettingsError``, which does not repeat any of it."""
        if redact.unset:
            allowed = "is neither a variable that is set, nor =VALUE, nor /PATTERN/"
            raise SettingsError("TAILER_REDACT", "…", f"entry {redact.unset[0]} {allowed}")
        return cls([value.encode(errors="surrogateescape") for value in redact.values], redact.patterns)

    def __bool__(self) -> bool:
        return bool(self.secrets or self.patterns)

    def more(self, secrets: Iterable[bytes]) -> Masks:
        """Return these and ``secrets``."""
        return Masks([*self.secrets, *secrets], self.patterns)

    def scratch(self) -> hyperscan.Scratch:
        """Return the memory that ``literals`` works with. Threads cannot share it."""
        import hyperscan  # noqa: PLC0415 (as above)

        return hyperscan.Scratch(self._engine)

    def literals(self, data: bytes, scratch: hyperscan.Scratch) -> tuple[list[Span], list[int]]:
        """Return where secrets are in ``data``, and where a command's value begins, wherever in a line that is."""
        spans, commands = list[Span](), list[int]()

        def found(number: int, _start: int, end: int, *_: Any) -> None:
            wanted = self._wanted[number]
            start = end - min(len(wanted), _NEEDLE)
            if number == 0:
                commands.append(end)
            elif len(wanted) <= _NEEDLE or data.startswith(wanted, start):
                spans.append((start, start + len(wanted)))

        if data:
            self._engine.scan(data, match_event_handler=found, scratch=scratch)
        return spans, commands

    def matches(self, lines: bytes) -> list[Span]:
        """Return what the patterns match in ``lines``, each of which is whole."""
        if not self._any:
            return []
        if b"\r" in lines:
            lines = lines.replace(b"\r", b"\n")
        if not self._any.search(lines):
            return []
        spans = [match.span() for matcher in self._matchers for match in matcher.finditer(lines)]
        return [(start, end) for start, end in spans if start < end]

    def unfinished(self, data: bytes) -> int:
        """Return where the longest end of ``data`` begins that a secret could begin with; its length if there is none.

        A whole secret counts only if a longer one begins with it.
        """
        size = first = len(data)
        for at in range(max(data.rfind(b"\n") + 1, size - self._longest + 1), size):
            if (size - at < _START or data[at : at + _START] in self._starts) and self._begins(data[at:]):
                first = at
                break
        for head, whole in self._several:
            at = data.find(head, max(0, size - len(whole) + 1), first + len(head))
            while at >= 0 and not whole.startswith(data[at:]):
                at = data.find(head, at + 1, first + len(head))
            first = min(first, at) if at >= 0 else first
        return first

    def _begins(self, text: bytes) -> bool:
        at = bisect_right(self._heads, text)
        return at < len(self._heads) and self._heads[at].startswith(text)

    def mask(self, data: bytes) -> bytes:
        """Return ``data``, which is all there is, with every secret in it masked."""
        redactor = Redactor(self, commands=False)
        return redactor.feed(STDOUT, data) + redactor.flush(STDOUT)

    def blot(self, data: bytes) -> bytes:
        """Return ``data`` with every secret in it blotted out, byte for byte; newlines stay, so that lines do too."""
        blotted = bytearray(data)
        for start, end in [*self.literals(data, self.scratch())[0], *self.matches(data)]:
            blotted[start:end] = re.sub(rb"[^\n]", b"*", blotted[start:end])
        return bytes(blotted)

    def mask_text(self, text: str, most: int = sys.maxsize) -> str:
        """Mask a text of ours. One of ``most`` characters was cut off there, maybe in the middle of a secret."""
        if not self:
            return text
        data = text.encode(errors="surrogateescape")
        end = self.unfinished(data) if len(text) >= most else len(data)
        return (self.mask(data[:end]) + (MASK if end < len(data) else b"")).decode(errors="replace")


def _compiled(pattern: str) -> Any:
    import re2  # noqa: PLC0415 (in memory only where there are patterns)

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.never_nl = True
    options.log_errors = False
    try:
        matcher = re2.compile(b"(?m)" + pattern.encode(errors="surrogateescape"), options)
    except re2.error:
        raise SettingsError("TAILER_REDACT", "…", "one of its patterns is none that RE2 takes") from None
    if matcher.search(b""):
        raise SettingsError("TAILER_REDACT", "…", "one of its patterns matches the empty text") from None
    return matcher


@dataclass(slots=True)
class _Stream:
    """What is known of one stream.

    ``held`` bytes may be a secret's beginning; the first ``covered`` of them have been masked already. ``midline``
    says whether they begin within a line. While ``swallow`` is not 0, so many bytes of what comes, up to a newline,
    belong to something masked; ``marked`` says whether the log has a mask for them.
    """

    held: bytes = b""
    covered: int = 0
    midline: bool = False
    swallow: int = 0
    marked: bool = False


class Redactor:
    """Masks the output of one execution, stream by stream, in whatever pieces it comes.

    Every occurrence of every secret is replaced, those that overlap by one mask together. A value that the job
    registers is known from then on to both streams, and to the ``report``, so that a horse which goes on without its
    worker knows it too; ``holder`` then has to mask what it still holds.
    """

    def __init__(
        self,
        masks: Masks,
        report: Report | None = None,
        holder: Held | None = None,
        *,
        commands: bool = True,
        taking_over: bool = False,
    ) -> None:
        self._report = report
        self._holder = holder
        self._commands = commands
        self._lock = threading.Lock()
        self._registered = report.masks if report else []
        self._seen = set(self._registered)
        self._use(masks.more(self._registered) if self._registered else masks)
        self._streams = {STDOUT: _Stream(), STDERR: _Stream()}
        if taking_over and report and self.masks:
            for stream in report.torn:
                self._streams[stream].swallow = LINE

    def _use(self, masks: Masks) -> None:
        self.masks = masks
        self._scratch = masks.scratch()

    def feed(self, stream: str, data: bytes) -> bytes:
        """Return what of ``stream`` can go on, now that ``data`` has come."""
        with self._lock:
            return self._feed(stream, data, last=False)

    def flush(self, stream: str) -> bytes:
        """Return what is still held of ``stream``: it has ended."""
        with self._lock:
            return self._feed(stream, b"", last=True)

    def _feed(self, stream: str, data: bytes, *, last: bool) -> bytes:
        mark, data = self._swallow(self._streams[stream], data)
        self._streams[stream].held += data
        spans, open_at = self._look(stream, last=last)
        out = mark + self._release(self._streams[stream], spans, open_at, last=last)
        if self._report and self.masks:
            self._report.redacted([name for name, state in self._streams.items() if state.held or state.swallow])
        return out

    def _swallow(self, state: _Stream, data: bytes) -> tuple[bytes, bytes]:
        """Return a mask for what belongs to something masked, if there is none yet, and what is behind that."""
        if not state.swallow or not data:
            return b"", data
        stop = data.find(b"\n")
        size = min(len(data) if stop < 0 else stop, state.swallow)
        state.swallow = 0 if size == stop else state.swallow - size
        mark = b"" if state.marked or not size else MASK
        state.marked = bool(state.swallow and (state.marked or mark))
        self._account(len(mark) - size, 0)
        return mark, data[size:]

    def _look(self, stream: str, *, last: bool) -> tuple[list[Span], int | None]:
        """Return where secrets are in what is held, having registered the values of the commands in it.

        The second answer is where a command begins whose line is not complete.
        """
        while True:
            state = self._streams[stream]
            spans, commands = self.masks.literals(state.held, self._scratch)
            if not commands or not self._commands:
                return spans, None
            values, open_at = self._values(state, commands, spans, last=last)
            if not self._register(values):
                return spans, open_at

    def _values(
        self, state: _Stream, commands: list[int], spans: list[Span], *, last: bool
    ) -> tuple[list[bytes], int | None]:
        """Return the values of the commands whose lines are complete, and add the places of all values to ``spans``."""
        data, values = state.held, list[bytes]()
        for at in commands:
            begin = at - len(COMMAND)
            if data[begin - 1 : begin] != b"\n" if begin else state.midline:
                continue
            end = data.find(b"\n", at)
            if end < 0:
                end = len(data)
                if not last and end - begin <= LINE:
                    return values, begin
                if not last:
                    state.swallow, state.marked = sys.maxsize, True
            value = data[at:end].removesuffix(b"\r")
            if value:
                spans.append((at, at + len(value)))
                values.append(value)
        return values, None

    def _register(self, values: Iterable[bytes]) -> bool:
        """Mask these from now on; returns whether there was a new one among them."""
        new = list[bytes]()
        for value in values:
            secret = value.replace(b"%0D", b"\r").replace(b"%0A", b"\n").replace(b"%25", b"%")
            if secret in self._seen or not secret.strip() or len(self._seen) >= 2 * MOST_VALUES:
                continue
            self._seen.add(secret)
            if trouble := self._objection([*self._registered, *new, secret]):
                if self._holder:
                    self._holder.tell(trouble)
            else:
                new.append(secret)
        if new:
            self._registered += new
            if self._report:
                self._report.masks = self._registered
            self._use(self.masks.more(new))
            self._mask_again()
        return bool(new)

    def _objection(self, secrets: list[bytes]) -> str:
        if len(secrets[-1].strip()) < SHORTEST_SECRET:
            return f"a mask of fewer than {SHORTEST_SECRET} bytes is not applied"
        if len(secrets) > MOST_VALUES or sum(map(len, secrets)) > MOST_BYTES:
            return f"this mask is not applied: a job may register {MOST_VALUES} values of {MOST_BYTES} bytes in all"
        return ""

    def _mask_again(self) -> None:
        """Put what the holder still has through new streams, and let what is held here follow it."""
        if not self._holder:
            return
        before = self._streams
        self._streams = {name: _Stream(swallow=state.swallow, marked=state.marked) for name, state in before.items()}
        self._holder.mask_again(self._again, self.masks)
        for name, old in before.items():
            new = self._streams[name]
            if new.held:
                new.held += old.held[old.covered :]
            else:
                new.held, new.covered, new.midline = old.held, old.covered, old.midline

    def _again(self, stream: str, data: bytes) -> bytes:
        if not (state := self._streams.get(stream)):
            return data
        state.held += data
        spans, _ = self.masks.literals(state.held, self._scratch)
        return self._release(state, spans, None, last=False, whole_lines=False)

    def _release(
        self, state: _Stream, spans: list[Span], open_at: int | None, *, last: bool, whole_lines: bool = True
    ) -> bytes:
        """Let go what of the held bytes no secret can begin in, with ``spans`` of them and all matches masked."""
        data = state.held
        stop = len(data) if last else self._unfinished(state)
        if open_at is not None:
            stop = min(stop, open_at)
        if self.masks.patterns and whole_lines:
            stop = self._match_lines(data, spans, stop, last=last)
        done, at = state.covered, state.covered
        parts = list[bytes]()
        for start, end in _merged(spans):
            if start >= stop:
                break
            if end <= done:
                continue
            hidden = data[max(start, done) : end]
            mark = MASK if start >= done else b""
            parts += data[at:start], mark
            self._account(len(mark) - len(hidden), -hidden.count(b"\n"))
            at = end
        parts.append(data[at:stop])
        state.held, state.covered = data[stop:], max(0, at - stop)
        if stop:
            state.midline = data[stop - 1] != ord("\n")
        return b"".join(parts)

    def _unfinished(self, state: _Stream) -> int:
        data = state.held
        first = self.masks.unfinished(data) if self.masks.secrets else len(data)
        line = data.rfind(b"\n") + 1
        if self._commands and line < len(data) < line + len(COMMAND) and (line or not state.midline):
            first = min(first, line) if COMMAND.startswith(data[line:]) else first
        return first

    def _match_lines(self, data: bytes, spans: list[Span], stop: int, *, last: bool) -> int:
        """Add what the patterns match to ``spans``, and return how far that is known, at most ``stop``.

        A line is matched when it is complete, so it stays until then. One of more than ``LINE`` bytes is matched as
        far as it has come, and its last ``OVERLAP`` bytes once more with what follows.
        """
        complete = len(data) if last else _line_start(data, len(data))
        if len(data) - complete > LINE:
            spans += self.masks.matches(data)
            return min(stop, len(data) - OVERLAP)
        spans += self.masks.matches(data[:complete])
        return complete if stop >= complete else _line_start(data, stop)

    def _account(self, size: int, lines: int) -> None:
        if self._report:
            self._report.adjust(size, lines)


def _line_start(data: bytes, at: int) -> int:
    """Return where the line begins in which ``at`` is. For patterns a carriage return ends one too: bars go on."""
    return max(data.rfind(b"\n", 0, at), data.rfind(b"\r", 0, at)) + 1


def _merged(spans: list[Span]) -> Iterator[Span]:
    """Yield ``spans`` in order, those that overlap as one."""
    spans.sort()
    current: Span | None = None
    for start, end in spans:
        if current and start < current[1]:
            current = current[0], max(current[1], end)
            continue
        if current:
            yield current
        current = start, end
    if current:
        yield current
