"""The pane where answers come late, in another order than they were asked for, or not at all."""

import re

import pytest

from tests.panes import PanePage, hold
from tests.written import Written

FIRST = re.compile(r"attempt=1&")
SECOND = re.compile(r"attempt=2&")


@pytest.fixture
def pane(page, stack) -> PanePage:
    """A page of the test's own."""
    return PanePage(page, stack.web)


@pytest.fixture
def again(stack):
    """The log of a job that has failed once, and runs again."""
    log = Written(stack.store)
    log.rq_job(stack.connection, "started")
    log.write(b"first attempt\n")
    log.end("failed", final=False)
    log.start()
    log.write(b"second attempt\n")
    yield log
    log.end("finished")


def tab(pane, attempt):
    """Choose an attempt."""
    pane.pane.get_by_role("tab", name=str(attempt)).click()


def test_the_attempt_that_was_chosen_last_is_shown(pane, again):
    """Also if the one that was chosen before it comes later."""
    pane.open(again.job_id).shows("second attempt")
    come = hold(pane, FIRST)
    tab(pane, 1)
    let_go = come()
    with pane.page.expect_response(SECOND):
        tab(pane, 2)
    let_go()
    again.write(b"more\n")
    pane.shows("more")
    assert pane.rows() == ["second attempt", "more"]


def test_an_attempt_that_cannot_be_loaded_is_told_of_and_the_other_one_goes_on(pane, again, complaints):
    """Nothing is lost, and nothing is streamed twice, when it can be loaded later."""
    complaints.allow("503")
    pane.open(again.job_id).shows("second attempt")
    pane.page.route(FIRST, lambda route: route.fulfill(status=503, body="away for a moment"), times=1)
    tab(pane, 1)
    pane.until("!pane.notices.toast.hidden && pane.notices.toast.textContent === 'Not loaded: away for a moment'")
    again.write(b"more\n")
    pane.shows("more")
    assert pane.rows() == ["second attempt", "more"]
    tab(pane, 1)
    pane.shows("first attempt")
    again.write(b"last\n")
    pane.until("pane.log.edgeLine === 4")
    assert pane.ask("pane.log.rates.reduce((sum, lines) => sum + lines)") == 2
    tab(pane, 2)
    pane.shows("last")
    assert pane.rows() == ["second attempt", "more", "last"]


@pytest.mark.parametrize("asked", ["job", "log"])
def test_a_pane_that_is_closed_while_it_loads_follows_nothing(pane, again, asked):
    """Neither does it search, nor look for rows any more."""
    pattern = re.compile(rf"/jobs/{again.job_id}$") if asked == "job" else SECOND
    pane.page.goto(pane.web)
    come = hold(pane, pattern)
    pane.page.evaluate(
        """(job) => {
          const element = document.createElement('tailer-log');
          element.setAttribute('base', '/');
          element.setAttribute('job', job);
          element.wanted = { q: 'attempt' };
          document.body.append(element);
          globalThis.gone = element.pane;
        }""",
        again.job_id,
    )
    let_go = come()
    pane.page.evaluate("() => document.querySelector('tailer-log').remove()")
    let_go()
    told = pane.page.evaluate(
        "() => [gone.log.stream.followers.size, gone.log.store.rows, gone.later, gone.finder.active]"
    )
    assert told == [0, 0, 0, False]


LAST = "[...pane.log.store.between(1501, Infinity)].map((row) => row.text)"


def test_an_end_that_the_log_has_outgrown_when_it_comes_is_gone_on_with(pane, again):
    """Each character is there once, also of the line that was not finished."""
    again.write(b"".join(b"line %d\n" % n for n in range(2, 1501)) + b"abc")
    pane.open(again.job_id, "#L1").until("pane.log.store.lastLine === 1001")
    come = hold(pane, re.compile(r"&lines=1002-"), answered=True)
    pane.ask("void pane.log.more('bottom')")
    let_go = come()
    again.write(b"def\n")
    pane.until("pane.log.edgeLine === 1502")
    let_go()
    pane.ask("pane.log.more('bottom')")
    again.write(b"more\n")
    pane.until("pane.log.store.lastLine === 1502")
    assert pane.ask(LAST) == ["abcdef", "more"]


def test_a_line_that_is_not_finished_is_more_to_be_loaded(pane, again):
    """Who comes to the end of what is loaded gets it, and is told of what comes behind it."""
    again.write(b"".join(b"line %d\n" % n for n in range(2, 1002)) + b"abc")
    pane.open(again.job_id, "#L1").until("pane.log.store.lastLine === 1001")
    pane.page.keyboard.press("Escape")
    pane.ask("pane.view.show(1001)")
    pane.shows("abc")
    again.write(b"def\n")
    pane.shows("abcdef")
