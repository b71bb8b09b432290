"""The parameters of a log request: every good and bad value, and the places in a log that they name."""

import re
from datetime import UTC, datetime

import fakeredis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tailer.errors import InvalidParameter, UnknownAttempt
from tailer.follow import Selection
from tailer.formats import Options
from tailer.jobs import JobState
from tailer.query import LOG_PARAMETERS, LogQuery, moment, preferred
from tailer.records import STDERR, STDOUT, Attempt
from tailer.store import Cursor, LogStore, now_ms
from tests.log_model import HOLE, WrittenLog

BOTH = frozenset({STDOUT, STDERR})
WHEN = 1_795_426_200_000  # 2026-11-23T09:30:00Z


@pytest.fixture
def store():
    """A store in memory."""
    with fakeredis.FakeRedis(server=fakeredis.FakeServer()) as connection:
        yield LogStore(connection)


def parse(accept="", last_event_id=None, **args):
    """Read a query."""
    return LogQuery.parse(args, accept=accept, last_event_id=last_event_id)


# Good values.


def test_a_bare_request_follows_all_of_a_log_as_text():
    """Without parameters: from the beginning, both streams, as they are, until the job is over."""
    assert parse() == LogQuery(
        format="text",
        options=Options(streams=BOTH, timestamps=False, strip=False, heartbeat=False, records=""),
        wait=True,
        tail=None,
        since=None,
        until=None,
        offset=None,
        lines=None,
        attempt=None,
        saw_end=False,
    )


@pytest.mark.parametrize(
    ("args", "field", "expected"),
    [
        ({"follow": "0"}, "wait", False),
        ({"follow": "true"}, "wait", True),
        ({"lines": "1-5"}, "wait", False),
        ({"lines": "1-5", "follow": "1"}, "wait", True),
        ({"tail": "10"}, "tail", 10),
        ({"tail": "0"}, "tail", 0),
        ({"tail": "all"}, "tail", None),
        ({"tail": "-1"}, "tail", None),
        ({"tail": "9" * 18}, "tail", 10**18 - 1),
        ({"since": "1795426200"}, "since", WHEN),
        ({"since": "1795426200.5"}, "since", WHEN + 500),
        ({"since": "0"}, "since", 0),
        ({"until": "2026-11-23T09:30:00Z"}, "until", WHEN),
        ({"until": "2026-11-23T09:30:00.250Z"}, "until", WHEN + 250),
        ({"until": "2026-11-23T10:30:00+01:00"}, "until", WHEN),
        ({"until": "2026-11-23T10:30:00 01:00"}, "until", WHEN),
        ({"until": "2026-11-23T04:30:00-05:00"}, "until", WHEN),
        ({"until": "2026-11-23 09:30:00Z"}, "until", WHEN),
        ({"offset": "1:0"}, "offset", Cursor(1, 0)),
        ({"offset": "3:4096"}, "offset", Cursor(3, 4096)),
        ({"lastEventId": "1:7"}, "offset", Cursor(1, 7)),
        ({"lastEventId": "1:7:end"}, "offset", Cursor(1, 7)),
        ({"lastEventId": "1:7:end"}, "saw_end", True),
        ({"lastEventId": "1:7"}, "saw_end", False),
        ({"lastEventId": "", "offset": "1:2"}, "offset", Cursor(1, 2)),
        ({"lastEventId": "1:7", "offset": "1:2"}, "offset", Cursor(1, 7)),
        ({"lines": "3"}, "lines", (3, 3)),
        ({"lines": "3-"}, "lines", (3, None)),
        ({"lines": "3-3"}, "lines", (3, 3)),
        ({"lines": "10-200"}, "lines", (10, 200)),
        ({"attempt": "1"}, "attempt", 1),
        ({"attempt": "999999999"}, "attempt", 999_999_999),
        ({"format": "text"}, "format", "text"),
        ({"format": "sse"}, "format", "sse"),
        ({"format": "ndjson"}, "format", "ndjson"),
    ],
)
def test_a_good_value_is_taken(args, field, expected):
    """Each parameter means what its name says."""
    assert getattr(LogQuery.parse(args), field) == expected


@pytest.mark.parametrize(
    ("args", "streams"),
    [
        ({"stdout": "1"}, {STDOUT}),
        ({"stderr": "1"}, {STDERR}),
        ({"stdout": "0"}, {STDERR}),
        ({"stderr": "0"}, {STDOUT}),
        ({"stdout": "1", "stderr": "1"}, BOTH),
        ({"stdout": "1", "stderr": "0"}, {STDOUT}),
        ({"stdout": "0", "stderr": "1"}, {STDERR}),
    ],
)
def test_naming_one_stream_leaves_the_other_out(args, streams):
    """As docker has it: both unless one is named."""
    assert LogQuery.parse(args).options.streams == streams


@pytest.mark.parametrize(
    ("name", "value", "option", "expected"),
    [
        ("timestamps", "1", "timestamps", True),
        ("timestamps", "0", "timestamps", False),
        ("ansi", "strip", "strip", True),
        ("ansi", "keep", "strip", False),
        ("heartbeat", "yes", "heartbeat", True),
        ("json", "1", "records", "lines"),
        ("json", "0", "records", ""),
        ("json", "chunks", "records", "chunks"),
    ],
)
def test_options_of_the_formats(name, value, option, expected):
    """How a log is shown."""
    assert getattr(LogQuery.parse({name: value}).options, option) is expected


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [("0s", 0), ("10m", 600), ("1h30m", 5400), ("2d", 172_800), ("1d1h1m1s", 90_061), ("90s", 90)],
)
def test_a_duration_is_before_now(duration, seconds):
    """`since=10m` is ten minutes ago."""
    before = now_ms()
    at = moment(duration)
    assert before <= at + seconds * 1000 <= now_ms()


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "text"),
        ("*/*", "text"),
        ("text/event-stream", "sse"),
        ("application/x-ndjson", "ndjson"),
        ("text/html, text/plain;q=0.9, text/event-stream", "text"),
        ("application/json, text/event-stream;q=0.5", "sse"),
        ("TEXT/Event-Stream ; charset=utf-8", "sse"),
        (",;,", "text"),
    ],
)
def test_the_accept_header_chooses_a_format(accept, expected):
    """The first one that there is; text if there is none. `format=` goes before it."""
    assert preferred(accept) == expected
    assert parse(accept).format == expected
    assert parse(accept, format="ndjson").format == "ndjson"


def test_a_browsers_reconnect_goes_before_the_url_it_repeats():
    """An EventSource comes back to the URL it was given, with the id of what it saw last: that one counts."""
    for args in ({"offset": "1:2"}, {"tail": "5"}, {"lines": "2-"}, {"since": "10m"}, {}):
        query = LogQuery.parse(args, last_event_id="1:7")
        assert (query.offset, query.since, query.saw_end) == (Cursor(1, 7), None, False)
    assert parse(last_event_id="1:7:end").saw_end
    assert parse(last_event_id="").offset is None
    # Where the header cannot be set, the parameter of that name is asked for it.
    assert parse(last_event_id="1:7", lastEventId="1:9").offset == Cursor(1, 9)


# Bad values.

TIMES = "use a time such as 2026-11-23T09:30:00Z, unix seconds, or a duration such as 10m or 1h30m"
BAD = [
    *[(name, "maybe", "use 1 or 0") for name in ("follow", "stdout", "stderr", "timestamps", "heartbeat")],
    *[("json", value, "use 1, 0 or chunks") for value in ("maybe", "")],
    *[(name, "", "use 1 or 0") for name in ("follow", "stdout", "stderr", "timestamps", "heartbeat")],
    *[("tail", value, "use a number of lines, or all") for value in ("", "-2", "ten", "1.5", "1_0", "٣", "9" * 19)],
    *[
        (name, value, TIMES)
        for name in ("since", "until")
        for value in (
            "",
            "yesterday",
            "10",
            "10x",
            "m",
            "-10m",
            "1m1h",
            "1e9",
            "2026-11-23T09:30:00",
            "2026-11-23",
            "2026-13-23T09:30:00Z",
            "nan",
            "inf",
            "9" * 12,
            "9999999999d",
        )
        if value != "10"
    ],
    *[
        ("offset", value, "use ATTEMPT:OFFSET, such as 1:0")
        for value in ("", "1", "0:0", "1:-1", "1:", ":1", "1:0:end", "01:0", "1:0 ", "1:0\n", "1:" + "9" * 16, "٣:٣")
    ],
    *[("lastEventId", value, "use ATTEMPT:OFFSET, such as 1:0") for value in ("x", "1:0:END", "0:0", ":end")],
    *[("lines", value, "use A-B, A- or A, with lines counted from 1") for value in ("", "0", "-5", "a", "1-0", "1,2")],
    ("lines", "5-4", "use A-B with B not before A"),
    *[("attempt", value, "use a whole number from 1") for value in ("", "0", "-1", "x", "1.0", "9999999999")],
    *[("ansi", value, "use one of keep, strip") for value in ("", "Strip", "yes")],
    *[("format", value, "use one of text, sse, ndjson") for value in ("", "json", "TEXT", "html")],
    ("grep", "(", "missing ): ("),
    *[(name, "1", "only together with grep") for name in ("fixed", "ignorecase", "word", "context", "limit")],
]


@pytest.mark.parametrize(("name", "value", "allowed"), BAD)
def test_a_bad_value_is_refused_with_what_is_allowed(name, value, allowed):
    """The error has the parameter's name, its value and what it takes, as fields and in its one line."""
    with pytest.raises(InvalidParameter) as refused:
        LogQuery.parse({name: value})
    error = refused.value
    assert (error.parameter, error.value, error.allowed, error.status) == (name, value, allowed, 400)
    assert str(error) == f"{name}={value!r} cannot be used: {allowed}"


def test_every_parameter_has_bad_values_here():
    """No parameter was left out of the table above."""
    assert {name for name, _, _ in BAD} == LOG_PARAMETERS


def test_an_unknown_parameter_is_refused_with_those_there_are():
    """A misspelt parameter is told, because a log that looks filtered and is not would mislead."""
    with pytest.raises(InvalidParameter, match=r"^tial='5' cannot be used: the parameters are ansi, attempt, context"):
        parse(tial="5")
    with pytest.raises(InvalidParameter) as refused:
        LogQuery.parse({"x" * 500: "y" * 500})
    assert len(str(refused.value)) < 500


def test_a_bad_header_is_refused_by_its_name():
    """A client that sends a broken Last-Event-ID is told so."""
    with pytest.raises(InvalidParameter, match=r"^Last-Event-ID='x' cannot be used: use ATTEMPT:OFFSET"):
        parse(last_event_id="x")


def test_long_values_are_cut_in_the_answer():
    """A megabyte of parameter does not come back as a megabyte of error."""
    with pytest.raises(InvalidParameter) as refused:
        parse(tail="x" * 10**6)
    assert refused.value.value == "x" * 200


@pytest.mark.parametrize(
    ("args", "name", "allowed"),
    [
        ({"stdout": "0", "stderr": "0"}, "stderr", "at least one of stdout and stderr must be 1"),
        ({"lines": "1-5", "offset": "1:0"}, "lines", "not together with offset"),
    ],
)
def test_parameters_that_contradict_each_other(args, name, allowed):
    """Nothing is guessed where two parameters cannot both be meant."""
    with pytest.raises(InvalidParameter) as refused:
        LogQuery.parse(args)
    assert (refused.value.parameter, refused.value.allowed) == (name, allowed)


values = st.text(max_size=12) | st.sampled_from(
    ["1", "0", "all", "-1", "10m", "1:0", "1:5", "2:3", "9:9", "1-5", "3-", "7", "strip", "sse", "1:5:end", str(WHEN)]
)
queries = st.dictionaries(st.sampled_from(sorted(LOG_PARAMETERS)) | st.text(max_size=5), values, max_size=5)
headers = st.none() | values


@given(queries, headers, st.text(max_size=30))
def test_any_strings_are_a_query_or_refused(args, header, accept):
    """Whatever comes in is understood or refused by name; no other error comes of it."""
    query = refused = None
    try:
        query = LogQuery.parse(args, accept=accept, last_event_id=header)
    except InvalidParameter as error:
        refused = error
    if refused:
        assert refused.parameter in args or refused.parameter in {"Last-Event-ID", "stderr"}
        assert refused.allowed
        return
    assert query.format in {"text", "sse", "ndjson"}
    assert query.options.streams in ({STDOUT}, {STDERR}, BOTH)
    assert query.tail is None or query.tail >= 0
    assert query.attempt is None or query.attempt >= 1
    assert query.lines is None or 1 <= query.lines[0] <= (query.lines[1] or query.lines[0])
    assert query.offset is None or (query.offset.attempt >= 1 and query.offset.offset >= 0)
    # What is written into a Lua script's argument or compared with times must be a number it can hold.
    assert all(abs(at) < 2**63 for at in (query.since, query.until) if at is not None)


@given(st.datetimes(datetime(1971, 1, 1), datetime(9999, 1, 1)), st.sampled_from(["Z", "+00:00", "+01:00", "-05:30"]))  # noqa: DTZ001 -- the zone is put behind it
def test_any_rfc_3339_time_is_that_time(naive, zone):
    """With any offset, to the millisecond."""
    written = naive.isoformat() + zone
    expected = datetime.fromisoformat(written).astimezone(UTC).timestamp() * 1000
    assert abs(moment(written) - expected) <= 1


# Places in a log.


@pytest.fixture
def log(store):
    """The log of job "job": attempt 1 has 3 lines and ended, attempt 2 has 2 and goes on."""
    first = WrittenLog([(STDOUT, b"one\n", 0), (STDERR, b"two\n", 10), (STDOUT, b"three\n", 10)], began=1000)
    second = WrittenLog([(STDOUT, b"four\n", 0), (STDOUT, b"five", 10)], began=2000)
    first.store(store, "job", execution="e1", end=True)
    second.store(store, "job", execution="e2", end=False)
    return store.summary("job")


def select(store, summary, last_event_id=None, **args):
    """What a query means for the log."""
    return parse(last_event_id=last_event_id, **args).select(store, JobState("job"), summary)


@pytest.mark.parametrize(
    ("args", "start"),
    [
        ({}, "1:0"),
        ({"tail": "all"}, "1:0"),
        ({"tail": "1"}, "2:5"),
        ({"tail": "2"}, "2:0"),
        ({"tail": "3"}, "1:8"),
        ({"tail": "99"}, "1:0"),
        ({"tail": "0"}, "2:9"),
        ({"tail": "1", "attempt": "1"}, "1:8"),
        ({"attempt": "2"}, "2:0"),
        ({"since": "1.005"}, "1:4"),
        ({"since": "1.5"}, "2:0"),
        ({"since": "5"}, "2:9"),
        ({"since": "5", "attempt": "1"}, "1:14"),
        ({"since": "1.005", "tail": "99"}, "1:4"),
        ({"since": "1.005", "tail": "1"}, "2:5"),
        ({"offset": "1:5"}, "1:5"),
        ({"offset": "1:14"}, "1:14"),
        ({"offset": "2:100"}, "2:100"),
        ({"offset": "3:0"}, "3:0"),
        ({"offset": "1:5", "attempt": "2"}, "2:0"),
        ({"offset": "2:5", "attempt": "1"}, "1:14"),
        ({"offset": "1:5", "tail": "1"}, "1:5"),
        ({"offset": "1:5", "since": "1.5"}, "2:0"),
        ({"lines": "1"}, "2:0"),
        ({"lines": "2-"}, "2:5"),
        ({"lines": "2-3", "attempt": "1"}, "1:4"),
        ({"lines": "99", "attempt": "1"}, "1:14"),
    ],
)
def test_a_query_begins_where_it_says(store, log, args, start):
    """Each parameter, and those together that may be, lead to one place in the log."""
    assert str(select(store, log, **args).start) == start


def test_a_query_tells_what_else_is_wanted(store, log):
    """The attempt, the last line, the time and the waiting are part of the selection."""
    assert select(store, log) == Selection(job_id="job", start=Cursor(1, 0))
    assert select(store, log, attempt="1", follow="0", until="3") == Selection(
        job_id="job", start=Cursor(1, 0), wait=False, only=1, until=3000
    )
    wanted = select(store, log, lines="1-2")
    assert (wanted.only, wanted.last_line, wanted.wait) == (2, 2, False)
    assert select(store, log, lines="2-").last_line is None


def test_a_reconnect_with_lines_goes_on_behind_what_was_seen(store, log):
    """Of a range of lines that is followed, what was seen is not sent again."""
    assert select(store, log, last_event_id="2:7", lines="1-").start == Cursor(2, 7)
    assert select(store, log, last_event_id="2:0", lines="2-").start == Cursor(2, 5)


def test_before_there_is_a_log_every_query_waits_at_its_beginning(store):
    """A job that has not begun has no places yet; an attempt of it cannot be asked for."""
    for args in ({}, {"tail": "5"}, {"since": "10m"}, {"offset": "1:5"}, {"lines": "3-"}):
        assert select(store, None, **args).start == Cursor(1, 0)
    with pytest.raises(UnknownAttempt, match="job 'job' has no attempt 1: it has 0"):
        select(store, None, attempt="1")


def test_places_that_cannot_be(store, log):
    """An attempt that is not there, and a cursor behind the end of one that is over, are refused."""
    with pytest.raises(UnknownAttempt, match="job 'job' has no attempt 3: it has 2"):
        select(store, log, attempt="3")
    with pytest.raises(InvalidParameter, match="offset='1:15' cannot be used: attempt 1 ends at byte 14"):
        select(store, log, offset="1:15")
    store.end("job", WrittenLog([(STDOUT, b"four\n", 0), (STDOUT, b"five", 0)]).end_record(2))
    with pytest.raises(InvalidParameter, match="offset='3:0' cannot be used: the log's attempts are 1 to 2"):
        select(store, store.summary("job"), offset="3:0")


def test_a_log_whose_first_attempts_are_gone_begins_with_the_first_there_is(store):
    """After a loss a log may begin with a later attempt."""
    store.start("job", Attempt(1000, 3, "e3"))
    assert select(store, store.summary("job")).start == Cursor(3, 0)
    with pytest.raises(InvalidParameter, match="offset='1:0' cannot be used"):
        select(store, store.summary("job"), offset="1:0")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(args=queries, header=headers)
def test_any_query_of_a_log_is_a_place_in_it_or_refused(store, log, args, header):
    """Whatever is asked of a log with two attempts and a hole gives a place or an error for the client."""
    if store.summary("holed") is None:
        WrittenLog([(STDOUT, b"a\nb", 0), (HOLE, b"c\nd", 1), (STDERR, b"\ne\n", 1)]).store(store, "holed", end=True)
    for job_id in ("job", "holed"):
        summary = store.summary(job_id)
        try:
            selection = LogQuery.parse(args, last_event_id=header).select(store, JobState(job_id), summary)
        except (InvalidParameter, UnknownAttempt):
            continue
        assert selection.start.attempt >= 1
        assert selection.only is None or selection.start.attempt == selection.only
        assert re.fullmatch(r"[1-9][0-9]*:[0-9]+", str(selection.start))
