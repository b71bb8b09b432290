"""Fixtures for all tests. Every server is the test's own; none that happens to run here is ever touched."""

import contextlib
import os
import shutil
import signal
import sys
import uuid
from collections.abc import Generator, Iterator
from typing import TypeVar

import hypothesis
import pytest

from tailer import hub
from tailer.embedded import EmbeddedServer
from tests.browsers import browser_kind, browsers, complaints, new_page, page  # noqa: F401 (fixtures)
from tests.followers import Watchers
from tests.processes import MARK, leftovers, present, shared
from tests.stack import Stack
from tests.waiting import wait_until

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

IN_CI = os.environ.get("CI") == "true"


hypothesis.settings.register_profile("patient", deadline=None)  # a server's answer takes as long as it takes
hypothesis.settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    """Undo what changes how the processes that tests start behave, or makes each of them slower.

    Refuses a pytest in which pytest-xdist would not keep groups together, without a word: each process would set up
    by itself what they share.
    """
    if config.option.dist == "loadgroup" and not hasattr(pytest.Item, "_nodeid"):
        raise pytest.UsageError(f"pytest {pytest.__version__} tears the groups of pytest-xdist: see pyproject.toml")
    # Without compiled modules each of them compiles all of Tailer first, as long as importing it takes.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    # A shell that runs this in the background has Ctrl-C ignored, and so would the children.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_leftovers() -> Iterator[None]:
    """End and name what a test leaves running, and fail it: the next test must not meet it."""
    mark = uuid.uuid4().hex
    before = present()  # isn't the test's
    os.environ[MARK] = mark
    yield
    os.environ.pop(MARK)
    try:
        wait_until(lambda: not left(mark, before), 2)  # what was told to end may need a moment for it
    except AssertionError:
        named = left(mark, before)
        for pid in named:
            end(pid)
        if named:
            pytest.fail(f"left running: {named}")


def left(mark: str, before: set[int]) -> dict[int, str]:
    """Command lines by pid of what the test with this mark has left, without the servers that tests share."""
    return leftovers(mark, besides=before | shared)


def end(pid: int) -> None:
    """Kill a process, and reap it if it is our child. Does nothing if it is gone."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.fixture(autouse=True)
def plain_environment(no_leftovers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what would change how Tailer or a job behaves.

    PYTHONUNBUFFERED hides output that is lost in buffers, and any REDIS_URL is somebody's.
    """
    meddling = {"DYNO", "PORT", "PYTHONUNBUFFERED", "REDIS_URL", "WEB_CONCURRENCY"}
    for name in list(os.environ):
        if name in meddling or name.startswith(("TAILER_", "RQ_")):
            monkeypatch.delenv(name)


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    """A fresh, empty server for this test alone (60 ms), to be stopped, killed and restarted at will."""
    with EmbeddedServer() as fresh:
        yield fresh


@pytest.fixture(scope="session")
def redis7() -> Iterator[EmbeddedServer]:
    """A stock redis-server shared by the tests of this process: leave it running, expect others' keys in it."""
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server on PATH: run scripts/system-packages")
    with EmbeddedServer(binary="redis-server") as stock:
        shared.add(stock.pid)
        yield stock


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A Redis and a web process shared by the tests of this process: leave them running, expect others' keys."""
    with EmbeddedServer() as server, Stack.on(server.url) as whole:
        shared.update(leftovers(""))
        yield whole


@pytest.fixture
def watchers(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watchers]:
    """A hub on the test's own server, for followers without HTTP. Its thread ends soon after the last of them."""
    monkeypatch.setattr(hub, "IDLE_S", 0.1)
    held = Watchers(server.url)
    yield held
    held.close()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave Firefox to `pytest -m ""` where browsers do not differ: a page takes it twice as long as Chromium.

    It takes 13 s to start, so that one process runs all of its tests.
    """
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec and callspec.params.get("browser_kind") == "firefox":
            item.add_marker(pytest.mark.xdist_group("firefox"))
            if not item.get_closest_marker("engines"):
                item.add_marker(pytest.mark.whole)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a skipped test of a CI run a failure that names it: there, nothing may be missing."""
    report = yield
    return _no_skip(report)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Do the same for a module that is skipped as a whole."""
    report = yield
    return _no_skip(report)


def _no_skip(report: Report) -> Report:
    """The report, as a failure if it is a skip in CI. An expected failure is no skip."""
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"CI must not skip: {report.nodeid}: {reason}"
    return report
