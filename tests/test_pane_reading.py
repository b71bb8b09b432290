"""Reading a log in the pane: following, lines and links to them, search, filter, groups, copies. In both browsers."""

import re

import pytest

from tests.browsers import clipboard
from tests.panes import PanePage, speaking
from tests.stack import Stack
from tests.waiting import wait_until
from tests.written import Written


@pytest.fixture
def pane(page, stack) -> PanePage:
    """A page of the test's own."""
    return PanePage(page, stack.web)


def finished(stack: Stack, text: str, *, outcome: str = "finished", stream: str = "stdout") -> str:
    """The id of a job that is over and has printed that."""
    log = Written(stack.store)
    log.rq_job(stack.connection, outcome)
    if text:
        log.write(text.encode(), stream)
    log.end(outcome)
    return log.job_id


@pytest.fixture
def numbered(stack) -> str:
    """A finished job with 300 numbered lines, each tenth of which has a word to search."""
    return finished(stack, "".join(f"line {n}{' needle' if n % 10 == 0 else ''}\n" for n in range(1, 301)))


# Following.


@pytest.mark.engines
def test_it_follows_a_job_that_runs_and_says_how_it_ended(pane, stack, tmp_path):
    """New lines appear by themselves, the newest in sight; then the footer tells the outcome."""
    with speaking(stack, tmp_path) as job:
        job.out("first\n")
        pane.open(job.job.id).shows("first")
        job.out("".join(f"more {n}\n" for n in range(200)))
        pane.shows("more 199")
        pane.until("pane.view.following")
        assert pane.visible_lines()[-1] == 201
        job.end()
        pane.until("pane.element.querySelector('.foot .sentence')?.textContent.startsWith('finished after')")
        pane.until("pane.element.querySelector('.badge').textContent === 'finished'")
    assert pane.ask("pane.view.following")
    pane.until("pane.log.stream.connection.state === 'idle' || pane.log.over")


def test_scrolling_up_never_fights_the_reader(pane, stack, tmp_path):
    """What one reads stays where it is while lines come; a pill counts them, and errors; a key goes back to the end."""
    with speaking(stack, tmp_path) as job:
        job.out("".join(f"old {n}\n" for n in range(1, 301)))
        pane.open(job.job.id).shows("old 300")
        pane.until("pane.view.scroller.scrollHeight > 3000")
        pane.pane.locator(".scroller").hover()
        pane.page.mouse.wheel(0, -1500)
        pane.until("!pane.view.following")
        pane.until("(pane.seen = pane.view.scroller.scrollTop) === pane.before || (pane.before = pane.seen, false)")
        before = pane.visible_lines()
        job.out("new\n" * 40 + "ERROR: something broke\n")
        pill = pane.pane.locator(".pill")
        pill.wait_for()
        pane.until("pane.pill.textContent === '↓ 41 new lines (1 error)'")
        assert pane.visible_lines() == before
        pane.press("G")
        pane.until("pane.view.following && pane.pill.hidden")
        wait_until(lambda: pane.visible_lines()[-1] == 341)


@pytest.mark.engines
def test_reaching_the_end_follows_again(pane, stack, tmp_path):
    """Whoever scrolls down to the newest line sees the next ones come."""
    with speaking(stack, tmp_path) as job:
        job.out("".join(f"old {n}\n" for n in range(1, 201)))
        pane.open(job.job.id).shows("old 200")
        pane.press("g").until("pane.view.scroller.scrollTop < 200 && !pane.view.following")
        pane.pane.locator(".scroller").hover()
        pane.page.mouse.wheel(0, 20_000)
        pane.until("pane.view.following")
        job.out("new\n")
        pane.shows("new")
        pane.until("pane.view.following")


def test_a_failed_job_opens_at_its_last_traceback(pane, stack, tmp_path):
    """The first line of it is marked and in sight; e goes on to the next error."""
    with speaking(stack, tmp_path) as job:
        job.out("".join(f"before {n}\n" for n in range(150)))
        job.fail("the price is missing")
        stack.wait_for(job.job, "failed")
    pane.open(job.job.id).shows("RuntimeError: the price is missing")
    pane.until("pane.element.querySelector('.marked')?.textContent.startsWith('Traceback (most recent call last)')")
    marked = pane.ask("pane.view.marked.from")
    assert marked in pane.visible_lines()
    assert not pane.ask("pane.view.following")
    assert "failed after" in pane.pane.locator(".foot").inner_text().lower()
    pane.press("e")
    pane.until(f"pane.view.marked.from > {marked}")


# Lines and links to them.


def test_a_line_and_a_range_have_a_url(pane, numbered):
    """A click on a number selects the line, one with shift up to there; the URL opens at the same lines."""
    pane.open(numbered, "#L120")
    pane.until("pane.element.querySelector('.marked')")
    assert 120 in pane.visible_lines()
    pane.row(122).locator(".n").click()
    pane.page.wait_for_url("**#L122")
    pane.row(125).locator(".n").click(modifiers=["Shift"])
    pane.page.wait_for_url("**#L122-L125")
    assert pane.ask("pane.element.querySelectorAll('.marked').length") == 4
    url = pane.page.url
    pane.page.go_back()
    pane.until("pane.element.querySelectorAll('.marked').length === 1")
    pane.page.goto("about:blank")
    pane.page.goto(url)
    pane.ready().until("pane.element.querySelectorAll('.marked').length === 4")
    pane.press("Escape").until("pane.element.querySelectorAll('.marked').length === 0")


def test_back_leads_to_what_was_shown_before_and_then_away(pane, numbered):
    """Without the line that was chosen, nor what was filtered since."""
    pane.page.goto(pane.web)
    pane.open(numbered).row(298).locator(".n").click()
    pane.page.wait_for_url("**#L298")
    pane.press("s").page.wait_for_url("**?err=1#L298")
    pane.page.go_back()
    pane.until("!pane.view.lines.querySelector('.marked') && !pane.filter.on && pane.view.following")
    assert pane.page.url == f"{pane.web}/jobs/{numbered}"
    pane.page.go_back()
    pane.page.wait_for_url(f"{pane.web}/")


def test_a_search_that_was_ended_does_not_come_back_with_another_attempt(pane, stack):
    """Though the page was opened with it; nor does a line stay chosen that is one of the attempt before."""
    log = Written(stack.store)
    log.rq_job(stack.connection, "finished")
    log.write(b"first attempt\n")
    log.end("failed", final=False)
    log.start()
    log.write(b"second attempt\n")
    log.end("finished")
    pane.open(log.job_id, "?q=attempt#L1").until("pane.finder.shown && pane.selected.to === 1")
    pane.pane.get_by_label("Close the search").click()
    pane.pane.get_by_role("tab", name="1").click()
    pane.page.wait_for_url(f"**/jobs/{log.job_id}?attempt=1")
    assert not pane.ask("pane.finder.shown")


@pytest.mark.engines
def test_what_is_copied_is_what_was_printed(pane, stack):
    """Also of rows that the browser has skipped: without numbers and times, all of it."""
    text = "".join(f"  {n} \x1b[31mred\x1b[0m\tx\n" for n in range(3000))
    pane.open(finished(stack, text))
    pane.press("g").until("pane.log.store.firstLine === 1", 20)
    pane.press("t").until("pane.time === 'abs'")
    pane.press("ControlOrMeta+a")
    pane.page.keyboard.press("ControlOrMeta+c")
    copied = clipboard(pane.page).rstrip("\n").split("\n")
    assert len(copied) == 3000
    assert copied[0].split() == ["0", "red", "x"]
    assert copied[2999].split() == ["2999", "red", "x"]


@pytest.mark.parametrize("browser_kind", ["chromium"], indirect=True)  # Playwright prints in no other
def test_all_that_is_loaded_is_printed(pane, numbered):
    """On as many pages as it takes, and without what is only for the screen."""
    pane.open(numbered, "?wrap=0").until("pane.view.filled === pane.view.boxes.size")
    printed = pane.page.pdf(format="A4")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) >= 5


@pytest.mark.parametrize("count", [20_000, pytest.param(100_000, marks=pytest.mark.whole)])
def test_very_many_lines_are_real_text(pane, stack, count):
    """All in the document, for the browser's own search and selection; copied, they are what was printed."""
    queue = stack.queue()
    job = queue.enqueue("tests.pane_jobs.count_to", count, 12)
    pane.open(job.id)
    stack.work(queue)
    pane.shows(f"line {count}", 20)
    pane.until(f"pane.view.lines.querySelectorAll('.r').length === {count}", 30)
    copied = (
        pane.ask("(getSelection().selectAllChildren(pane.view.lines), pane.selectedText())").rstrip("\n").split("\n")
    )
    assert copied == [f"line {number}".ljust(12, ".") for number in range(1, count + 1)]


def test_a_key_asks_for_a_line_and_goes_there(pane, numbered):
    """By its number; what is none is not taken."""
    pane.open(numbered).press(":")
    field = pane.pane.get_by_label("Line", exact=True)
    field.fill("twelve")
    field.press("Enter")
    assert field.get_attribute("aria-invalid") == "true"
    field.fill("12")
    field.press("Enter")
    pane.until("!pane.lineAsked.element.open")
    wait_until(lambda: 12 in pane.visible_lines())


# Search and filter.


def test_enter_searches_what_is_written(pane, numbered):
    """Who types fast and ends with Enter gets to the first match, and stays there."""
    pane.open(numbered).press("g", "/")
    pane.page.evaluate(
        """() => {
          const [field] = document.querySelector('tailer-log').pane.finder.element.querySelectorAll('input');
          field.value = 'needle';
          field.dispatchEvent(new Event('input'));
          field.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter' }));
        }"""
    )
    pane.until("pane.finder.element.querySelector('.count').textContent === '1 of 30'")
    pane.until("performance.now() > (globalThis.until ??= performance.now() + 300)")  # behind the wait for more letters
    pane.until("pane.finder.element.querySelector('.count').textContent === '1 of 30'")
    pane.page.keyboard.press("Enter")
    pane.until("pane.finder.element.querySelector('.count').textContent === '2 of 30'")


@pytest.mark.engines
def test_search_counts_and_goes_from_match_to_match(pane, numbered):
    """All are counted and highlighted; Enter goes on, shift and Enter back; the expression may be a regular one."""
    pane.open(numbered).press("g", "/")
    pane.page.keyboard.type("NEEDLE")
    count = pane.pane.locator(".find .count")
    pane.until("pane.finder.element.querySelector('.count').textContent === '30'")
    pane.page.keyboard.press("Enter")
    pane.until("pane.finder.element.querySelector('.count').textContent === '1 of 30'")
    pane.page.keyboard.press("Enter")
    pane.page.keyboard.press("Enter")
    pane.page.keyboard.press("Shift+Enter")
    pane.until("pane.finder.element.querySelector('.count').textContent === '2 of 30'")
    assert 20 in pane.visible_lines()
    assert pane.page.evaluate("() => CSS.highlights.get('tailer-current').size") == 1
    assert pane.page.evaluate("() => CSS.highlights.get('tailer-hit').size") > 0
    find = pane.pane.locator(".find")
    find.get_by_label("Match case").click()
    pane.until("pane.finder.element.querySelector('.count').textContent === 'no match'")
    find.get_by_label("Regular expression").click()
    find.get_by_label("Search", exact=True).fill("ne+dle$")
    pane.until("pane.finder.element.querySelector('.count').textContent === '30'")
    find.get_by_label("Search", exact=True).fill("ne(")
    pane.until("pane.finder.element.querySelector('input').getAttribute('aria-invalid') === 'true'")
    assert count.inner_text()


def test_a_regular_expression_that_never_ends_hangs_nothing(pane, stack):
    """It is given up after a moment, and said so."""
    pane.open(finished(stack, "a" * 60 + "!\n"), "?q=(a%2B)%2B%24&re=1")
    pane.until("pane.finder.element.querySelector('.count').textContent.includes('takes too long')", 20)
    pane.press("G")


COUNT = "pane.finder.element.querySelector('.count').textContent"
MORE = "pane.finder.element.querySelector('.scan')"
FAR = "pane.finder.element.querySelector('.far').textContent"


@pytest.fixture
def long_log(stack) -> str:
    """A finished job with 60,000 lines; a page holds the last thousand. A word is in line 30, twice, and 59,900."""
    words = {30: " a needle, a needle", 40_000: " a nÉEDLE", 59_900: " a needle"}
    return finished(stack, "".join(f"line {n}{words.get(n, '')}\n" for n in range(1, 60_001)))


def test_lines_that_are_not_loaded_are_searched_by_the_server(pane, long_log):
    """They are counted, and gone to as all others, round and round; what is around them is loaded then."""
    pane.open(long_log, "#end").press("/")
    pane.page.keyboard.type("needle")
    pane.until(f"{COUNT} === '3'")
    pane.until(f"{MORE}.hidden && !{FAR}")
    assert pane.ask("pane.log.store.firstLine") > 50_000
    seen = []
    for number, line in (("1", 30), ("2", 30), ("3", 59_900), ("1", 30)):
        pane.page.keyboard.press("Enter")
        pane.until(f"{COUNT} === '{number} of 3'")
        wait_until(lambda line=line: line in pane.visible_lines())
        seen.append(pane.page.evaluate("() => CSS.highlights.get('tailer-current').size"))
    assert seen == [1] * 4
    for number in ("3", "2", "1", "3"):
        pane.page.keyboard.press("Shift+Enter")
        pane.until(f"{COUNT} === '{number} of 3'")
    pane.pane.locator(".find").get_by_label("Whole words").click()
    pane.pane.locator(".find").get_by_label("Search", exact=True).fill("éedle")
    pane.until(f"{COUNT} === 'no match' && {MORE}.hidden && !{FAR}")


def test_the_current_match_stays_so_when_older_lines_are_loaded(pane, long_log):
    """They are searched too, and nobody is led away from where they scroll."""
    pane.open(long_log, "?q=59900%7Cneedle&re=1#end").press("/")  # the second one of its line is to stay
    pane.until(f"{COUNT} === '4' && {MORE}.hidden && !{FAR}")
    pane.page.keyboard.press("Shift+Enter")
    pane.until(f"{COUNT} === '4 of 4'")
    first = pane.ask("pane.log.store.firstLine")
    shown, changes = COUNT.removesuffix(".textContent"), "{ childList: true, characterData: true, subtree: true }"
    pane.ask(f"(globalThis.told = [], new MutationObserver(() => told.push({COUNT})).observe({shown}, {changes}))")
    pane.ask("pane.view.scroller.scrollTop = 0")
    pane.until(f"pane.log.store.firstLine < {first}")
    pane.until(f"{COUNT} === '4 of 4'")
    pane.until("performance.now() > (globalThis.until ??= performance.now() + 300)")  # behind the search of what is new
    pane.until(f"{COUNT} === '4 of 4'")
    assert {text for text in pane.ask("told") if " of " in text} == {"4 of 4"}
    assert 59_900 not in pane.visible_lines()


@pytest.mark.parametrize("browser_kind", ["chromium"], indirect=True)  # it is the server's word that counts
def test_an_expression_that_the_server_does_not_take_is_told(pane, complaints, long_log):
    """The page finds it in what is here, and says why not elsewhere."""
    complaints.allow("400")
    pane.open(long_log, "?q=needle(%3F!,)&re=1").until(f"{COUNT} === '1'")
    pane.until(f"{FAR} === 'lines not loaded cannot be searched: invalid perl operator: (?!'")


@pytest.mark.parametrize("browser_kind", ["chromium"], indirect=True)
def test_a_search_goes_on_after_the_connection_has_broken(pane, long_log):
    """From where it was: each match is counted once."""
    route = re.compile(r"/log\?.*grep=")
    tries = []

    def once(route):
        """Break the first answer off in its middle."""
        tries.append(route.request.url)
        if len(tries) > 1:
            return route.continue_()
        body = (
            '{"cursor":"1:20","line":3,"text":"","match":[[0,1]]}\n'
            '{"progress":{"cursor":"1:223","line":30,"bytes":223,"of":1000,"more":false}}\n'
            '{"cursor":"1:251","line":30,"text":"","match":[[0,1]]}\n{"cut'
        )
        return route.fulfill(status=200, content_type="application/x-ndjson", body=body)

    pane.page.route(route, once)
    pane.open(long_log, "?q=needle")
    pane.until(f"{COUNT} === '4' && {MORE}.hidden && !{FAR}", 20)
    assert "offset=1%3A223" in tries[1]


def test_a_search_that_begins_anew_before_it_has_ended_counts_each_match_once(pane, stack):
    """As when older lines come while it searches."""
    lines = [f"line {n}{' needle' if n % 10 == 0 else ''}\n" for n in range(1, 1101)]
    pane.open(finished(stack, "".join(lines)), "#end").until("pane.log.store.firstLine === 101")
    pane.page.evaluate(
        """(text) => {
          const { finder, log } = document.querySelector('tailer-log').pane;
          finder.open({ query: 'needle' });
          log.store.prepend([{ cursor: '1:0', time: new Date().toISOString(), line: 1, lines: 100, text }]);
          finder.refresh();
        }""",
        "".join(lines[:100]),
    )
    pane.until(f"Number({COUNT}) >= 110")
    pane.until("performance.now() > (globalThis.until ??= performance.now() + 300)")  # behind the search of what is new
    assert pane.ask(COUNT) == "110"


def test_new_lines_are_searched_too(pane, stack, tmp_path):
    """The count goes on while the job prints."""
    with speaking(stack, tmp_path) as job:
        job.out("a match\n")
        pane.open(job.job.id, "?q=match").until("pane.finder.element.querySelector('.count').textContent === '1'")
        job.out("nothing\nanother match\nlast\n")
        pane.until("pane.finder.element.querySelector('.count').textContent === '2'")


def test_filter_shows_matching_lines_with_context(pane, numbered):
    """Others are hidden, also the other way round; the filter is in the URL."""
    pane.open(numbered).press("\\")
    pane.page.keyboard.type("needle")
    pane.until("pane.filter.element.querySelector('.count').textContent === '30 of 300 lines'")
    assert [text.split()[1] for text in pane.rows()][:3] == ["10", "20", "30"]
    pane.pane.get_by_label("Lines around").select_option("1")
    pane.until("pane.filter.element.querySelector('.count').textContent === '89 of 300 lines'")
    assert [text.split()[1] for text in pane.rows()][:3] == ["9", "10", "11"]
    pane.page.goto("about:blank")
    pane.open(numbered, "?filter=needle")
    pane.until("pane.filter.element.querySelector('.count').textContent === '30 of 300 lines'")
    pane.pane.locator(".filter").get_by_label("Close the filter").click()
    pane.until("[...pane.view.lines.querySelectorAll('.r:not([hidden])')].length === 300")


def test_errors_and_stderr_alone_can_be_shown(pane, stack):
    """By level, by stream, and both are in the URL."""
    log = Written(stack.store)
    log.rq_job(stack.connection, "finished")
    log.write(b"INFO:root:fine\nERROR:root:bad\nWARNING:root:hm\n")
    log.write(b"to stderr\n", "stderr")
    log.end("finished")
    pane.open(log.job_id, "?level=error").until("pane.filter.on")
    assert pane.rows() == ["ERROR:root:bad"]
    pane.open(log.job_id).press("s")
    pane.until("pane.filter.on && pane.log.store.shown === 1")
    assert pane.rows() == ["to stderr"]
    pane.page.wait_for_url("**?err=1")


# What lines mean.


def test_groups_fold_and_tell_how_long_they_took(pane, stack):
    """GitHub's and GitLab's marks; a folded group leaves its title."""
    pane.open(
        finished(
            stack,
            "before\n::group::Install  \none\ntwo\n::endgroup::\nbetween\n"
            "\x1b[0Ksection_start:1560896352:build[collapsed=true]\r\x1b[0KBuild it\nthree\n"
            "\x1b[0Ksection_end:1560896353:build\r\x1b[0K\nafter\n",
        )
    )
    pane.until("pane.element.querySelectorAll('.group').length === 2")
    shown = [text.removeprefix("::group::").strip() for text in pane.rows()]
    assert pane.ask("pane.element.querySelector('.group .quiet').textContent") == "::group::"
    assert shown[:6] == ["before", "Install", "one", "two", "between", "Build it"]
    assert "three" not in shown
    pane.pane.get_by_label("Group Install").click()
    pane.until("![...pane.view.lines.querySelectorAll('.r:not([hidden])')].some((row) => row.textContent === 'one')")
    pane.pane.get_by_label("Group Build it").click()
    pane.shows("three")


def test_repeated_lines_are_folded_and_counted(pane, stack):
    """Of three and more that are the same the first is seen, with their number; r shows them all."""
    pane.open(finished(stack, "start\n" + "waiting\n" * 57 + "end\n"))
    pane.until("pane.element.querySelector('.times')?.dataset.t === '\u00d7 57'")
    assert pane.rows() == ["start", "waiting", "end"]
    pane.press("r").until("pane.view.lines.querySelectorAll('.r:not([hidden])').length === 59")


def test_links_lead_where_they_say_and_nowhere_else(pane, stack):
    """URLs and OSC 8 links of http, https and mailto; other schemes are text."""
    pane.open(
        finished(
            stack,
            "see https://example.com/a?b=1). \x1b]8;;https://example.org/\x1b\\here\x1b]8;;\x1b\\ "
            "\x1b]8;;javascript:alert(1)\x1b\\not here\x1b]8;;\x1b\\\n",
        )
    )
    links = pane.ask("[...pane.view.lines.querySelectorAll('a.link')].map((a) => [a.textContent, a.href, a.rel])")
    rel = "noopener noreferrer nofollow"
    assert links == [
        ["https://example.com/a?b=1", "https://example.com/a?b=1", rel],
        ["here", "https://example.org/", rel],
    ]
    assert "not here" in pane.rows()[0]


def test_json_lines_open_as_a_tree(pane, stack):
    """A line that is JSON has a button for it."""
    pane.open(finished(stack, 'text\n{"event": "sku", "tags": ["a"]}\n'))
    pane.pane.get_by_label("Show as a tree").click()
    assert '"event": "sku",\n' in pane.pane.locator(".tree").inner_text()
    pane.pane.get_by_label("Show as a tree").click()
    assert pane.pane.locator(".tree").count() == 0


def test_times_are_shown_in_three_ways(pane, numbered):
    """Of day, since the start, since the line before; then none again, and the URL knows."""
    pane.open(numbered)
    seen = []
    for expected in ("abs", "rel", "delta"):
        pane.press("t").page.wait_for_url(f"**?t={expected}")
        seen.append(pane.ask("pane.view.lines.querySelector('.t').dataset.t"))
    assert ":" in seen[0]
    assert seen[1].startswith("+")
    assert seen[2].startswith("+")
    pane.press("t").until("!pane.view.lines.querySelector('.t')")


def test_a_very_long_line_is_cut_until_it_is_asked_for(pane, stack):
    """Ten kilobytes of it are shown, and the rest on request."""
    pane.open(finished(stack, "x" * 250_000 + "\n"))
    assert pane.ask("pane.view.lines.querySelector('.r').textContent.length") == 10_000
    pane.pane.locator("button.more").click()
    assert pane.ask("pane.view.lines.querySelector('.r').textContent.length") == 250_000


def test_the_whole_log_can_be_downloaded(pane, numbered):
    """From the server, as it was written."""
    pane.open(numbered)
    with pane.page.expect_download() as download:
        pane.press("d")
    assert download.value.suggested_filename == f"{numbered}.log"


def test_what_a_filter_shows_can_be_downloaded(pane, numbered):
    """The lines in the page, under another name."""
    pane.open(numbered, "?filter=needle").until("pane.log.store.shown === 30")
    # Playwright tells of no download of a blob in Firefox; so the blob is looked at, and the link that is clicked.
    pane.page.evaluate(
        """() => {
          const make = URL.createObjectURL;
          URL.createObjectURL = (blob) => { window.made = blob.text(); return make.call(URL, blob); };
          HTMLAnchorElement.prototype.click = function () { window.saved = this.download; };
        }"""
    )
    pane.press("d").page.wait_for_function("() => window.saved")
    assert pane.page.evaluate("() => window.saved") == f"{numbered}.filtered.log"
    assert pane.page.evaluate("() => window.made") == "".join(f"line {n} needle\n" for n in range(10, 301, 10))
