"""Access in a browser: the login and back, sessions, links, and what the pane shows to those who may not read."""

import re
from urllib.parse import urlsplit

import pytest

from tailer.embedded import EmbeddedServer
from tests.panes import PanePage
from tests.processes import leftovers, shared
from tests.stack import Stack
from tests.test_access import ALL, ENV, HERS, link_to, written
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def guarded():
    """A stack that wants tokens, for all tests here."""
    with EmbeddedServer() as server, Stack.on(server.url, env=ENV) as whole:
        shared.update(leftovers(""))
        yield whole


@pytest.fixture
def pane(page, guarded, complaints) -> PanePage:
    """A page of the test's own."""
    complaints.allow("401|403|404")
    return PanePage(page, guarded.web)


def log_in(page, token):
    """Fill the form, and send it."""
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()


def says(what):
    """A condition: what stands where lines would."""
    return f"pane?.element.querySelector('.empty-state').textContent.includes({what!r})"


def test_one_can_log_in_and_out_without_tls_too(pane, guarded):
    """Where a browser tells less of where a form comes from, as it does under a plain http:// name."""
    pane.page.goto(guarded.web.replace("127.0.0.1", "elsewhere.test") + "/login")
    log_in(pane.page, HERS)
    pane.page.wait_for_url(lambda url: "login" not in url)
    pane.page.goto(guarded.web.replace("127.0.0.1", "elsewhere.test") + "/login")
    pane.page.get_by_text("You are logged in as hers.").wait_for()
    pane.page.get_by_role("button", name="Log out").click()
    pane.page.get_by_label("Token").wait_for()


@pytest.mark.engines
def test_a_browser_is_led_to_the_login_and_back_to_its_line(pane, guarded):
    """Asked once, with a word if the token is wrong; then all is there, until one logs out."""
    log = written(guarded, "hers", "finished", b"one\ntwo\n")
    pane.page.goto(f"{guarded.web}/jobs/{log.job_id}#L2")
    log_in(pane.page, "not-a-token-at-all")
    pane.page.get_by_role("alert").get_by_text("This token is not known.").wait_for()
    log_in(pane.page, HERS)
    pane.page.wait_for_url(f"**/jobs/{log.job_id}")
    pane.ready().shows("two")
    (cookie,) = pane.page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("tailer", True, "Strict")
    assert HERS not in cookie["value"]
    assert pane.page.evaluate("() => document.cookie") == ""
    pane.page.goto(f"{guarded.web}/login")
    pane.page.get_by_text("You are logged in as hers.").wait_for()
    pane.page.get_by_role("button", name="Log out").click()
    pane.page.get_by_label("Token").wait_for()
    assert pane.page.context.cookies() == []


def test_who_comes_from_another_site_need_not_log_in_again(pane, guarded):
    """A link on a page of another site, where strict cookies stay away, leads to the log all the same."""
    log = written(guarded, "hers", "finished")
    pane.page.goto(f"{guarded.web}/login")
    log_in(pane.page, HERS)
    pane.page.wait_for_url(f"{guarded.web}/")
    port = urlsplit(guarded.web).port
    pane.page.route("http://localhost:*/elsewhere", lambda route: route.fulfill(
        content_type="text/html", body=f"<a href='http://127.0.0.1:{port}/jobs/{log.job_id}'>log</a>"))  # fmt: skip
    pane.page.goto(f"http://localhost:{port}/elsewhere")
    pane.page.get_by_text("log").click()
    pane.page.wait_for_url(f"**/jobs/{log.job_id}")
    pane.ready().shows("a secret")


def test_the_list_shows_what_one_may_read(pane, guarded):
    """Of two queues' jobs those of one, also when they are new; and of the others' pages nothing."""
    mine, other = written(guarded, "hers", "finished"), written(guarded, "others", "finished")
    pane.page.goto(f"{guarded.web}/")
    log_in(pane.page, HERS)
    pane.page.locator(f"a.job[href='/jobs/{mine.job_id}']").wait_for()
    new = written(guarded, "hers", "finished")
    pane.page.locator(f"a.job[href='/jobs/{new.job_id}']").wait_for()
    assert pane.page.locator(f"a.job[href='/jobs/{other.job_id}']").count() == 0
    pane.page.goto(f"{guarded.web}/jobs/{other.job_id}")
    pane.until(says("There is no such job"))


def test_a_session_that_ends_is_told_of_where_one_looks(pane, guarded):
    """The pane and the list say so, and offer the way to log in, which leads back."""
    log = written(guarded, "hers", data=b"before\n")
    pane.page.goto(f"{guarded.web}/jobs/{log.job_id}")
    log_in(pane.page, HERS)
    pane.ready().shows("before")
    pane.page.context.clear_cookies()
    pane.ask("pane.log.stream.restart()")
    pane.until(says("This log asks for a login"))
    pane.pane.get_by_role("link", name="Log in").click()
    log_in(pane.page, HERS)
    pane.page.wait_for_url(f"**/jobs/{log.job_id}")
    pane.ready().shows("before")
    pane.page.goto(f"{guarded.web}/")
    pane.page.context.clear_cookies()
    pane.page.evaluate("() => document.dispatchEvent(new KeyboardEvent('keydown', {key: 'b', bubbles: true}))")
    pane.page.evaluate("() => document.dispatchEvent(new KeyboardEvent('keydown', {key: 'b', bubbles: true}))")
    hint = pane.page.locator(".hint")
    hint.get_by_text("The jobs cannot be shown").wait_for()
    assert hint.get_by_role("link", name="Log in").get_attribute("href").endswith("/login?next=%2F")


def test_a_link_opens_one_log_in_the_pane(pane, guarded):
    """Without a login, live, with search, download and a reload; there is no list, and every request has the link."""
    log = written(guarded, "others", data=b"first\n")
    link = link_to(guarded, log.job_id)
    asked = []
    pane.page.on("request", lambda request: asked.append(request.url))
    pane.go(f"/jobs/{log.job_id}?{link}").shows("first")
    log.write(b"second\n")
    pane.shows("second")
    assert not pane.page.locator("aside").is_visible()
    assert not pane.page.get_by_role("button", name="Jobs", exact=True).is_visible()
    pane.press("b")
    assert not pane.page.locator("aside").is_visible()
    pane.row(1).locator(".n").click()
    pane.page.wait_for_url("**#L1")
    assert link in pane.page.url
    pane.page.reload()
    pane.ready().shows("second")
    assert all(link in url for url in asked if re.match("/(jobs|stream)", urlsplit(url).path))


def test_a_link_that_ends_ends_what_is_shown(pane, guarded):
    """The pane says that it has expired, keeps its lines, and asks no more."""
    log = written(guarded, "others", data=b"first\n")
    pane.go(f"/jobs/{log.job_id}?{link_to(guarded, log.job_id, '4s')}").shows("first")
    pane.until(says("has expired"), 15)
    wait_until(lambda: pane.ask("pane.log.stream.connection.state") in {"idle", "refused"})
    assert pane.ask("pane.log.stream.query()") is None
    assert "log in" in pane.pane.get_by_role("link", name="Log in").inner_text().lower()


def test_a_full_server_is_waited_for(page, server, complaints):
    """Where all places are taken the pane says so and tries again, and goes on when there is one."""
    with Stack.on(server.url, env={**ENV, "TAILER_MAX_FOLLOWERS": "1"}) as stack:
        log = written(stack, "hers", data=b"first\n")
        complaints.allow("429")
        pane = PanePage(page, stack.web)
        page.goto(f"{stack.web}/login")
        log_in(page, ALL)
        page.wait_for_url(f"{stack.web}/")
        page.evaluate("() => localStorage.setItem('tailer-list', '0')")
        pane.go(f"/jobs/{log.job_id}").shows("first")
        pane.until("pane.log.stream.connection.state === 'live'")
        other = page.context.new_page()
        second = PanePage(other, stack.web)
        other.goto(f"{stack.web}/jobs/{log.job_id}")
        second.until("pane && (pane.log.problem || pane.log.stream.connection.state === 'waiting')")
        page.close()
        second.ready().shows("first", 30)
        second.until("pane.log.stream.connection.state === 'live'", 30)
        other.close()
