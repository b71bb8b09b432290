"""Redaction: no secret passes, however its output is split, and nothing else is touched."""

import base64
import contextlib
import itertools
import json
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tailer.errors import SettingsError
from tailer.records import STDERR, STDOUT
from tailer.settings import Redact, Settings
from worker.capture import Report
from worker.redact import LINE, MASK, MOST_BYTES, MOST_VALUES, OVERLAP, Masks, Redactor, spellings

# Few letters, so that secrets overlap one another and themselves; a newline, so that some have several lines.
secrets = st.lists(st.text("ab\n", min_size=4, max_size=9).filter(lambda text: len(text.strip()) >= 4), max_size=4)
texts = st.text("aabbb\n\r:c", max_size=60).map(str.encode)


class Log:
    """Stands behind a redactor: holds all that it let go, and remembers what it was told."""

    def __init__(self):
        self.parts = []
        self.told = []

    def mask_again(self, again, masks):
        """Mask everything."""
        del masks
        self.parts = [(stream, again(stream, data)) for stream, data in self.parts]

    def tell(self, line):
        """Remember the line."""
        self.told.append(line)

    def run(self, redactor, pieces):
        """Put pieces of (stream, data) through the redactor; returns each stream's output."""
        for stream, data in pieces:
            out = redactor.feed(stream, data)
            self.parts.append((stream, out))
        for stream in (STDOUT, STDERR):
            self.parts.append((stream, redactor.flush(stream)))
        return [b"".join(data for name, data in self.parts if name == stream) for stream in (STDOUT, STDERR)]


@contextlib.contextmanager
def reported():
    """A report of the block's own."""
    report = Report.create()
    try:
        yield report
    finally:
        report.close()


def masked(text: bytes, masks: Masks) -> bytes:
    """The plain model: every place of every spelling, looked for one by one; what overlaps is one mask."""
    hidden = [False] * len(text)
    begins = [False] * len(text)
    spans = [
        (at, at + len(spelling))
        for spelling in set().union(*map(spellings, masks.secrets))
        for at in range(len(text))
        if text.startswith(spelling, at)
    ]
    for line, start in lines(text):
        spans += [(start + match[0], start + match[1]) for match in masks.matches(line)]
    for start, end in sorted(spans):
        begins[start] |= not hidden[start]
        hidden[start:end] = [True] * (end - start)
    return b"".join(MASK * begins[at] + text[at : at + 1] * (not hidden[at]) for at in range(len(text)))


def lines(text: bytes) -> list[tuple[bytes, int]]:
    """Each line, with where it begins."""
    found, start = [], 0
    for line in text.replace(b"\r", b"\n").splitlines(keepends=True):
        found.append((line, start))
        start += len(line)
    return found


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """The bytes in pieces."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:stop] for start, stop in itertools.pairwise(places)]


def fed(redactor: Redactor, pieces: list[bytes], stream: str = STDOUT) -> bytes:
    """What comes out, all in all."""
    return b"".join([*(redactor.feed(stream, piece) for piece in pieces), redactor.flush(stream)])


@given(secrets, texts, st.lists(st.integers(0, 100), max_size=8), st.sampled_from([(), ("a+c",), ("^b|c$", "ab.a")]))
@example(["abab"], b"ababab", [3], ())
@example(["abab", "babb"], b"aababbabab", [1, 4, 7], ())
@example(["a\nbab"], b"a\na\nbab", [2, 4], ("b$",))
def test_whatever_the_pieces_the_log_is_that_of_the_model(known, text, cuts, patterns):
    """Every occurrence is masked, those that overlap as one, and all else stays: exactly, for any pieces."""
    masks = Masks([secret.encode() for secret in known], patterns)

    out = fed(Redactor(masks), split(text, cuts))

    assert out == masked(text, masks)
    for spelling in set().union(*map(spellings, masks.secrets)):
        assert spelling not in out


@given(secrets, texts, texts, st.lists(st.integers(0, 9), max_size=12))
def test_each_stream_is_one(known, out, err, sizes):
    """With both streams mixed in any way, each is masked as if it were alone: halves on two streams are no secret."""
    masks, redactor = Masks([secret.encode() for secret in known]), None
    pieces, left = [], {STDOUT: out, STDERR: err}
    for size, stream in zip(sizes, itertools.cycle([STDOUT, STDERR])):
        pieces.append((stream, left[stream][:size]))
        left[stream] = left[stream][size:]
    redactor = Redactor(masks)

    assert Log().run(redactor, [*pieces, *left.items()]) == [masked(out, masks), masked(err, masks)]


@given(
    st.text("ab", min_size=4, max_size=7).map(str.encode),
    st.text("ab", min_size=4, max_size=7).map(str.encode),
    texts,
    texts,
    st.lists(st.integers(0, 200), max_size=12),
)
@example(b"aaaa", b"abab", b"", b"ababab", [2])
@example(b"aaaa", b"abba", b"abb", b"ab", [3])
def test_a_registered_value_is_masked_from_its_line_on(known, value, before, after, cuts):
    """Whatever the pieces, nothing shows a registered value, before its line either as long as that is still held."""
    masks = Masks([known])
    both = masks.more([value])
    before += b"\n"
    text = before + b"::add-mask::" + value + b"\n" + after
    log = Log()

    out, _ = log.run(Redactor(masks, holder=log), [(STDOUT, piece) for piece in split(text, cuts)])

    line = b"::add-mask::***\n"
    assert log.told == []
    assert out.count(line) == 1
    assert out.endswith(line + masked(after, both))
    for spelling in spellings(known) | spellings(value):
        assert spelling not in out


@given(st.binary(min_size=4, max_size=40), st.binary(max_size=5), st.binary(max_size=5))
def test_base64_is_known_wherever_the_secret_begins_in_it(secret, before, after):
    """In the encoding of any bytes around a secret, no character that depends on the secret alone is left."""
    if len(secret.strip()) < 4:
        return
    masks = Masks([secret])
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        encoded = encode(before + secret + after)
        first, last = -(-len(before) * 8 // 6), (len(before) + len(secret)) * 8 // 6
        out = masks.mask(b"<" + encoded + b">")
        assert MASK in out
        assert encoded[first:last] not in out


@given(st.text(min_size=4, max_size=20).filter(lambda text: len(text.strip()) >= 8))
def test_what_programs_make_of_a_secret_is_known(secret):
    """As part of a URL, a form or JSON, a secret is masked whatever characters it has."""
    masks = Masks([secret.encode(errors="replace")])
    secret = secret.encode(errors="replace").decode()
    written = [quote(secret), quote(secret, safe=""), quote_plus(secret), quote(secret).lower().replace("%2f", "/")]
    written += [json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]]
    for text in (*written[:3], *written[4:]):
        assert masks.mask(b"<" + text.encode() + b">") == b"<***>"


def test_a_secret_of_several_lines():
    """A key is masked as a whole, and each of its longer lines by itself, with whatever stands before it."""
    key = b"-----BEGIN KEY-----\nMIIEvQIBADANBg\nshort\n-----END KEY-----\n"
    masks = Masks([key])
    assert fed(Redactor(masks), [b"key: " + key[:30], key[30:] + b"."]) == b"key: ***."
    for piece in range(1, len(key)):
        assert fed(Redactor(masks), [b"key: " + key[:piece], key[piece:] + b"."]) == b"key: ***."
    assert fed(Redactor(masks), [b"1 MIIEvQIBADANBg\r\n2 short\n"]) == b"1 ***\r\n2 short\n"


def test_a_secret_longer_than_what_the_engine_takes():
    """However long a secret is, all of it is compared, and all of it masked."""
    secret = bytes(97 + (at * 7 + at // 26) % 26 for at in range(70_000))
    redactor = Redactor(Masks([secret]))
    other = secret[:-1] + b"!"
    assert fed(redactor, [other[:5000], other[5000:] + secret[:100], secret[100:] + b"x"]) == other + MASK + b"x"


def test_only_what_may_become_a_secret_is_held():
    """What can still be the beginning of a secret waits; what cannot goes on at once."""
    redactor = Redactor(Masks([b"hunter2", b"hunter2hunter2"]))
    assert redactor.feed(STDOUT, b"Password: hun") == b"Password: "
    assert redactor.feed(STDOUT, b"ger\n") == b"hunger\n"
    assert redactor.feed(STDOUT, b"hunter2") == b""
    assert redactor.feed(STDOUT, b".") == b"***."
    assert redactor.feed(STDOUT, b":") == b":"
    assert redactor.feed(STDOUT, b"\n:") == b"\n"
    assert redactor.feed(STDOUT, b":x hunter2hunter2") == b"::x ***"
    assert redactor.feed(STDOUT, b"hunter2") == b""
    assert redactor.flush(STDOUT) == b""


def test_without_anything_to_mask_output_passes_as_it_is():
    """What is read is handed on, the same object, though it may hold a command that begins no line."""
    redactor = Redactor(Masks())
    data = bytes(range(256)) * 4 + b"see ::add-mask::value\n"
    assert redactor.feed(STDOUT, data) is data
    assert redactor.flush(STDOUT) == b""


@pytest.mark.parametrize(
    ("pattern", "line", "out"),
    [
        (r"sk-[A-Za-z0-9]{8,}", b"key sk-abcdefgh01, sk-short\n", b"key ***, sk-short\n"),
        (r"(?i)token=\S+", b"TOKEN=a token=b\r\n", b"*** ***\r\n"),
        (r"^secret.*$", b"a secret\nsecret of mine\nx\n", b"a secret\n***\nx\n"),
        (r"[^;]*secret[^;]*", b"a\nb secret;\nc\n", b"a\n***;\nc\n"),
        (r"\xff.", b"a\xff\xfeb\n", b"a***b\n"),
        (r"\d+%", b" 1%\r 2%\r 3%", b" ***\r ***\r ***"),
    ],
)
def test_patterns(pattern, line, out):
    """A pattern is matched within a line, over bytes; a carriage return ends a line too."""
    masks = Masks(patterns=[pattern])
    for at in range(len(line)):
        assert fed(Redactor(masks), [line[:at], line[at:]]) == out
    redactor = Redactor(masks)
    assert redactor.feed(STDOUT, line[:-1]) == out[: max(out.rfind(b"\n", 0, -1), out.rfind(b"\r")) + 1]


def test_a_line_without_end_is_not_held_for_ever():
    """A longer line than is held is matched in pieces that overlap, so that shorter matches are found all the same."""
    redactor, piece = Redactor(Masks(patterns=["<a{100,}>"])), b"x" * 1000
    secret = b"<" + b"a" * (OVERLAP - 1000) + b">"
    written, out, held = b"", b"", 0
    for number in range(300):
        data = piece + secret * (number % 7 == 0)
        written += data
        out += redactor.feed(STDOUT, data)
        held = max(held, len(written) - len(out) - (len(secret) - 3) * (number // 7 + 1))
    out += redactor.flush(STDOUT)
    assert out == written.replace(secret, MASK)
    assert held <= LINE + 2 * len(secret)


def test_no_pattern_holds_up_a_job():
    """Patterns that others' engines need centuries for take time in proportion to the output."""
    redactor = Redactor(Masks(patterns=["(a+)+$", "(a|aa)+b", "(.*)(.*)(.*)x"]))
    began = time.process_time()
    fed(redactor, [b"a" * 4000 + b"\n"] * 50)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("abc", "a mask of fewer than 4 bytes is not applied"),
        ("  ", None),
        ("", None),
        ("x" * (MOST_BYTES + 1), f"this mask is not applied: a job may register {MOST_VALUES} values of"),
    ],
)
def test_a_value_that_cannot_be_masked(value, told):
    """The log tells once why a value is not masked; in its own line it is hidden all the same."""
    log = Log()
    redactor = Redactor(Masks(), holder=log)
    out, _ = log.run(redactor, [(STDOUT, f"::add-mask::{value}\nx abc\n".encode())] * 2)
    assert out == (b"::add-mask::" + MASK * bool(value) + b"\nx abc\n") * 2
    assert [line[: len(told or "")] for line in log.told] == ([told] if told else [])


def test_so_many_values_and_no_more():
    """A job can make its worker neither keep nor compile without end."""
    log = Log()
    values = [f"value-{number}." for number in range(3 * MOST_VALUES)]
    redactor = Redactor(Masks(), holder=log)
    log.run(redactor, [(STDOUT, "".join(f"::add-mask::{value}\n" for value in values).encode())])
    assert len(redactor.masks.secrets) == MOST_VALUES
    assert len(log.told) == MOST_VALUES


def test_a_value_is_unescaped():
    """Escapes of GitHub's commands are undone: a value may have several lines, each of which is masked too."""
    redactor = Redactor(Masks())
    assert redactor.feed(STDERR, b"::add-mask::line one%0Asecond line%25\r\n") == b"::add-mask::***\r\n"
    assert redactor.feed(STDOUT, b"line one\nsecond line%\nand second line%.\n") == b"***\nand ***.\n"


def test_a_command_without_an_end():
    """Of a value that never ends no byte is shown, nor is it held without end."""
    redactor = Redactor(Masks())
    pieces = [b"a\n::add-mask::", *[b"secret" * 1000] * 100]
    assert b"".join(redactor.feed(STDOUT, piece) for piece in pieces) == b"a\n::add-mask::***"
    assert redactor.feed(STDOUT, b"secret\nb\n") == b"\nb\n"


def test_a_mask_that_comes_late_finds_what_lies_across():
    """Of what was let go already, and what follows it, the secret across the border is masked too."""
    log = Log()
    redactor = Redactor(Masks([b"other"]), holder=log)
    pieces = [(STDOUT, b"a sec"), (STDERR, b"a sec"), (STDOUT, b"ret\n::add-mask::secret\nb\n"), (STDERR, b"ret oth")]
    assert log.run(redactor, pieces) == [b"a ***\n::add-mask::***\nb\n", b"a *** oth"]


def test_where_the_log_is_stays_known():
    """The report always tells how long the log is, what is still held counted as it was written."""
    with reported() as report:
        redactor = Redactor(Masks([b"a\nb\nc", b"secret"]), report)
        out = b""
        for data in (b"x sec", b"ret secret\na\nb", b"\nc\n", b"sec"):
            report.count(data)
            out += redactor.feed(STDOUT, data)
        assert out == b"x *** ***\n***\n"
        assert report.drained == (25, 4)
        assert report.position == (len(out) + 3, out.count(b"\n"))
        assert report.torn == [STDOUT]
        redactor.flush(STDOUT)
        assert report.torn == []
        report.count(b"more")
        assert report.torn == [STDOUT]


def test_who_takes_over_masks_on():
    """A redactor that follows one that was killed hides the rest of a line of which something was held."""
    with reported() as report:
        first = Redactor(Masks([b"secret"]), report)
        report.count(b"::add-mask::value\nsec")
        assert first.feed(STDERR, b"::add-mask::value\nsec") == b"::add-mask::***\n"

        second = Redactor(Masks([b"secret"]), report, taking_over=True)
        assert second.feed(STDOUT, b"ret value\n") == b"ret ***\n"
        assert second.feed(STDERR, b"") == b""
        assert second.feed(STDERR, b"re") == MASK
        assert second.feed(STDERR, b"t value") == b""
        assert second.feed(STDERR, b"\nsecret value\n") == b"\n*** ***\n"


def test_a_text_that_was_cut_off():
    """Texts of Tailer's own records are masked too, also where one was cut off in the middle of a secret."""
    masks = Masks([b"secret"])
    assert masks.mask_text("my secret, sec") == "my ***, sec"
    assert masks.mask_text("my secret, sec", 14) == "my ***, ***"
    assert Masks().mask_text("my secret") == "my secret"


def test_blotting_keeps_lengths_and_lines():
    """What has its place in the log already is hidden byte for byte."""
    masks = Masks([b"a\nbcd", b"secret"], ["x+y"])
    assert masks.blot(b"a\nbcd secret xxy\xff") == b"*\n*** ****** ***\xff"


def test_the_settings_name_what_is_masked():
    """Names stand for the variables' values, `=` begins a literal and slashes are around a pattern."""
    environ = {"TAILER_REDACT": "TOKEN =a=b/c\n/x{2,}/  /=", "TOKEN": "zu gang\n"}
    with pytest.raises(SettingsError, match="entry 4 is neither"):
        Masks.of(Settings.from_env(environ).redact)
    environ["TAILER_REDACT"] = environ["TAILER_REDACT"].removesuffix("/=")
    redact = Settings.from_env(environ).redact
    assert redact == Redact(values=("zu gang\n", "a=b/c"), patterns=("x{2,}",))
    assert "gang" not in repr(Settings.from_env(environ))
    assert Masks.of(redact).mask(b"a=b/c xxx zu gang, zu%20gang") == b"*** *** ***, ***"


@pytest.mark.parametrize(
    "environ",
    [
        {"TAILER_REDACT": "ok =abc"},
        {"TAILER_REDACT": "A", "A": "abc"},
        {"TAILER_REDACT": "A", "A": "abc\n \n"},
        {"TAILER_REDACT": "="},
        {"TAILER_REDACT": "abcdef"},
        {"TAILER_REDACT": "A", "A": ""},
        {"TAILER_REDACT": "/abc(/"},
        {"TAILER_REDACT": "/(?:abc)?/"},
        {"TAILER_REDACT": "/(?=abc)/"},
        {"TAILER_REDACT": "/abc"},
    ],
)
def test_a_bad_entry_is_refused_without_being_told(environ):
    """What cannot be masked is an error that does not repeat it."""
    with pytest.raises(SettingsError) as refused:
        Masks.of(Settings.from_env(environ).redact)
    assert str(refused.value).startswith("TAILER_REDACT='…' cannot be used: ")
    assert "abc" not in str(refused.value)
