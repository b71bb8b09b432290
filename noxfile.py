"""The tests on each Python, with each version of RQ, and with the lowest versions that are allowed: `make matrix`.

A Python that is not in PATH is skipped, and said to be; pyenv shows several: `PYENV_VERSION=3.11.7:3.12.1`. Words
behind `--` are pytest's; `make matrix ONLY="-k 'rq and 3.12'"` chooses sessions.
"""

import re
import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"  # what is not installed is skipped, and said to be
nox.options.error_on_missing_interpreters = False
nox.options.stop_on_first_error = False

PROJECT = tomllib.loads(Path("pyproject.toml").read_text())
PYTHONS = nox.project.python_versions(PROJECT)
LOWEST_RQ = re.findall(r"rq>=([\d.]+)", " ".join(PROJECT["project"]["dependencies"]))[0]
RQS = {"rq-oldest": f"=={LOWEST_RQ}", "rq-2": ">=2,<3", "rq-3": ">=3,<4"}
"""The oldest that is allowed, and the newest of each major version."""

PYTEST = ["pytest", "-n", "3", "--dist", "loadgroup", "-rs"]
ELSEWHERE = [
    *(f"--ignore-glob=tests/{name}" for name in ("test_pane*.py", "test_site.py", "test_wheel.py", "test_supply.py")),
    "--deselect=tests/test_docs.py::test_the_readme_commands_work",
]
"""What says nothing of Python: the pane, by its JavaScript and browsers, and the project's own files."""
WORKERS = [
    f"tests/test_{name}.py"
    for name in ("rq_compatibility", "worker", "outcomes", "takeover", "end_to_end", "jobs", "listing", "console")
]
"""Where RQ's own hooks and words matter."""
BEFORE_RQ_3 = ["-k", "not Spawn"]
"""RQ 2 starts its own class in a spawned horse, whatever the worker's is: there is no SpawnWorker of ours for it."""
BEFORE_FORKSERVER = ["-k", "not Spawn and not pool and not schedule and not interval"]
"""RQ's oldest cannot start its pool and its scheduler as Python starts processes from 3.14 on."""


def prepare(session: nox.Session, *more: str) -> None:
    """Install what is locked, then Tailer, then what the session is about."""
    session.install("--require-hashes", "-r", "requirements-dev.txt")
    session.install("--no-deps", "-e", ".")
    session.install("pip")  # some tests run it, and uv leaves it out
    if more:
        session.install(*more)
    session.run("python", "-c", "import platform, rq; print('Python', platform.python_version(), 'RQ', rq.VERSION)")


@nox.session(python=PYTHONS)
def everything(session: nox.Session) -> None:
    """All tests but the browsers', with the locked versions."""
    prepare(session)
    session.run(*PYTEST, *ELSEWHERE, *session.posargs)


@nox.session(python=PYTHONS)
@nox.parametrize("rq", list(RQS.values()), ids=list(RQS))
def workers(session: nox.Session, rq: str) -> None:
    """The tests of the workers, with one version of RQ."""
    prepare(session, f"rq{rq}")
    older = [] if rq == RQS["rq-3"] else BEFORE_RQ_3
    if rq == RQS["rq-oldest"] and session.python not in {"3.11", "3.12", "3.13"}:
        older = BEFORE_FORKSERVER
    session.run(*PYTEST, "-m", "", *WORKERS, *older, *session.posargs)


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """All tests but the browsers', with the lowest versions that pyproject.toml allows."""
    lock = Path(session.create_tmp()) / "lowest.txt"
    resolve = ["pip", "compile", "--quiet", "--resolution", "lowest-direct", "--extra", "archive", "pyproject.toml"]
    session.run_install("uv", *resolve, "--output-file", str(lock), external=True)
    prepare(session, "-r", str(lock))
    # gevent before 26.5 and greenlet 3.5 print an "Exception ignored" when a process ends; else they do as they should.
    session.install("greenlet<3.5")
    session.run(*PYTEST, *ELSEWHERE, *BEFORE_RQ_3, *session.posargs)
