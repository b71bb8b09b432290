"""The pane in a browser, as a test uses it: opened, read, and asked what it does."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from playwright.sync_api import Locator, Page
from rq.job import Job

from tests.stack import Stack
from tests.waiting import wait_until

PANE = "document.querySelectorAll('tailer-log')[{}].pane"


class Speaker:
    """A real job that writes what it is told, until it is told to end."""

    def __init__(self, job: Job, pipe: int) -> None:
        self.job = job
        self._pipe = pipe

    def _tell(self, **said: str) -> Self:
        os.write(self._pipe, json.dumps(said).encode() + b"\n")
        return self

    def out(self, text: str) -> Self:
        """Write to standard output, in pieces that fit into a pipe's atomic write."""
        for start in range(0, len(text), 500):
            self._tell(out=text[start : start + 500])
        return self

    def err(self, text: str) -> Self:
        """Write to standard error."""
        return self._tell(err=text)

    def fail(self, message: str) -> Self:
        """Raise an exception."""
        return self._tell(fail=message)

    def end(self) -> None:
        """Return from the job."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1


@contextlib.contextmanager
def speaking(stack: Stack, directory: Path, *arguments: str) -> Iterator[Speaker]:
    """Run a worker with such a job for the block; the job ends with it, if not before."""
    queue = stack.queue()
    path = directory / f"says-{queue.name}"
    os.mkfifo(path)
    job = queue.enqueue("tests.pane_jobs.repeat_after", str(path))
    with stack.worker(queue, *arguments):
        stack.wait_for(job, "started")
        speaker = Speaker(job, os.open(path, os.O_WRONLY))
        try:
            yield speaker
        finally:
            speaker.end()
            stack.wait_for(job, "finished", "failed")


class PanePage:
    """A page with panes. `index` is that of the pane that is asked."""

    def __init__(self, page: Page, web: str, index: int = 0) -> None:
        self.page = page
        self.web = web
        self.index = index

    @property
    def pane(self) -> Locator:
        """The pane's element."""
        return self.page.locator("tailer-log").nth(self.index)

    def open(self, job_id: str, more: str = "") -> Self:
        """Open a job's log, and return when the first part of it is there."""
        return self.go(f"/jobs/{job_id}{more}")

    def go(self, path: str) -> Self:
        """Open a page, and return when its pane has loaded what it shows first."""
        self.page.goto(self.web + path)
        return self.ready()

    def ready(self) -> Self:
        """Return when the pane has loaded what it shows first."""
        self.until("pane?.log.state === 'ready' && !pane.view.frame")
        return self

    def ask(self, expression: str) -> Any:
        """What an expression is, with the `pane` in it."""
        return self.page.evaluate(f"() => {{ const pane = {PANE.format(self.index)}; return {expression}; }}")

    def until(self, condition: str, timeout: float = 10) -> Self:
        """Return when a condition holds, with the `pane` in it."""
        found = PANE.format(self.index).replace("].pane", "]?.pane")
        self.page.wait_for_function(f"() => {{ const pane = {found}; return {condition}; }}", timeout=timeout * 1000)
        return self

    def rows(self) -> list[str]:
        """The texts of the rows that are to be seen when one scrolls, as they are in the page."""
        return self.ask("[...pane.view.lines.querySelectorAll('.r:not([hidden])')].map((row) => row.textContent)")

    def shows(self, text: str, timeout: float = 10) -> Self:
        """Return when a row with that text is in the page."""
        wanted = json.dumps(text)
        return self.until(
            f"pane && [...pane.view.lines.querySelectorAll('.r:not([hidden])')]"
            f".some((row) => row.textContent.includes({wanted}))",
            timeout,
        )

    def visible_lines(self) -> list[int]:
        """The numbers of the lines in sight."""
        return self.ask(
            "(() => { const box = pane.view.scroller.getBoundingClientRect();"
            " return [...pane.view.lines.querySelectorAll('.r:not([hidden])')].filter((row) => {"
            " const at = row.getBoundingClientRect(); return at.bottom > box.top + 1 && at.top < box.bottom - 1; })"
            ".map((row) => Number(row.firstChild.dataset.n)); })()"
        )

    def row(self, line: int) -> Locator:
        """The row of a line."""
        return self.pane.locator(f".r:has(> .n[data-n='{line}'])")

    def press(self, *keys: str) -> Self:
        """Press keys, one after the other, in the pane."""
        self.pane.locator(".scroller").focus()
        for key in keys:
            self.page.keyboard.press(key)
        return self


def hold(pane: PanePage, pattern: Any, *, answered: bool = False) -> Any:
    """Let the next answer to such a request wait until the test lets go of it; ``answered``: as it is by then.

    Returns a function that waits for the request, and returns what lets go of its answer.
    """
    late = []

    def keep(route):
        late.append((route, route.fetch() if answered else None))

    def come():
        wait_until(lambda: pane.page.evaluate("() => true") and late)
        route, answer = late[0]

        def let_go():
            with pane.page.expect_response(pattern):
                route.fulfill(response=answer) if answer else route.continue_()
            pane.page.evaluate("async () => (await fetch('/healthz')).text()")  # which is answered behind it
            return answer

        return let_go

    pane.page.route(pattern, keep, times=1)
    return come
