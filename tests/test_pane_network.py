"""The pane on bad networks: streams that break, servers that restart, many tabs. In both browsers."""

import contextlib
import re
import signal
import time

import pytest

from tailer.embedded import EmbeddedServer
from tailer.store import LogStore, connect
from tests.panes import PanePage
from tests.processes import free_port
from tests.proxy import Proxy
from tests.stack import web_process
from tests.written import Written

TEXT = "pane.log.store.blocks.flatMap(({rows}) => rows.map((row) => row.text + '\\n')).join('')"


@pytest.fixture
def unreliable(stack):
    """A proxy before the shared web server."""
    with Proxy(stack.web) as proxy:
        yield proxy


@pytest.mark.timeout(180)
@pytest.mark.engines
@pytest.mark.parametrize("seconds", [12, pytest.param(60, marks=pytest.mark.whole)])
def test_no_byte_is_lost_or_doubled_while_the_connection_drops_five_times_a_second(
    page, stack, unreliable, complaints, tmp_path, seconds
):
    """What is in the page is what the job wrote, escape sequences and all."""
    complaints.allow("Failed to load resource|NetworkError|ERR_|network")
    queue = stack.queue()
    job = queue.enqueue("tests.pane_jobs.steadily", 50 * seconds, 50, str(tmp_path / "kept"))
    with stack.worker(queue):
        stack.wait_for(job, "started")
        pane = PanePage(page, unreliable.url).open(job.id)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            page.wait_for_timeout(200)
            unreliable.cut()
        stack.wait_for(job, "finished", timeout=60)
        pane.until("pane.log.over", 40)
    written = (tmp_path / "kept").read_text()
    assert pane.ask(TEXT) == re.sub(r"\x1b\[\d+m", "", written)
    assert unreliable.cuts > 200 / 60 * seconds
    assert stack.get(f"/jobs/{job.id}/log?follow=0").body == written.encode()


def test_it_says_that_the_connection_is_lost_and_that_it_is_back(page, server, complaints):
    """A banner counts down to the next try, which can be made at once; the lines stay, and none is missing."""
    complaints.allow("Failed to load resource|NetworkError|ERR_|network")
    port = free_port()
    with contextlib.ExitStack() as held:
        stop, log, pane = _served(held, server, port, page)
        log.write(b"before\n")
        pane.open(log.job_id).shows("before")
        stop.close()
        pane.until("!pane.notices.banner.hidden && pane.notices.banner.textContent.includes('Next try in')")
        assert pane.rows() == ["before"]
        log.write(b"meanwhile\n")
        held.enter_context(web_process(server.url, "-b", f"127.0.0.1:{port}"))
        pane.ask("pane.notices.banner.querySelector('.now').click()")
        pane.shows("meanwhile")
        pane.until("pane.notices.banner.textContent.includes('No line is missing')")
        assert pane.rows() == ["before", "meanwhile"]


def _served(held, server, port, page):
    """A web process on that port that can be ended by itself, a log, and a page on it."""
    web = contextlib.ExitStack()
    held.callback(web.close)
    web.enter_context(web_process(server.url, "-b", f"127.0.0.1:{port}"))
    connection = held.enter_context(connect(server.url))
    log = Written(LogStore(connection))
    log.rq_job(connection, "started")
    return web, log, PanePage(page, f"http://127.0.0.1:{port}")


def test_it_survives_a_restart_of_redis(page, complaints):
    """Lines written before and after are there, once each."""
    complaints.allow("Failed to load resource|NetworkError|ERR_|network|503")
    with contextlib.ExitStack() as held:
        server = held.enter_context(EmbeddedServer(extra=("--appendonly", "yes", "--appendfsync", "always")))
        _, log, pane = _served(held, server, free_port(), page)
        log.write(b"before\n")
        pane.open(log.job_id).shows("before")
        server.stop(signal.SIGKILL)
        server.start()
        log.write(b"after\n")
        pane.shows("after", 20)
        assert pane.rows() == ["before", "after"]


def test_seven_tabs_of_one_browser_all_get_their_lines(new_page, stack):
    """A browser opens six connections to a server; tabs without one ask now and then."""
    log = Written(stack.store)
    log.rq_job(stack.connection, "started")
    log.write(b"first\n")
    first = new_page()
    tabs = [PanePage(first, stack.web)] + [PanePage(first.context.new_page(), stack.web) for _ in range(6)]
    for tab in tabs:
        tab.open(log.job_id).shows("first")
        stack.store.keep_alive(log.job_id, 1)  # to open all takes longer, at times, than a worker may be silent
    log.write(b"second\n")
    for tab in tabs:
        tab.shows("second")
    states = [tab.ask("pane.log.stream.connection.state") for tab in tabs]
    assert states.count("live") <= 4
    log.end("finished")


def test_a_stream_that_falls_silent_is_given_up(page, stack, unreliable, complaints):
    """As after a laptop's sleep: nothing was closed, nothing is heard. The next stream goes on where it was."""
    complaints.allow("Failed to load resource|NetworkError|ERR_|network")
    log = Written(stack.store)
    log.rq_job(stack.connection, "started")
    log.write(b"before\n")
    pane = PanePage(page, stack.web).open(log.job_id).shows("before")
    pane.until("pane.log.stream.connection.state === 'live'")
    pane.ask("(pane.log.stream.heardAt = -1e6, pane.log.stream.checkAlive())")
    assert pane.ask("pane.log.stream.connection.state") == "waiting"
    log.write(b"after\n")
    pane.shows("after")
    assert pane.rows() == ["before", "after"]
    log.end("finished")


def test_it_tries_less_often_while_the_server_says_only_that_it_cannot(page, stack):
    """An answer that is nothing but an error is none: neither is the page connected, nor may all pages hurry back."""
    log = Written(stack.store)
    log.rq_job(stack.connection, "started")
    log.write(b"before\n")
    pane = PanePage(page, stack.web).open(log.job_id).shows("before")
    about = f'event: job\ndata: {{"job":"{log.job_id}"}}\n\n'
    cannot = f'retry: 3000\n\n{about}event: error\ndata: {{"status":503,"title":"away"}}\n\n'
    page.route("**/logs?*", lambda route: route.fulfill(status=200, content_type="text/event-stream", body=cannot))
    pane.ask("(pane.log.stream.again('a test'), globalThis.told = new Set(), 0)")
    pane.ask("void pane.log.stream.watchers.add(({ state }) => told.add(state))")
    pane.until("pane.log.stream.retryMs >= 2000")
    assert pane.ask("[...told]") == ["connecting", "waiting"]
    page.unroute("**/logs?*")
    pane.ask("void (pane.log.stream.timer = setTimeout(() => pane.log.stream.connect()))")
    log.write(b"after\n")
    pane.shows("after").until("pane.log.stream.connection.state === 'live' && pane.log.stream.retryMs === 0")
    log.end("finished")


def test_a_page_that_restarts_its_stream_at_once_takes_one_slot(page, stack):
    """Else it would keep others from theirs until it is closed."""
    log = Written(stack.store)
    log.rq_job(stack.connection, "started")
    pane = PanePage(page, stack.web).open(log.job_id)
    pane.until("pane.log.stream.connection.state === 'live'")
    with page.expect_response("**/logs?*"):
        pane.ask("(pane.log.stream.stop(), void pane.log.stream.connect(), pane.log.stream.restart())")
    pane.until("pane.log.stream.connection.state === 'live'")
    assert page.evaluate("async () => (await navigator.locks.query()).held.length") == 1
    log.end("finished")
