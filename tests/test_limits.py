"""Logs over their limits, with real workers, web processes, clients and browsers."""

import base64
import contextlib
import json

import pytest

from tailer.records import OVER_LIMIT
from tests.panes import PanePage
from tests.stack import curl, web_process
from tests.waiting import wait_until
from tests.written import Written

SHORT = {"TAILER_KEEP_HEAD": "64KiB", "TAILER_KEEP_TAIL": "64KiB"}
BLOCK = 40_000
LINE = 20


def line(number):
    """The line that `print_blocks` prints."""
    return b"line %014d\n" % number


def lines(first, last):
    """Those from one number to another."""
    return b"".join(map(line, range(first, last + 1)))


def output(records):
    """The output in NDJSON records, and the holes."""
    data = b"".join(
        (record["text"].encode() if "text" in record else base64.b64decode(record["base64"]))
        + b"\n" * (not record.get("partial"))
        for record in records
        if "stream" in record
    )
    return data, [record for record in records if "missing" in record]


def test_a_job_that_prints_more_than_is_kept(stack, tmp_path):
    """Who is there gets every byte. Who comes later gets beginning and end, and what is missing, to the byte and line.

    In all formats, from the start, from the last lines, from a cursor or a line in between; the end tells the same.
    """
    queue = stack.queue()
    job = queue.enqueue("tests.jobs.print_blocks", str(tmp_path), blocks := 25, BLOCK)
    total, printed = blocks * BLOCK // LINE, blocks * BLOCK
    with contextlib.ExitStack() as held:
        held.enter_context(stack.worker(queue, env=SHORT))
        before = held.enter_context(stack.follow(job.id))
        for block in range(blocks):
            (tmp_path / str(block)).touch()
            wait_until(lambda size=(block + 1) * BLOCK: len(before["text"].body) == size, 20, f"block {block}")
            if block == blocks - 3:
                # In the other one's memory there still is all of it.
                web, _ = held.enter_context(web_process(stack.url))
                late = held.enter_context(curl(f"{web}/jobs/{job.id}/log?format=ndjson")).connected()
                newest = held.enter_context(stack.follow(job.id, "tail=3"))
        end = stack.log(job.id).end
        kept = stack.log(job.id)

        assert before.text() == lines(1, total)
        assert output(before.records()) == (lines(1, total), [])
        assert [event.name for event in before.events() if event.name == "hole"] == []
        assert newest.text() == lines((blocks - 2) * BLOCK // LINE - 2, total)
        assert late.wait() == 0
        data, holes = output(late.records)
        assert [hole["cause"] for hole in holes] == [OVER_LIMIT]
        assert len(data) + holes[0]["missing"] == printed

        (hole,) = kept.holes
        assert (end.bytes, end.lines, end.dropped) == (printed, total, hole.length)
        first, last = hole.line - 1, hole.line + hole.lines
        wanted = lines(1, first) + lines(last, total)
        assert kept.data() == wanted
        assert len(wanted) + hole.length == printed
        assert hole.offset >= 64 << 10
        assert 64 << 10 <= printed - hole.end <= (64 << 10) + 2 * BLOCK  # a chunk, and what came last
        told = f"[tailer] {hole.length} bytes are missing here: {OVER_LIMIT}\n".encode()
        after = held.enter_context(stack.follow(job.id))
        assert after.text() == lines(1, first) + told + lines(last, total)
        assert output(after.records())[0] == wanted
        (event,) = [event for event in after.events() if event.name == "hole"]
        assert (event.json["line"], event.json["lines"], event.json["missing"]) == (hole.line, hole.lines, hole.length)
        assert event.id == f"1:{hole.end}"

        for query, expected in [
            ("tail=10", lines(total - 9, total)),
            (f"tail={total - last + 1}", lines(last, total)),
            (f"tail={total - last + 2}", told + lines(last, total)),
            (f"lines={last}-{last}", line(last)),
            (f"offset=1:{hole.end}", lines(last, total)),
            (f"offset=1:{hole.end - 9}", told.replace(b"%d" % hole.length, b"9") + lines(last, total)),
            (f"lines={first}-{first + 1}", line(first) + told),
            (f"lines={last + 1}-{last + 2}", lines(last + 1, last + 2)),
        ]:
            assert stack.get(f"/jobs/{job.id}/log?follow=0&{query}").body == expected, query


@pytest.fixture
def trimmed(stack):
    """A finished job of 200,000 lines whose log has lost those in the middle."""
    log = Written(type(stack.store)(stack.connection, keep_head=100_000, keep_tail=100_000))
    log.rq_job(stack.connection, "finished")
    for first in range(1, 200_000, 2000):
        log.write(lines(first, first + 1999))
    log.end()
    return log.job_id


@pytest.mark.parametrize("browser_kind", ["chromium"], indirect=True)  # what they show is the same
def test_the_pane_shows_what_is_missing(page, stack, trimmed):
    """Size and cause stand where lines are missing; those around have their true numbers, from whichever side."""
    (hole,) = stack.log(trimmed).holes
    first, last = hole.line - 1, hole.line + hole.lines
    told = f"{hole.length} bytes are missing here: {OVER_LIMIT}"
    pane = PanePage(page, stack.web)
    pane.open(trimmed).shows(f"line {200_000:014}")
    pane.open(trimmed, f"#L{first}").shows(told)
    assert pane.row(first).text_content().endswith(f"line {first:014}")
    pane.open(trimmed, f"#L{last + 10}").shows(told)
    assert pane.row(last).text_content().endswith(f"line {last:014}")
    assert pane.row(last + 10).text_content().endswith(f"line {last + 10:014}")
    assert sum(told in row for row in pane.rows()) == 1
    pane.open(trimmed, f"#L{(first + last) // 2}").shows(told)


def test_a_log_that_is_cut_in_a_line(stack):
    """Where a line has no end, the limit cuts it, and both halves are what was printed."""
    store = type(stack.store)(stack.connection, keep_head=1 << 16, keep_tail=1 << 16)
    log = Written(store)
    log.rq_job(stack.connection, "finished")
    for _ in range(40):
        log.write(b"x" * 20_000)
    log.write(b"the end\n")
    log.end()
    records = [
        json.loads(text)
        for text in stack.get(f"/jobs/{log.job_id}/log?follow=0&format=ndjson").body.split(b"\n")
        if text
    ]
    (hole,) = [record for record in records if "missing" in record]
    assert (hole["line"], hole["lines"]) == (1, 0)
    data, _ = output(records)
    assert len(data) + hole["missing"] == 800_008
    assert data.endswith(b"xthe end\n")
