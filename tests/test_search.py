"""Searching a log: what is found is what a search of its text would find, wherever it is cut, whatever is asked."""

import json
import random
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailer import search as searching
from tailer.channel import Pause
from tailer.errors import InvalidParameter
from tailer.pattern import LONGEST, Pattern
from tailer.query import LogQuery
from tailer.records import STDERR, STDOUT, Chunk, Hole
from tailer.search import Lines, Wanted, search, shown
from tailer.settings import Settings
from tailer.store import Cursor, LogStore, connect
from tailer.web import create_app
from tests.log_model import HOLE, WrittenLog
from tests.stack import curl
from tests.waiting import wait_until
from tests.written import Written

BOTH = frozenset({STDOUT, STDERR})

# What a job writes, cut anywhere. Where a piece is lost, the newlines in it are counted.
TOKENS = ["a", "b", "ab", "é", "漢", "B", " ", "_", "\n", "\n", "\r", "\r\n", "\x1b[31m", "\x1b]0;t\x07", "\x9b1m"]
tokens = st.sampled_from([token.encode() for token in TOKENS]) | st.sampled_from([b"\xff", b"\xc3", b"\0"])
pieces = st.lists(
    st.tuples(
        st.sampled_from([STDOUT] * 6 + [STDERR] * 3 + [HOLE]),
        st.lists(tokens, min_size=1, max_size=12).map(b"".join),
        st.integers(1, 9),
    ),
    max_size=12,
)
# Expressions that mean the same to RE2 and to Python, and how Python writes them.
SAME = {
    **{text: text for text in ("a", "a+b?", "^a", "b$", "^$", "x*", "[^a]", "ab|b", "(?i:B)", r"\s", ".é", "^.+$")},
    **{text: text for text in ("a.*b", r"\x00", "\ufffd", r"\Aa")},
    r"b\z": r"b\Z",
    "(?-m:^)a": "^a",
}


def events(records, attempt=1):
    """What reading the log gives."""
    for record in records:
        yield record, Cursor(attempt, record.end)


def found(records, wanted, streams=BOTH, start=Cursor()):  # noqa: B008
    """What a search tells: lines, holes, and how far it came."""
    told = []
    for item in search(events(records), wanted, streams, start, 0):
        if isinstance(item, Pause):
            continue
        told += item[0].lines if isinstance(item[0], Lines) else [item[0]]
    return told


def written(given, sizes):
    """A log of these pieces, each cut into chunks of so many bytes."""
    log = WrittenLog()
    for stream, data, size in given:
        if stream == HOLE:
            log.write(HOLE, data)
        else:
            for at in range(0, len(data), size + sizes):
                log.write(stream, data[at : at + size + sizes])
    return log


def lines_of(log, streams):
    """The numbers and texts of a log's lines, with None where bytes are missing."""
    entries, line, number = [], b"", None
    for record in log.records:
        if isinstance(record, Hole):
            entries += [(number, line)] if number else []
            entries, line, number = [*entries, None], b"", None
        elif record.stream in streams:
            for at, value in enumerate(record.data):
                number = number or record.line + record.data[:at].count(b"\n")
                if value == 10:
                    entries, line, number = [*entries, (number, line)], b"", None
                else:
                    line += bytes([value])
    return [*entries, (number, line)] if number else entries


def seen(line):
    """A line as a terminal shows it, roughly."""
    line = line.rstrip(b"\r").split(b"\r")[-1]
    line = re.sub(rb"\x1b\[[0-9]*m|\x1b\]0;t\x07|\xc2\x9b[0-9]*m", b"", line)
    return line.replace(b"\x1b", b"").decode(errors="replace")


def grep(entries, expression, context):
    """What grep says of these lines: each with where it matches, and with lines around; runs end at a hole."""
    told, run = [], []
    for entry in [*entries, None]:
        if entry is not None:
            run.append((entry[0], seen(entry[1])))
            continue
        matches = [[match.span() for match in expression.finditer(text)] for _, text in run]
        for at, (number, text) in enumerate(run):
            if any(matches[max(0, at - context) : at + context + 1]):
                spans = [span for span in matches[at] if span[0] < span[1]]
                told.append((number, text, tuple(spans or matches[at][:1])))
        told, run = [*told, None], []
    return told[:-1]


# What is found.


@given(pieces, st.integers(0, 40), st.sampled_from(sorted(SAME)), st.booleans(), st.integers(0, 3), st.booleans())
def test_a_search_finds_what_grep_finds_in_the_text(given, sizes, expression, word, context, only_stdout):
    """The same lines, numbers, places and lines around, wherever chunks are cut, streams mixed or bytes missing."""
    log = written(given, sizes)
    streams = frozenset({STDOUT}) if only_stdout else BOTH
    python = re.compile(rf"(?<!\w)(?:{SAME[expression]})(?!\w)" if word else SAME[expression])
    told = found(log.records, Wanted(pattern=Pattern(expression, word=word), context=context), streams)
    expected = grep(lines_of(log, streams), python, context)
    got = [None if isinstance(one, Hole) else (one.number, one.text, one.spans) for one in told[:-1]]
    if word:
        # Which of several matches with an edge in common counts is nobody's promise.
        got, expected = ([one and (*one[:2], bool(one[2])) for one in ones] for ones in (got, expected))
    assert got == expected
    last = told[-1]
    assert (last.matches, last.bytes) == (sum(bool(one and one[2]) for one in expected), len(log.bytes))
    assert last.missing == sum(record.length for record in log.records if isinstance(record, Hole))


@given(pieces, st.integers(0, 40), st.sampled_from(sorted(SAME)), st.integers(1, 3))
def test_a_search_goes_on_from_where_its_limit_ended_it(given, sizes, expression, limit):
    """Pages of a few matches, each from the cursor of the one before, are the whole search."""
    log = written(given, sizes)
    pattern = Pattern(expression)
    whole = found(log.records, Wanted(pattern=pattern))
    paged, start = [], Cursor()
    while True:
        rest = [
            record if record.offset >= start.offset else record.part(start.offset, record.end)
            for record in log.records
            if record.end > start.offset
        ]
        *lines, progress = found(rest, Wanted(pattern=pattern, limit=limit), start=start)
        paged += lines
        if not progress.more:
            break
        assert progress.matches == limit
        start = progress.cursor
    assert paged == whole[:-1]


def test_text_is_searched_as_it_is_seen():
    """Without escape sequences, behind the last carriage return, with U+FFFD where it is not UTF-8, line by line."""
    written = b"\x1b[1mbold\x1b[0m\n 10%\r 99%\r\n\xff\n\x1b]0;never ended\nlast\r\r"
    assert shown(written) == b"bold\n 99%\n\xef\xbf\xbd\n]0;never ended\nlast"


def chunks_of(data, size=50_000):
    """Bytes as chunks of a log."""
    log = WrittenLog()
    for at in range(0, len(data), size):
        log.add(
            Chunk(
                STDOUT,
                1,
                at,
                data[:at].count(b"\n") + 1,
                data[at : at + size].count(b"\n"),
                at > 0,
                data[at : at + size],
            )
        )
    return log.records


def test_a_line_of_megabytes_is_searched_in_pieces_and_each_match_found_once():
    """Also one across the border of two pieces; what is held of the line is bounded all the while."""
    borders = [searching.LONGEST - 3, 100_000, 400_000]
    line = bytearray(b"-" * 1_000_000)
    for at in borders:
        line[at : at + 6] = b"needle"
    told = found(chunks_of(b"first\n" + bytes(line[6:]) + b"\nlast needle\n"), Wanted(pattern=Pattern("needle")))
    *lines, progress = told
    assert [(one.number, one.partial) for one in lines] == [(2, True)] * 3 + [(3, False)]
    assert all(len(one.text) <= searching.LONGEST for one in lines)
    assert progress.matches == 4


def test_a_bar_of_megabytes_is_one_line():
    """Of what it has overwritten, nothing is kept: only its last state counts."""
    bar = b"".join(b"%d needle\r" % number for number in range(100_000)) + b"done\n"
    told = found(chunks_of(bar + b"needle\n"), Wanted(pattern=Pattern("needle|done")))
    assert [(one.number, one.text) for one in told[:-1]] == [(1, "done"), (2, "needle")]


# What can be asked.


@pytest.mark.parametrize(
    ("args", "parameter", "allowed"),
    [
        ({"grep": "ne("}, "grep", "missing ): ne("),
        ({"grep": "a(?=b)"}, "grep", "invalid perl operator: (?="),
        ({"grep": r"(a)\1"}, "grep", r"invalid escape sequence: \1"),
        ({"grep": "(a{1000}){1000}"}, "grep", "invalid repetition size"),
        ({"grep": r"\pL{900}"}, "grep", "too large"),
        ({"grep": ""}, "grep", "use 1 to 500 characters"),
        ({"grep": "a" * (LONGEST + 1)}, "grep", "use 1 to 500 characters"),
        ({"grep": "a\nb"}, "grep", "none of them a newline"),
        ({"grep": "a)(b", "word": "1"}, "grep", "unexpected ): a)(b"),
        ({"grep": "a", "context": "101"}, "context", "use a whole number from 0 to 100"),
        ({"grep": "a", "limit": "0"}, "limit", "use a whole number from 1 to 1000000"),
        ({"grep": "a", "fixed": "yes please"}, "fixed", "use 1 or 0"),
        ({"grep": "a", "ansi": "keep"}, "ansi", "not together with grep"),
        ({"grep": "a", "json": "chunks"}, "json", "not together with grep"),
        ({"context": "3"}, "context", "only together with grep"),
        ({"ignorecase": "1"}, "ignorecase", "only together with grep"),
    ],
)
def test_what_cannot_be_searched_is_refused_with_the_reason(args, parameter, allowed):
    """By name and value; of an expression in the words of RE2, and as it was given."""
    with pytest.raises(InvalidParameter) as refused:
        LogQuery.parse(args)
    assert refused.value.parameter == parameter
    assert allowed in refused.value.allowed


@pytest.mark.parametrize(
    ("args", "matching", "others"),
    [
        ({"grep": "a.c"}, ["abc", "xa.cx"], ["ABC", ""]),
        ({"grep": "a.c", "fixed": "1"}, ["a.c"], ["abc", "A.C"]),
        ({"grep": "é.c", "ignorecase": "1"}, ["É.C", "éxc"], ["e.c"]),
        ({"grep": "a.c", "word": "1"}, ["abc", "(abc)", "é abc"], ["éabc", "abcd", "abc_"]),
        ({"grep": "a[", "fixed": "1", "word": "1", "ignorecase": "1"}, ["A[", "x A["], ["xA["]),
    ],
)
def test_an_expression_means_what_is_said_of_it(args, matching, others):
    """Literal text, either case, whole words, alone and together."""
    pattern = LogQuery.parse(args).wanted.pattern
    assert [list(pattern.hits(text.encode())) != [] for text in matching + others] == [True] * len(matching) + [
        False
    ] * len(others)


@pytest.mark.parametrize(
    "expression", ["(a+)+$", "(a|a)*b", "(.*)*x", "(a?){200}a{200}", "(?:a.{20}b.{20}){5}Q", ".{700}Q"]
)
def test_no_expression_takes_long(expression):
    """Those that backtracking engines never come back from, too."""
    data = (b"a" * 5000 + b"!\n") * 20 + b"ab" * 2500
    began = time.process_time()
    found(chunks_of(data), Wanted(pattern=Pattern(expression)))
    assert time.process_time() - began < 10


def test_many_matches_in_a_long_line_do_not_take_long_either():
    """Where each of them has the whole line looked at once more, which takes a second, the first ones must do."""
    began = time.process_time()
    line = b"x" * 1000 + bytes(random.Random(1).choices(b"ab", k=60_000)) + b"\n"
    events = found(chunks_of(line), Wanted(pattern=Pattern("x(.*a.{600}Q)?")))
    assert time.process_time() - began < 20
    assert events


# Over HTTP.


@pytest.fixture(scope="module")
def log(stack):
    """A log of two attempts."""
    log = Written(stack.store)
    log.write(b"".join(b"line %d\n" % number for number in range(1, 101)))
    log.write(b"an error\n", STDERR)
    log.end("failed", final=False)
    log.start()
    log.write(b"again\n\x1b[31merror\x1b[0m 2\nend\n")
    log.end("failed")
    return log


def test_text_is_what_grep_prints(stack, log):
    """The lines, with -- between groups, of all attempts; and how the job ended, as in any text."""
    answer = stack.get(f"/jobs/{log.job_id}/log?grep=error%7Cline+9$&context=1&stdout=1&stderr=1")
    assert answer.body.decode().split("\n")[:-2] == [
        "line 8",
        "line 9",
        "line 10",
        "--",
        "line 100",
        "an error",
        "again",
        "error 2",
        "end",
    ]
    assert stack.get(f"/jobs/{log.job_id}/log?grep=line&lines=7-8&attempt=1").body.startswith(b"line 7\nline 8\n")
    more = stack.get(f"/jobs/{log.job_id}/log?grep=line&limit=2").body
    assert more == b"line 1\nline 2\n[tailer] 2 lines match so far; more behind offset=1:14\n"


def test_records_tell_where_lines_match_and_how_far_the_search_is(stack, log):
    """As NDJSON, and the same as server-sent events; the end record is the last one."""
    query = f"/jobs/{log.job_id}/log?grep=ERROR&ignorecase=1"
    records = [json.loads(line) for line in stack.get(f"{query}&format=ndjson").body.splitlines()]
    *lines, progress, end = records
    assert [(one["cursor"], one["line"], one["stream"], one["text"], one["match"]) for one in lines] == [
        ("1:801", 101, "stderr", "an error", [[3, 8]]),
        ("2:23", 2, "stdout", "error 2", [[0, 5]]),
    ]
    assert progress["progress"] == {
        "cursor": "2:27",
        "line": 4,
        "bytes": 828,
        "of": 828,
        "matches": 2,
        "missing": 0,
        "more": False,
    }
    assert end["outcome"] == "failed"
    events = stack.get(f"{query}&format=sse").body.decode()
    assert [json.loads(data) for data in re.findall(r"id: [0-9:]*\ndata: (.*)\n\n", events)][:2] == lines
    assert re.search(r'event: progress\nid: 2:27\ndata: \{"cursor":"2:27"', events)
    problem = stack.get(f"/jobs/{log.job_id}/log?grep=(", "-H", "Accept: application/json")
    assert (problem.status, json.loads(problem.body)["allowed"]) == (400, "missing ): (")


def test_a_search_that_follows_tells_matches_as_they_come(stack):
    """As tail -f with grep behind it: a line that is not complete is no match yet."""
    log = Written(stack.store)
    log.rq_job(stack.connection, "started")
    log.write(b"old error\nmore")
    with curl(stack.path(log.job_id, "grep=error$&follow=1&format=ndjson")) as client:
        wait_until(lambda: b'"progress"' in client.body)
        log.write(b" err")
        log.write(b"or\nnothing\n", STDERR)
        log.end()
        log.rq_job(stack.connection, "finished")
        assert client.wait() == 0
        records = client.records
    assert [record["text"] for record in records if "text" in record] == ["old error", "more error"]
    assert records[-1]["outcome"] == "finished"


@pytest.fixture
def web(server):
    """The web side in this process, and a log of some megabytes."""
    with connect(server.url) as connection:
        log = Written(LogStore(connection))
        for number in range(100):
            log.write(b"%d: %b\n" % (number, b"x" * 50_000))
        log.end()
        yield create_app(Settings.from_env({"REDIS_URL": server.url})).test_client(), log.job_id


def test_only_so_many_searches_run_at_once(web):
    """One more gets 429 and when to come back; one that ends, or whose client leaves, frees its place."""
    client, job_id = web
    url = f"/jobs/{job_id}/log?grep=^99:&format=ndjson"
    running = [client.get(url) for _ in range(8)]
    refused = client.get(url)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "2")
    assert client.get(f"/jobs/{job_id}/log?lines=1").status_code == 200
    running.pop().close()
    told = [json.loads(line) for line in client.get(url).get_data().splitlines()]
    assert [one["line"] for one in told if "text" in one] == [100]
    assert client.get(url).status_code == 200
    for response in running:
        response.close()
    assert searching.PLACES.count == 0


def test_a_search_works_in_steps(web, monkeypatch):
    """It rests after each, and tells how far it is: never less far than before, and at the end all of it."""
    client, job_id = web
    monkeypatch.setattr(searching, "STEP_S", 0)
    monkeypatch.setattr(searching, "PROGRESS_S", 0)
    records = client.get(f"/jobs/{job_id}/log?grep=nothing&format=ndjson").get_data().splitlines()
    progress = [json.loads(line)["progress"] for line in records[:-1]]
    assert len(progress) >= 50
    assert [one["bytes"] for one in progress] == sorted(one["bytes"] for one in progress)
    assert progress[-1]["bytes"] == progress[-1]["of"] == 100 * 50_000 + 490
