"""What a release says of itself agrees: one version, its changes, its licence."""

import datetime as dt
import re
import tomllib
from pathlib import Path

import yaml

from tailer import __version__
from tests.stack import ROOT

CHANGES = (ROOT / "CHANGELOG.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
KINDS = ["Security", "Removed", "Deprecated", "Added", "Changed", "Fixed"]


def versions():
    """The headings of the changes, newest first: version and date of each."""
    first, *released = re.findall(r"^## (.*)$", CHANGES, re.MULTILINE)
    assert first == "Unreleased"
    return [heading.split(" - ") for heading in released]


def test_the_version_is_the_same_everywhere():
    """The package, the newest entry of the changes and the description of the routes name one version."""
    described = yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text())

    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "tailer.__version__"}
    assert versions()[0][0] == described["info"]["version"] == __version__


def test_the_changes_have_the_shape_that_people_know():
    """Versions go down and have their days; below them are kinds of changes, in one order, with a line for each."""
    numbers = [tuple(map(int, number.split("."))) for number, _ in versions()]
    days = [dt.date.fromisoformat(day) for _, day in versions()]
    assert numbers == sorted(set(numbers), reverse=True)
    assert days == sorted(days, reverse=True)
    for entry in re.split(r"^## ", CHANGES, flags=re.MULTILINE)[1:]:
        kinds = re.findall(r"^### (.*)$", entry, re.MULTILINE)
        assert kinds == [kind for kind in KINDS if kind in kinds], entry.partition("\n")[0]
        for line in entry.splitlines()[1:]:
            assert re.match(r"(- .*|### .*|)$", line), line


def test_the_pythons_are_those_that_are_tried():
    """The oldest Python of the metadata is the one that is required; lint and types are for it."""
    pythons = [name.rpartition(" ")[2] for name in PROJECT["project"]["classifiers"] if re.search(r":: 3\.\d+$", name)]

    assert PROJECT["project"]["requires-python"] == f">={pythons[0]}"
    assert PROJECT["tool"]["mypy"]["python_version"] == pythons[0]
    assert PROJECT["tool"]["ruff"]["target-version"] == "py" + pythons[0].replace(".", "")


def test_what_was_tried_has_a_row_for_each_python():
    """The table of what Tailer runs on names the Pythons of the metadata, and the oldest RQ that is allowed."""
    page = (ROOT / "docs" / "operations.md").read_text().partition("## What it runs on")[2].partition("\n## ")[0]
    pythons = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["project"]["classifiers"]))
    lowest = re.findall(r"rq>=([\d.]+)", " ".join(PROJECT["project"]["dependencies"]))[0]

    assert re.findall(r"^\| (3\.\d+)", page, re.MULTILINE) == pythons
    assert re.search(rf"^\| Python \| RQ {re.escape(lowest)}\b", page, re.MULTILINE)


# The page for those who change it.

PAGE = (ROOT / "CONTRIBUTING.md").read_text()
MODULES = sorted(
    str(path.relative_to(ROOT)) for package in ("tailer", "worker") for path in (ROOT / package).glob("*.py")
)


def test_each_module_is_on_the_page_for_contributors():
    """The tables of the house name each module of the two packages, with its subject, and no other one."""
    named = re.findall(
        r"^\| `((?:tailer|worker)/\w+\.py)` \| \S", PAGE.partition("## Where a new thing goes")[0], re.MULTILINE
    )

    assert sorted(named) == MODULES


def test_the_way_of_a_line_leads_through_modules_that_are_there():
    """Each lower-case word of the picture that an arrow touches is a module's name."""
    picture = PAGE.partition("```text\n")[2].partition("```")[0]
    around = re.findall(r"([a-z]\w*)(?= ─►| ═)|(?<=─► )([a-z]\w*)", picture)

    assert len(around) > 12
    names = {Path(module).stem for module in MODULES}
    assert {one or other for one, other in around} - {"pipe", "list", "wake", "the"} <= names


def test_all_that_the_page_for_contributors_names_is_there():
    """Files, folders and targets that it names exist."""
    for name in re.findall(r"`([\w./-]+/[\w./-]*)`", PAGE):
        if not re.search(r"[A-Z]", name):  # tests/test_MODULE.py stands for many
            assert (ROOT / name).exists() or name.startswith("build/"), name
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"`make (\w+)`", PAGE)) <= targets
