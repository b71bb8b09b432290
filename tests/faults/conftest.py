"""The fault suite's fixture, and its table: `--publish` writes it into docs/guarantees.md."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.table import Row, publish
from tests.faults.trial import Trial


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ours; it is known only where this folder is named on the command line."""
    parser.addoption("--publish", action="store_true", help="write the table of faults into docs/guarantees.md")


@pytest.fixture
def trial(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Trial]:
    """A trial of the fault that the test's docstring names, in the group that its module names; test_GROUP_faults."""
    group = request.module.__name__.rpartition(".")[2].removeprefix("test_").removesuffix("_faults")
    fault = request.function.__doc__.partition("\n")[0].removesuffix(".")
    made = request.node.user_properties  # which pytest brings to where the table is written
    whole = request.config.getoption("publish", default=False)
    with contextlib.ExitStack() as held:
        yield Trial(group, fault, tmp_path, held, lambda row: made.append(("fault", row.as_dict())), whole=whole)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Publish the rows of all faults that were tried, in whichever process."""
    if terminalreporter.config.getoption("publish", default=False):
        passed = terminalreporter.stats.get("passed", [])
        rows = [row for report in passed for name, row in report.user_properties if name == "fault"]
        publish([Row.of(row) for row in rows])
