"""The merged view in a browser: lines of many jobs as one log, each with its job."""

import pytest

from tailer.store import now_ms
from tests.panes import PanePage
from tests.test_queues import a_queue, begun, over
from tests.waiting import wait_until

MERGED = "document.querySelector('tailer-merged').merged"


@pytest.fixture
def pane(page, stack) -> PanePage:
    """A page of the test's own."""
    return PanePage(page, stack.web)


def rows(page):
    """Id, function and text of each row."""
    return page.evaluate(
        f"() => [...{MERGED}.view.lines.querySelectorAll('.r')].map((row) =>"
        " [row.querySelector('.id').dataset.t, row.querySelector('.call')?.dataset.t, row.textContent])"
    )


@pytest.mark.engines
def test_a_queue_is_one_log_with_a_name_for_each_line(page, pane, stack):
    """Jobs as they begin, what they print as text and in colours, how they end; a click on a name opens its job."""
    queue = a_queue()
    one = begun(stack, queue)
    one.write(b"<img src=x onerror=alert(1)> \x1b[31mred\x1b[0m\n")
    page.goto(f"{pane.web}/view?queue={queue}")
    wait_until(lambda: rows(page) == [[one.job_id, "job", "<img src=x onerror=alert(1)> red"]])
    two = begun(stack, queue)
    two.write(b"of another\n")
    wait_until(lambda: len(rows(page)) == 2)
    over(stack, two, "failed", reason="ValueError: no")
    wait_until(
        lambda: (
            rows(page)[1:]
            == [[two.job_id, "job", "of another"], [two.job_id, "job", "failed after 1 s: ValueError: no"]]
        )
    )
    assert page.title() == f"{queue} · Tailer"
    assert page.locator(".facts").first.inner_text() == "1 running · 3 lines"
    assert page.locator(".r span", has_text="red").evaluate("(span) => getComputedStyle(span).color") != page.locator(
        "tailer-merged .pane"
    ).evaluate("(pane) => getComputedStyle(pane).color")
    page.locator(".tag", has=page.locator(f"[data-t='{two.job_id}']")).first.click()
    page.wait_for_url(f"**/jobs/{two.job_id}")
    pane.ready().shows("of another")
    page.go_back()
    wait_until(lambda: len(rows(page)) == 3)
    over(stack, one)


def test_panes_become_one_log_and_panes_again(page, pane, stack):
    """By a key or a button, in the order of time; and the list leads to the log of a queue."""
    queue = a_queue()
    logs = [begun(stack, queue), begun(stack, queue)]
    for number in range(4):
        logs[number % 2].write(b"%d\n" % number, time=now_ms() - 1000 + number)
    page.goto(f"{pane.web}/view?" + "&".join(f"job={log.job_id}" for log in logs))
    pane.ready()
    page.keyboard.press("m")
    page.wait_for_url("**merge=1")
    wait_until(lambda: [row[2] for row in rows(page)] == list("0123"))
    page.get_by_role("button", name="Side by side (m)").click()
    page.wait_for_function("() => document.querySelectorAll('tailer-log').length === 2")
    assert "merge" not in page.url
    page.get_by_role("link", name=queue, exact=True).click()
    page.wait_for_url(f"**/view?queue={queue}")
    wait_until(lambda: [row[2] for row in rows(page)] == list("0123"))
    for log in logs:
        over(stack, log)


def test_no_line_is_lost_or_doubled_when_the_connection_breaks(page, pane, stack):
    """The page comes back with the id of the last event."""
    queue = a_queue()
    log = begun(stack, queue)
    page.goto(f"{pane.web}/view?queue={queue}")
    expected = []

    def write(lines):
        for _ in range(lines):
            expected.append(str(len(expected)))
            log.write(f"{expected[-1]}\n".encode())

    for _ in range(3):
        write(20)
        wait_until(lambda: [row[2] for row in rows(page)] == expected)
        page.evaluate(f"() => {MERGED}.stream.again('a test')")
        write(1)
    wait_until(lambda: [row[2] for row in rows(page)] == expected)
    over(stack, log)


@pytest.mark.parametrize("more", [(), ("nobody-knows-this-one",)])
def test_jobs_that_are_all_over_are_not_asked_for_again(page, pane, stack, more):
    """Nor is it told again, if somebody does, that one of them is not known."""
    queue = a_queue()
    logs = [begun(stack, queue) for _ in range(2)]
    for log in logs:
        log.write(b"line\n")
        over(stack, log)
    page.goto(pane.web)
    page.evaluate("() => localStorage.setItem('tailer-list', '0')")
    page.goto(f"{pane.web}/view?merge=1" + "".join(f"&job={job}" for job in [*(log.job_id for log in logs), *more]))
    idle = f"() => {MERGED}.stream.connection.state === 'idle' && !{MERGED}.planned"
    page.wait_for_function(idle)
    wait_until(lambda: len(rows(page)) == 4 + len(more))
    with page.expect_response("**/logs?*"):
        page.evaluate(f"() => {MERGED}.stream.restart()")
    page.wait_for_function(idle)
    assert page.evaluate(f"() => {MERGED}.store.rows") == 4 + len(more)
