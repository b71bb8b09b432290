"""Stock Chromium and Firefox ESR for tests of pages, driven by Playwright; no build of its own is downloaded.

A test that asks for `page` runs in Chromium, with nothing kept from the test before. Where browsers may differ, in what
they scroll, copy, mark, store or stream, it is marked `engines` and runs in Firefox too; `pytest -m ""` runs all in
both. It fails if the page throws, logs an error or breaks its Content-Security-Policy, unless that was allowed::

    @pytest.mark.engines
    def test_it(page, complaints, stack):
        complaints.allow("503")
        page.goto(stack.web)
        page.keyboard.press("End")

A dark page and the like are asked for when it is made: `new_page(dark=True)`; `page.emulate_media` does nothing in
Firefox. What `page.wait_for_function` is given must be a function, "() => x > 3": a policy forbids to eval expressions.
A test for one browser says `@pytest.mark.parametrize("browser_kind", ["chromium"], indirect=True)`.
"""

import asyncio
import contextlib
import re
import shutil
from collections.abc import Iterator
from typing import Any, Protocol
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Playwright, WebError, sync_playwright

from tests.processes import MARK, leftovers, shared

PROGRAMS = {"chromium": "chromium", "firefox": "firefox-esr"}  # kind: program on PATH, and its Debian package

# Playwright drives a stock Firefox by WebDriver BiDi. It always sends one command that Firefox 153 hasn't got yet; its
# driver (a Node program) is made to read "unknown command" as "done". With a Firefox that has it this changes nothing.
_SHIM = """
const parse = JSON.parse;
JSON.parse = (text, reviver) => {
  const message = parse(text, reviver);
  const lacks = message?.error === "unknown command" && message.message === "emulation.setMediaFeaturesOverride";
  return lacks ? { type: "success", id: message.id, result: {} } : message;
};
"""

# The style "body {}", which Playwright puts into the page and takes out again before it takes a picture in Firefox.
_PLAYWRIGHTS_OWN = "sha256-YjaKGiklmzC6wjXA513HAMmzus8VE61XCOT+SmwNZWA="


class Browsers:
    """The browsers of this process, each started when it is first asked for (Chromium 0.4 s, Firefox 2 s)."""

    def __init__(self) -> None:
        self._playwright: Playwright | None = None
        self._running: dict[tuple[str, bool, bool], Browser] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """Use them in this block only. Outside of it Playwright's event loop isn't this thread's: tests may run one."""
        asyncio._set_running_loop(self._loop)
        try:
            yield
        finally:
            self._loop = asyncio._get_running_loop()
            asyncio._set_running_loop(None)

    def get(self, kind: str, *, dark: bool = False, still: bool = False) -> Browser:
        """The browser of that kind; `dark` and `still` are for Firefox, which takes them from its profile only."""
        program = shutil.which(PROGRAMS[kind])
        if program is None:
            pytest.skip(f"no {PROGRAMS[kind]} on PATH: run scripts/system-packages")
        key = (kind, dark, still)
        if key not in self._running:
            self._playwright = self._playwright or _start()
            self._running[key] = _launch(self._playwright, program, *key)
        return self._running[key]

    def close(self) -> None:
        """End them all."""
        for browser in self._running.values():
            browser.close()
        if self._playwright:
            self._playwright.stop()


class Complaints:
    """What a test's pages have complained of: errors on the console, uncaught exceptions, breaches of their policy."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._allowed: list[str] = []

    def allow(self, pattern: str) -> None:
        """Let the test pass with complaints in which this regular expression is found."""
        self._allowed.append(pattern)

    def unallowed(self) -> list[str]:
        """The complaints that nobody has allowed."""
        return [text for text in self.seen if not any(re.search(pattern, text) for pattern in self._allowed)]

    def heed(self, page: Page) -> None:
        """Note what this page and those that it opens complain of from now on."""

        def on_console(message: ConsoleMessage) -> None:
            if message.type == "error":  # Chromium's breaches of policy, too; Firefox's are page errors
                self.seen.append(f"console: {message.text}")

        def on_error(error: WebError) -> None:
            if _PLAYWRIGHTS_OWN not in str(error.error):
                self.seen.append(f"error: {error.error}")

        page.context.on("console", on_console)
        page.context.on("weberror", on_error)


class NewPage(Protocol):
    """The type of the fixture `new_page`."""

    def __call__(self, *, dark: bool = False, still: bool = False, **options: Any) -> Page:
        """A page in a context of its own. `still`: reduced motion; `options` are those of Playwright's contexts."""


@pytest.fixture(scope="session")
def browsers() -> Iterator[Browsers]:
    """The browsers that the tests of this process share."""
    held = Browsers()
    yield held
    with held.awake():
        held.close()


@pytest.fixture(params=PROGRAMS)
def browser_kind(request: pytest.FixtureRequest) -> str:
    """The browser that the test is run in: it is run once in each."""
    return request.param


@pytest.fixture
def complaints() -> Complaints:
    """What the test's pages complain of; what it doesn't allow fails it at its end."""
    return Complaints()


@pytest.fixture
def new_page(browsers: Browsers, browser_kind: str, complaints: Complaints) -> Iterator[NewPage]:
    """Make pages, each in a context of its own: no page knows another one's storage."""
    pages: list[Page] = []

    def new_page(*, dark: bool = False, still: bool = False, **options: Any) -> Page:
        wanted: dict[str, Any] = {"viewport": {"width": 1000, "height": 700}, "timezone_id": "UTC"}
        if browser_kind == "chromium":
            browser = browsers.get(browser_kind)
            wanted["color_scheme"] = "dark" if dark else "light"
            wanted["reduced_motion"] = "reduce" if still else "no-preference"
        else:
            browser = browsers.get(browser_kind, dark=dark, still=still)
        context = browser.new_context(**{**wanted, **options})
        context.set_default_timeout(10_000)
        page = context.new_page()
        complaints.heed(page)
        pages.append(page)
        return page

    with browsers.awake():
        try:
            yield new_page
            for page in pages:
                _hear(page)
        finally:
            for page in pages:
                page.context.close()
    if unallowed := complaints.unallowed():
        pytest.fail("the page complained:\n" + "\n".join(unallowed))


@pytest.fixture
def page(new_page: NewPage) -> Page:
    """A fresh page of 1000 x 700 pixels, light and with motion, whose time zone is UTC."""
    return new_page()


def clipboard(page: Page) -> str:
    """The text in the clipboard, by pasting it into another page: reading it takes a permission, pasting doesn't."""
    with page.context.new_page() as other:
        other.set_content("<textarea autofocus></textarea>")
        other.locator("textarea").press("ControlOrMeta+v")
        return other.locator("textarea").input_value()


def _hear(page: Page) -> None:
    """Let the complaints come that are still on their way: they are told before the page's answer to a question."""
    with contextlib.suppress(Error):  # the test has closed it
        page.evaluate("0")


def _start() -> Playwright:
    """Start Playwright's driver, which outlives the test that is the first to need it."""
    before = leftovers("").keys()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(MARK, raising=False)  # the browsers will have this environment: they aren't the test's
        patch.setenv("NODE_OPTIONS", f"--import=data:text/javascript,{quote(_SHIM)}")
        started = sync_playwright().start()
    shared.update(leftovers("").keys() - before)
    return started


def _launch(playwright: Playwright, program: str, kind: str, dark: bool, still: bool) -> Browser:
    """Start a browser without a window."""
    if kind == "chromium":
        # A name that is not this machine's, so that a page may come from where browsers trust less than localhost.
        rules = "--host-resolver-rules=MAP elsewhere.test 127.0.0.1"
        return playwright.chromium.launch(executable_path=program, args=[rules])
    preferences = {
        "layout.css.prefers-color-scheme.content-override": int(not dark),
        "ui.prefersReducedMotion": int(still),
    }
    return playwright.firefox.launch(channel="moz-firefox", executable_path=program, firefox_user_prefs=preferences)
