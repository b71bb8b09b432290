"""What is installed is what was looked at: locked versions, and a hash for every file."""

import json
import re
import tomllib

import pytest

from tests.stack import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("requirements.txt", "requirements-dev.txt")


def locked(name):
    """The requirements of a lock: each one's name, and all that stands with it."""
    lines = (ROOT / name).read_text().replace("\\\n", "")
    found = [line for line in lines.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return {re.split(r"[=<>\[ ]", line)[0]: line for line in found}


def names(requirements):
    """The names of requirements, as a lock writes them."""
    return {re.split(r"[=<>\[; ]", requirement)[0].lower().replace("_", "-") for requirement in requirements}


@pytest.mark.parametrize("name", LOCKS)
def test_every_dependency_is_locked_with_hashes(name):
    """Each line of a lock names one version and the SHA-256 of its files; no index is named: any may serve them."""
    requirements = locked(name)
    assert len(requirements) > 10
    for line in requirements.values():
        assert re.match(r"[a-z0-9.-]+==[^ ;]+ ", line), line
        assert re.search(r"--hash=sha256:[0-9a-f]{64}(?: |$)", line), line
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links|--trusted-host", (ROOT / name).read_text())


def test_the_locks_have_all_that_the_project_names():
    """What is used in deploys is in both, in the same version; what tests and checks use as well, in the second one."""
    deploys, people = map(locked, LOCKS)
    groups = [one for group in PROJECT["dependency-groups"].values() for one in group]
    assert names(PROJECT["project"]["dependencies"]) <= deploys.keys()
    assert names(groups) <= people.keys()
    for name, line in deploys.items():
        assert people[name].split()[0] == line.split()[0]


def test_what_make_installs_is_checked_against_the_locks():
    """The Makefile asks pip to refuse what has no hash, and npm to install what its lock says, without any script."""
    makefile = (ROOT / "Makefile").read_text()
    assert "install --require-hashes -r requirements-dev.txt" in makefile
    assert "ci --ignore-scripts" in makefile
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    assert all(package["integrity"].startswith("sha512-") for path, package in packages.items() if path)
