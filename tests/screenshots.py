"""`make screenshots`: pictures of the pane on the real stack, with real jobs, into docs/images.

Each is of Chromium. What a picture waits for is a condition of the page, as in the tests.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import rq
from playwright.sync_api import Browser, Page
from rq.job import Job

from tailer.embedded import EmbeddedServer
from tests.browsers import Browsers
from tests.panes import PanePage
from tests.stack import ROOT, Stack

IMAGES = ROOT / "docs" / "images"
WIDE, NARROW = (1280, 760), (390, 780)
MILLION = 1_000_000


class Shop:
    """The jobs that are in the pictures."""

    def __init__(self, stack: Stack, held: contextlib.ExitStack, scratch: Path) -> None:
        self._stack = stack
        self._held = held
        self._queue = rq.Queue("default", connection=stack.connection)
        self._gate = str(scratch / "go on")
        # One after the other, so that each has its place in the list.
        self.audit = self._run("audit", "shop.audit.replay(2026)", MILLION)
        self.report = self._run("nightly_report", "shop.reports.nightly_report('2026-11-23')")
        self.failed = self._run("price_import", "shop.prices.price_import('prices.csv')")
        self.newsletter = self._start("newsletter", "shop.mail.newsletter(48)", "bounced")
        self.thumbnails = self._start("thumbnails", "shop.media.thumbnails('2026-11')", "00040.jpg")
        self.sync = self._start("sync_orders", "shop.orders.sync_orders(since='2026-11-23')", "2127/3432")
        self.queued = self._wait_in_line()

    def _enqueue(self, function: str, description: str, *arguments: object) -> Job:
        return self._queue.enqueue(f"tests.picture_jobs.{function}", *arguments, description=description)

    def _work(self, *arguments: str) -> contextlib.AbstractContextManager[object]:
        return self._stack.worker(self._queue, *arguments, env={"TAILER_CONSOLE": "0", "TAILER_KEEP_TAIL": "1GiB"})

    def _run(self, function: str, description: str, *arguments: object) -> Job:
        job = self._enqueue(function, description, *arguments)
        with self._work("--burst"):
            self._stack.wait_for(job, "finished", "failed", timeout=60)
            self._stack.log(job.id)
        return job

    def _start(self, function: str, description: str, until: str) -> Job:
        job = self._enqueue(function, description, self._gate)
        self._held.enter_context(self._work())
        self._held.callback(Path(self._gate).touch)
        self._stack.wait_for_output(job.id, until.encode())
        return job

    def _wait_in_line(self) -> Job:
        jobs = [self._enqueue("nightly_report", f"shop.reports.monthly_report('2026-{month}')") for month in (8, 9, 10)]
        return jobs[-1]


@contextlib.contextmanager
def _shop() -> Iterator[tuple[str, Shop]]:
    """Run everything for the block; yields the web side's URL and the jobs."""
    with contextlib.ExitStack() as held:
        scratch = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="tailer-pictures-")))
        stack = held.enter_context(Stack.on(held.enter_context(EmbeddedServer()).url))
        yield stack.web, Shop(stack, held, scratch)


@contextlib.contextmanager
def _page(browser: Browser, size: tuple[int, int], *, dark: bool) -> Iterator[Page]:
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light", timezone_id="UTC"
    )
    context.set_default_timeout(15_000)
    try:
        yield context.new_page()
    finally:
        context.close()


def main() -> None:
    """Take all pictures, or those that are named."""
    IMAGES.mkdir(exist_ok=True)
    wanted = set(sys.argv[1:])
    browsers = Browsers()
    with browsers.awake(), _shop() as (web, shop):
        try:
            for name, size, dark, arrange in _pictures(shop):
                if wanted and name not in wanted:
                    continue
                with _page(browsers.get("chromium"), size, dark=dark) as page:
                    arrange(PanePage(page, web))
                    page.wait_for_timeout(700)  # for what changes by itself: the map, the list's clock, transitions
                    page.screenshot(path=IMAGES / f"{name}.png")
                print(f"docs/images/{name}.png")
        finally:
            browsers.close()


def _pictures(shop: Shop) -> list[tuple[str, tuple[int, int], bool, Callable[[PanePage], object]]]:
    def listed(pane: PanePage) -> PanePage:
        pane.page.get_by_text("sync_orders").first.wait_for()
        return pane

    def running(pane: PanePage) -> None:
        listed(pane.open(shop.sync.id).shows("2127/3432"))

    def failed(pane: PanePage) -> None:
        listed(pane.open(shop.failed.id).shows("ValueError"))

    def queued(pane: PanePage) -> None:
        listed(pane.open(shop.queued.id))

    def searching(pane: PanePage) -> None:
        pane.open(shop.newsletter.id, "?q=customer+%5Cd%2B&re=1").until(
            "pane.finder.element.querySelector('.count').textContent"
        )
        pane.pane.get_by_label("Next match").click()
        listed(pane)

    def million(pane: PanePage) -> None:
        pane.open(shop.audit.id, "?t=rel#L734112-L734115").until("pane.element.querySelector('.marked')")
        listed(pane)

    def four(pane: PanePage) -> None:
        jobs = (shop.sync, shop.thumbnails, shop.failed, shop.newsletter)
        pane.go("/view?" + "&".join(f"job={job.id}" for job in jobs))
        for index in range(len(jobs)):
            PanePage(pane.page, pane.web, index).ready()
        listed(pane)

    def merged(pane: PanePage) -> None:
        pane.page.goto(f"{pane.web}/view?queue=default")
        pane.page.locator("tailer-merged .tag.c2").first.wait_for()
        pane.page.mouse.move(800, 400)
        pane.page.mouse.wheel(0, -340)  # to where one job's lines follow another's
        listed(pane)

    def small(pane: PanePage) -> None:
        pane.open(shop.failed.id).shows("ValueError")

    def drawer(pane: PanePage) -> None:
        pane.open(shop.sync.id).shows("2127/3432")
        pane.page.get_by_role("button", name="Jobs", exact=True).click()
        listed(pane)

    def filtering(pane: PanePage) -> None:
        listed(pane.open(shop.newsletter.id, "?level=warning&context=1").until("pane.filter.on"))

    def keys(pane: PanePage) -> None:
        pane.open(shop.sync.id).shows("2127/3432").press("?")

    return [
        ("running-light", WIDE, False, running),
        ("running-dark", WIDE, True, running),
        ("failed-light", WIDE, False, failed),
        ("failed-dark", WIDE, True, failed),
        ("queued", WIDE, False, queued),
        ("search", WIDE, True, searching),
        ("filter", WIDE, False, filtering),
        ("million", WIDE, False, million),
        ("four", (1600, 900), True, four),
        ("queue-dark", WIDE, True, merged),
        ("narrow-light", NARROW, False, small),
        ("narrow-dark", NARROW, True, drawer),
        ("keys", WIDE, False, keys),
    ]


if __name__ == "__main__":
    main()
