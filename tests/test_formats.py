"""The formats: what a client gets for each thing that can be told, and that nothing is lost on the way."""

import base64
import itertools
import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tailer.channel import Beat
from tailer.follow import Final
from tailer.formats import ENCODERS, NDJSON, RETRY_MS, SSE, Options, Stripper, Text, rfc3339, sentence, state_of
from tailer.jobs import JobState
from tailer.records import STDERR, STDOUT, Attempt, Chunk, End, Hole
from tailer.store import Cursor

TIME = 1_795_426_200_007
STAMP = "2026-11-23T09:30:00.007Z"
ATTEMPT = Attempt(TIME, 1, "e1", "w1", "q1", "f()", "separate")
FINISHED = End(
    outcome="finished", attempt=1, final=True, status="finished", exit=0, duration=3.21, ended_at=TIME / 1000
)
KILLED = End(outcome="killed", attempt=1, final=True, signal=9, duration=3.21, reason="out of memory (1.9 GiB)")
STATE = JobState("job", "queued", "q1", 3, "f()", TIME, TIME, expires_at=TIME)


def chunks_of(*parts):
    """Chunks of these bytes, or pairs of stream and bytes, one behind the other."""
    made, at, line, midline = [], 0, 1, False
    for part in parts:
        stream, data = part if isinstance(part, tuple) else (STDOUT, part)
        made.append(Chunk(stream, TIME, at, line, data.count(b"\n"), midline, data))
        at, line, midline = made[-1].end, line + data.count(b"\n"), not data.endswith(b"\n")
    return made


def hole(at, length=5, line=1, lines=1):
    """A hole."""
    return Hole(TIME, at, line, lines, False, length, "a test")


def encoded(encoder, *events):
    """A whole body. Each event is at the place behind it, as the follower tells it."""
    body, cursor = encoder.begin(), Cursor()
    for event in events:
        cursor = Cursor(1, event.end) if isinstance(event, Chunk | Hole) else cursor
        body += encoder.encode(event, cursor)
    return body


def lines_of(body):
    """The objects of an NDJSON body."""
    return [json.loads(line) for line in body.decode("ascii").splitlines()]


class EventStream:
    """Reads an event stream as WHATWG HTML, section 9.2.6 ("Interpreting an event stream"), says."""

    def __init__(self, body: bytes) -> None:
        self.messages = []  # (event name, data, last event id)
        self.retry = None
        self.last_id = ""
        name, data = "", ""
        for line in re.split("\r\n|\n|\r", body.decode(errors="replace").removeprefix("\ufeff")):
            if line == "":
                if data:
                    self.messages.append((name or "message", data.removesuffix("\n"), self.last_id))
                name, data = "", ""
                continue
            field, colon, value = line.partition(":")
            if colon and not field:
                continue
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "data":
                data += value + "\n"
            elif field == "id" and "\0" not in value:
                self.last_id = value
            elif field == "retry" and value.isascii() and value.isdigit():
                self.retry = int(value)

    @property
    def text(self):
        """All of what `onmessage` gets."""
        return "".join(data for name, data, _ in self.messages if name == "message")

    def named(self, name):
        """What listeners of this event get, read as JSON."""
        return [json.loads(data) for event, data, _ in self.messages if event == name]


# Text with much of what could trip an encoder, cut anywhere, and bytes of any kind.
words = [
    "\n",
    "\r",
    "\r\n",
    " ",
    ":",
    "data: x",
    "é",
    "€",
    "😀",
    "\0",
    "\u2028",
    "\x85",
    "a",
    "id: 7",
    "\ufeff",
    "\x1b[1m",
]
text = st.lists(st.sampled_from(words), max_size=30).map("".join)
anything = st.lists(st.sampled_from([*(word.encode() for word in words), b"\xff", b"\xc3", b"\x80"])).map(b"".join)
streams = st.sampled_from([STDOUT, STDERR])


@st.composite
def cut(draw, whole):
    """Chunks, of either stream, of what is drawn from `whole`, and all of it as bytes."""
    data = draw(whole)
    data = data.encode() if isinstance(data, str) else data
    places = sorted({0, len(data), *draw(st.lists(st.integers(0, len(data)), max_size=8))})
    parts = [data[start:stop] for start, stop in itertools.pairwise(places)]
    return chunks_of(*[(draw(streams), part) for part in parts]), data


# Text.


def test_text_is_the_bytes_and_nothing_else():
    """A job that ends well adds nothing to its output, nor do its attempts, states and quiet times."""
    events = [STATE, ATTEMPT, *chunks_of(b"a\r\n\0\xff", (STDERR, b"b")), Beat(), FINISHED, Final(FINISHED)]
    assert encoded(Text(Options()), *events) == b"a\r\n\0\xffb"


@given(cut(anything))
def test_text_of_any_chunks_is_what_was_written(cut_log):
    """However a log is cut into chunks and streams, as text it is its bytes."""
    chunks, data = cut_log
    assert encoded(Text(Options()), *chunks) == data


@given(cut(anything))
def test_one_stream_alone_is_what_was_written_to_it(cut_log):
    """With one stream left out, the other one's bytes remain, in every format."""
    chunks, _ = cut_log
    for stream in (STDOUT, STDERR):
        wanted = Options(streams=frozenset({stream}))
        expected = b"".join(chunk.data for chunk in chunks if chunk.stream == stream)
        assert encoded(Text(wanted), *chunks) == expected
        assert output(lines_of(encoded(NDJSON(wanted), *chunks))) == expected


@pytest.mark.parametrize(
    ("events", "body"),
    [
        ([Final(KILLED)], "[tailer] killed by signal 9 (SIGKILL) after 3.2 s: out of memory (1.9 GiB)\n"),
        ([*chunks_of(b"a\n"), Final(KILLED)], "a\n[tailer] killed by signal 9 (SIGKILL) after 3.2 s: out of memory"),
        ([*chunks_of(b"prompt> "), Final(KILLED)], "prompt> \n[tailer] killed by"),
        ([hole(0)], "[tailer] 5 bytes are missing here: a test\n"),
        ([*chunks_of(b"ab"), hole(2)], "ab\n[tailer] 5 bytes are missing here: a test\n"),
        ([*chunks_of(b"ab"), hole(2), hole(7), Final(FINISHED)], "ab\n[tailer] 5 bytes are missing here: a test\n[t"),
        ([FINISHED, KILLED], ""),
    ],
)
def test_text_tells_holes_and_bad_ends_on_lines_of_their_own(events, body):
    """What Tailer adds begins on a new line, with its name in front, and is one line."""
    found = encoded(Text(Options()), *events).decode()
    assert found.startswith(body)
    assert found.endswith("\n") == bool(found)


def test_text_beats_only_if_asked_to():
    """A heartbeat is a NUL, which terminals ignore, and comes with `heartbeat=1` only."""
    assert encoded(Text(Options()), Beat()) == b""
    assert encoded(Text(Options(heartbeat=True)), *chunks_of(b"a"), Beat(), Beat()) == b"a\0\0"


@pytest.mark.parametrize(
    ("parts", "body"),
    [
        ([b"a\nb\n"], "STAMP a\nSTAMP b\n"),
        ([b"a\n\nb"], "STAMP a\nSTAMP \nSTAMP b"),
        ([b"a", b"b\nc", b"\n"], "STAMP ab\nSTAMP c\n"),
        ([b"\n", b"\n"], "STAMP \nSTAMP \n"),
        ([b"half ", (STDERR, b"error\n"), b"line\n"], "STAMP half error\nSTAMP line\n"),
        ([b"10%\r20%\r"], "STAMP 10%\r20%\r"),
    ],
)
def test_timestamps_stand_before_each_line(parts, body):
    """Each line begins with the time at which it was read, once, also if it comes in pieces."""
    assert encoded(Text(Options(timestamps=True)), *chunks_of(*parts)).decode() == body.replace("STAMP", STAMP)


@given(cut(text))
def test_without_its_timestamps_the_text_is_what_it_was(cut_log):
    """Taking away what was put before each line leaves the log."""
    chunks, data = cut_log
    body = encoded(Text(Options(timestamps=True)), *chunks)
    lines = body.split(b"\n")
    assert all(line.startswith(STAMP.encode()) for line in lines[:-1] + lines[-1:] * bool(lines[-1]))
    assert b"\n".join(line.removeprefix(STAMP.encode() + b" ") for line in lines) == data


# NDJSON.


def output(records):
    """The bytes that records stand for: what the protocol says to do with `text`, `partial` and `base64`."""
    data = b""
    for record in records:
        raw = base64.b64decode(record["base64"]) if "base64" in record else record["text"].encode()
        data += raw if record.get("partial") else raw + b"\n"
    return data


@given(cut(anything))
@example((chunks_of("�".encode(), b"\xef\xbf\xbd\xff\n"), "�".encode() + b"\xef\xbf\xbd\xff\n"))
def test_ndjson_holds_every_byte(cut_log):
    """From the records of any bytes in any chunks, the bytes can be had again; each is at its place, in its line."""
    chunks, data = cut_log
    records = lines_of(encoded(NDJSON(Options()), *chunks))

    assert output(records) == data
    at = 0
    for number, record in enumerate(records):
        start, at = at, int(record["cursor"].removeprefix("1:"))
        assert record["line"] == 1 + data.count(b"\n", 0, start)
        assert output(records[: number + 1]) == data[:at]
        assert "\n" not in record["text"]
        assert record["time"] == STAMP


def test_ndjson_records_say_what_they_are():
    """A record a line of output, with its fields in order; text that is no UTF-8 comes in base64 too."""
    body = encoded(NDJSON(Options()), *chunks_of(b'"a"\nb', (STDERR, "é\n".encode()), b"\xff\n", "�".encode()))
    assert body.isascii()
    assert [json.loads(line) for line in body.splitlines()] == [
        {"cursor": "1:4", "time": STAMP, "stream": STDOUT, "line": 1, "text": '"a"'},
        {"cursor": "1:5", "time": STAMP, "stream": STDOUT, "line": 2, "text": "b", "partial": True},
        {"cursor": "1:8", "time": STAMP, "stream": STDERR, "line": 2, "text": "é"},
        {"cursor": "1:10", "time": STAMP, "stream": STDOUT, "line": 3, "text": "�", "base64": "/w=="},
        {"cursor": "1:13", "time": STAMP, "stream": STDOUT, "line": 4, "text": "�", "partial": True},
    ]
    assert body.splitlines()[0].startswith(b'{"cursor":"1:4","time":')


def test_ndjson_tells_the_rest_too():
    """Holes and the last end are records, quiet is a blank line, and of attempts and states nothing is said."""
    body = encoded(NDJSON(Options()), STATE, ATTEMPT, hole(0, line=1), Beat(), FINISHED, Final(KILLED))
    first, blank, last = body.decode().splitlines()
    assert json.loads(first) == {"cursor": "1:5", "time": STAMP, "line": 1, "lines": 1, "missing": 5, "cause": "a test"}
    assert blank == ""
    assert json.loads(last) == {"cursor": "1:5", **KILLED.as_dict()}


# Server-sent events.


@given(cut(text))
@example((chunks_of(b"a\r", b"\nb"), b"a\r\nb"))
@example((chunks_of(b"\xe2", b"\x82", b"\xac"), "€".encode()))
@example((chunks_of(b"10%\r", (STDERR, b"\xc3"), b"\xa9\r"), "10%\ré\r".encode()))
def test_plain_events_hold_the_text(cut_log):
    """What an EventSource's `onmessage` gets, put together, is the text, with LF for each kind of line end."""
    chunks, data = cut_log
    stream = EventStream(encoded(SSE(Options()), *chunks, FINISHED, Final(FINISHED)))
    assert stream.text == data.decode().replace("\r\n", "\n").replace("\r", "\n")


@given(cut(anything))
def test_plain_events_of_any_bytes_are_shown_as_text_is(cut_log):
    """Bytes that are no UTF-8 become U+FFFD as in any decoder, however the log was cut."""
    chunks, data = cut_log
    stream = EventStream(encoded(SSE(Options()), *chunks, Final(FINISHED)))
    assert stream.text == data.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")


@given(cut(text), st.data())
def test_a_reconnect_from_any_event_goes_on_without_loss_or_double(cut_log, data):
    """From the id of any event, the rest of the log gives the rest of the text."""
    chunks, written = cut_log
    body = encoded(SSE(Options()), *chunks, Final(FINISHED))
    shown = EventStream(body)
    outputs = [(words, at) for name, words, at in shown.messages if name == "message"]
    if not outputs:
        return
    seen = data.draw(st.integers(1, len(outputs)))
    at = int(outputs[seen - 1][1].removeprefix("1:"))
    rest = [chunk.part(at, chunk.end) for chunk in chunks if chunk.end > at]

    again = EventStream(encoded(SSE(Options()), *rest, Final(FINISHED)))

    whole = written.decode().replace("\r\n", "\n").replace("\r", "\n")
    assert "".join(words for words, _ in outputs[:seen]) + again.text == whole


@given(cut(anything))
def test_records_in_events_hold_every_byte(cut_log):
    """With `json=1` each event is a record as in NDJSON, and its id is the record's cursor."""
    chunks, data = cut_log
    stream = EventStream(encoded(SSE(Options(records="lines")), *chunks))
    records = stream.named("message")
    assert output(records) == data
    assert [at for _, _, at in stream.messages] == [record["cursor"] for record in records]
    assert records == lines_of(encoded(NDJSON(Options()), *chunks))


@pytest.mark.parametrize("records", ["", "lines", "chunks"])
def test_named_events_tell_the_rest(records):
    """Attempts, states, holes, quiet and the end come as named events with JSON, the end with an id of its own."""
    events = [STATE, ATTEMPT, *chunks_of(b"a\n"), hole(2, line=2), Beat(), FINISHED, Final(KILLED)]
    stream = EventStream(encoded(SSE(Options(records=records)), *events))

    assert stream.retry == RETRY_MS
    assert [name for name, _, _ in stream.messages] == ["status", "attempt", "message", "hole", "ping", "end"]
    (status,), (attempt,), (missing,), (ping,), (end,) = map(stream.named, ["status", "attempt", "hole", "ping", "end"])
    assert status == state_of(STATE)
    assert (attempt["attempt"], attempt["worker"], attempt["capture"]) == (1, "w1", "separate")
    assert (missing["missing"], missing["cause"], missing["cursor"]) == (5, "a test", "1:7")
    assert ping == {"cursor": "1:7"}
    assert end == KILLED.as_dict()
    assert [at for _, _, at in stream.messages] == ["", "", "1:2", "1:7", "1:7", "1:7:end"]


def test_what_was_held_back_comes_before_what_follows_it():
    """The start of a character that never ends is shown before a hole, another attempt or the end."""
    for event in (hole(3), Attempt(TIME, 2, "e2"), FINISHED, Final(FINISHED)):
        stream = EventStream(encoded(SSE(Options()), *chunks_of(b"a\xe2\x82"), Beat(), event))
        outputs = [(data, at) for name, data, at in stream.messages if name == "message"]
        assert outputs == [("a", "1:1"), ("�", "1:3")]


@given(anything)
def test_output_cannot_make_an_event(data):
    """Nothing that a job prints adds an event, an id or a field of its own."""
    stream = EventStream(encoded(SSE(Options()), *chunks_of(data or b"x"), Final(FINISHED)))
    assert {name for name, _, _ in stream.messages} <= {"message", "end"}
    assert stream.messages[-1][2] == f"1:{len(data or b'x')}:end"


def test_an_error_is_an_event():
    """What goes wrong behind the first byte is told in an event named error."""
    stream = EventStream(SSE.error({"title": "T", "status": 503, "detail": "two\nlines"}))
    assert stream.named("error") == [{"title": "T", "status": 503, "detail": "two\nlines"}]


def test_each_format_has_its_media_type():
    """The names of the formats, and what their bodies are called."""
    assert {name: encoder.content_type for name, encoder in ENCODERS.items()} == {
        "text": "text/plain; charset=utf-8",
        "sse": "text/event-stream; charset=utf-8",
        "ndjson": "application/x-ndjson; charset=utf-8",
    }


# Escape sequences.

ESCAPES = [
    b"\x1b[0m",
    b"\x1b[1;38;5;200m",
    b"\x1b[2K",
    b"\x1b[?25l",
    b"\x1b[>4;2m",
    b"\x1b[!p",
    b"\x1b]0;a title\x07",
    b"\x1b]8;;https://example.org/?a=b;c\x1b\\",
    b"\x1bPq#0;2;0;0;0\x1b\\",
    b"\x1b_application\x1b\\",
    b"\x1b(B",
    b"\x1b#8",
    b"\x1b7",
    b"\x1bM",
    b"\x1bc",
    b"\x1b=",
]


@pytest.mark.parametrize("escape", ESCAPES)
def test_an_escape_sequence_is_taken_out_wherever_it_is_cut(escape):
    """Whole or in two pieces, at every place, nothing of it is left and nothing around it goes."""
    for place in range(len(escape) + 1):
        stripper = Stripper()
        assert stripper.strip(b"[a" + escape[:place]) + stripper.strip(escape[place:] + b"m\n") == b"[am\n"


@pytest.mark.parametrize(
    ("data", "left"),
    [
        (b"", b""),
        (b"no escape [0m ] here\r\n\x07\x08", b"no escape [0m ] here\r\n\x07\x08"),
        ("é😀 \xa0\xc2".encode(), "é😀 \xa0\xc2".encode()),
        ("é\x9b1m😀\x9d0;a title\x9c\x85x\x9b2".encode(), "é😀x".encode()),
        (b"\xc2\x1b[0m\x9b31mx", b"\x9b31mx"),
        (b"\xc2\xc2\x1b\x9b31mx", b"\x9b31mx"),
        (b"\x9b\xc3\x9b", b"\x9b\xc3\x9b"),
        (b"\x1b[1mbold\x1b[0m and \x1b[31mred\x1b[0m", b"bold and red"),
        (b"\x1b[\x1b[0mx", b"[x"),
        (b"\x1b\x1b[0m[31mx", b"[31mx"),
        (b"\x1b]0;never ended\x1b[0m\nnext", b"]0;never ended\nnext"),
        (b"\x1b[12\nx", b"[12\nx"),
        (b"\x1b\xffx", b"\xffx"),
        (b"\x1b\nx", b"\nx"),
    ],
)
def test_what_is_left_of_text_with_escape_sequences(data, left):
    """Well-formed sequences go, also those that begin with a control character of eight bits, as UTF-8 has them.

    Of what only begins like one the ESC goes, and its text stays; nothing new comes of what is left.
    """
    assert Stripper().strip(data) == left


pieces_of_escapes = st.lists(
    st.sampled_from([*ESCAPES, b"\x1b", b"\x1b[", b"\x1b]", b"[", b"]", b"m", b"0", b";", b"\x07", b"\\", b" ", b"\n"])
    | st.sampled_from([b"\xc2", b"\x9b", b"\xc2\x9b", b"\xc2\x9d", b"\xc2\x9c", b"\xc2\xa0"])
    | st.binary(max_size=3),
    max_size=12,
).map(b"".join)


@given(pieces_of_escapes, st.lists(st.integers(0, 200), max_size=6))
def test_stripping_does_not_depend_on_how_a_log_is_cut(data, places):
    """In any pieces the result is that of the whole; no ESC is left, so no terminal is told anything."""
    stops = sorted({min(place, len(data)) for place in places} | {0, len(data)})
    stripper = Stripper()
    found = b"".join(stripper.strip(data[start:stop]) for start, stop in itertools.pairwise(stops))

    whole = Stripper().strip(data)
    assert found == whole
    assert b"\x1b" not in whole
    assert not re.search(rb"\xc2[\x80-\x9f]", whole)
    assert Stripper().strip(whole) == whole


@given(pieces_of_escapes.filter(lambda data: not re.search(rb"\x1b[\]PX^_]|\xc2[\x90\x98\x9d-\x9f]", data)))
def test_all_formats_strip_alike(data):
    """The text of records is the text, stripped; strings that span lines aside."""
    wanted = Options(strip=True)
    chunks = chunks_of(*[bytes([value]) for value in data])
    text = encoded(Text(wanted), *chunks)
    assert output(lines_of(encoded(NDJSON(wanted), *chunks))) == text
    assert output(EventStream(encoded(SSE(Options(strip=True, records="lines")), *chunks)).named("message")) == text
    shown = EventStream(encoded(SSE(wanted), *chunks, Final(FINISHED))).text
    assert shown == text.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")


def test_a_sequence_that_never_ends_hides_nothing_for_long():
    """Behind an OSC without its end, output comes again after 4 KiB, and memory stays small."""
    stripper = Stripper()
    found = b"".join(stripper.strip(b"\x1b]" * (n == 0) + b"a line\n") for n in range(1000))
    assert found.endswith(b"a line\na line\n")
    assert len(found) >= 7000
    assert len(stripper._held) <= 4096


def test_each_stream_is_stripped_by_itself():
    """A sequence that stdout has begun is not ended by what comes on stderr."""
    chunks = chunks_of(b"a\x1b[3", (STDERR, b"1 error "), b"1mb")
    assert encoded(Text(Options(strip=True)), *chunks) == b"a1 error b"


# Words.


@given(st.text())
def test_no_end_has_control_characters_in_its_words(reason):
    """Whatever an exception or a hole's cause says: one line, and nothing in it that a terminal would obey."""
    end = End(outcome="failed", attempt=1, final=True, reason=reason, duration=1.0)
    told = Hole(TIME, 0, 1, 1, False, 5, reason)
    body = encoded(Text(Options()), told, Final(end)).decode()
    assert body.count("\n") == 2
    assert all(line.isprintable() for line in body.splitlines())


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (FINISHED, "finished after 3.2 s"),
        (KILLED, "killed by signal 9 (SIGKILL) after 3.2 s: out of memory (1.9 GiB)"),
        (End(outcome="killed", attempt=1, final=True, signal=64, duration=0), "killed by signal 64 ("),
        (End(outcome="killed", attempt=1, final=True, signal=200), "killed by signal 200 (unknown)"),
        (End(outcome="failed", attempt=1, final=True, reason="ValueError: x", duration=1), "failed after 1.0 s: Val"),
        (End(outcome="timeout", attempt=1, final=True, duration=180.04), "timed out after 180.0 s"),
        (End(outcome="stopped", attempt=1, final=True, signal=9, duration=2), "stopped after 2.0 s"),
        (End(outcome="canceled", attempt=0, final=True, duration=5, reason="canceled before"), "canceled: canceled b"),
        (End(outcome="expired", attempt=0, final=True, duration=5), "expired"),
        (End(outcome="deleted", attempt=0, final=True), "deleted"),
        (End(outcome="lost", attempt=1, final=True, duration=9.96), "lost after 10.0 s"),
    ],
)
def test_an_end_in_words(end, words):
    """One line for a person: what happened, by which signal, after how long, and why."""
    assert sentence(end).startswith(words)
    assert "\n" not in sentence(end)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (TIME, STAMP),
        (999, "1970-01-01T00:00:00.999Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
    ],
)
def test_times_are_in_utc_with_milliseconds(ms, text):
    """RFC 3339, always of the same length, so that it sorts."""
    assert rfc3339(ms) == text


def test_a_jobs_state_as_clients_get_it():
    """RQ's fields by their names, times in RFC 3339, what is not known as null."""
    assert state_of(STATE) == {
        "job_id": "job",
        "status": "queued",
        "queue": "q1",
        "position": 3,
        "description": "f()",
        "created_at": STAMP,
        "enqueued_at": STAMP,
        "started_at": None,
        "ended_at": None,
        "worker": None,
    }
