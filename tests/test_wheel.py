"""The wheel and the sdist: what is in them, and that the wheel works where there is no checkout."""

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
import redis
import rq

from tailer import __version__
from tests.processes import free_port, running
from tests.stack import ROOT, clean, curl

NOT_SHIPPED = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")
JOB = """\
import os, sys

def job():
    print("from a job", flush=True)
    os.system("echo from a child >&2")
    return "result"
"""


pytestmark = pytest.mark.xdist_group("wheel")  # it is built once


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The project's sdist, and the wheel that is built from it, in a folder of their own.

    They are built from a copy: a build in the checkout would take in what earlier ones left there.
    """
    source = tmp_path_factory.mktemp("source") / "project"
    shutil.copytree(ROOT, source, ignore=NOT_SHIPPED)
    out = source.parent / "dist"
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source]
    done = subprocess.run(build, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture
def wheel(dist):
    """The wheel."""
    (built,) = dist.glob("*.whl")
    return built


def test_an_index_would_take_them(dist):
    """The checks of those who publish find nothing: metadata that can be read, a page that can be shown, no stray."""
    files = sorted(dist.iterdir())
    assert [path.name for path in files] == [
        f"rq_tailer-{__version__}-py3-none-any.whl",
        f"rq_tailer-{__version__}.tar.gz",
    ]
    for check in (["twine", "check", "--strict", *files], ["check_wheel_contents", files[0]]):
        done = subprocess.run(
            [sys.executable, "-m", *check], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_sdist_holds_what_people_read_and_no_tests(dist):
    """An sdist has the licence, the changes and the documents beside the packages, and none of what tests them."""
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "CHANGELOG.md", "README.md", "docs/protocol.md", "docs/images/running-dark.png"} <= names
    assert {name.partition("/")[0] for name in names if "/" in name} == {
        "deploy",
        "docs",
        "rq_tailer.egg-info",
        "tailer",
        "worker",
    }


def test_the_wheel_holds_the_two_packages_and_nothing_else(wheel):
    """A wheel has all of `tailer` and `worker`, pages and their files too, and its metadata; and no test or tool."""
    names = set(zipfile.ZipFile(wheel).namelist())
    metadata = {name for name in names if name.startswith(f"rq_tailer-{__version__}.dist-info/")}
    paths = [path for package in ("tailer", "worker") for path in (ROOT / package).rglob("*") if path.is_file()]
    ours = {str(path.relative_to(ROOT)) for path in paths if "__pycache__" not in path.parts}
    assert {"tailer/static/app.js", "tailer/templates/tailer/login.html", "worker/py.typed"} <= ours
    assert names - metadata == ours
    assert {path.suffix for path in paths if "__pycache__" not in path.parts} == {
        ".py",
        ".typed",
        ".js",
        ".css",
        ".html",
    }
    files = {name.partition("/")[2] for name in metadata}
    assert files == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt"}


def test_the_wheel_names_what_it_needs(wheel):
    """Whoever installs the wheel gets the dependencies of pyproject.toml, under the name `rq-tailer`."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = message_from_bytes(archive.read(f"rq_tailer-{__version__}.dist-info/METADATA"))
    assert (metadata["Name"], metadata["License-Expression"]) == ("rq-tailer", "MIT")
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    asked = [requirement for requirement in metadata.get_all("Requires-Dist") if "extra ==" not in requirement]
    needed = {requirement.split(";")[0].strip().replace(" ", "") for requirement in asked}
    assert {name.split("<")[0].split(">")[0] for name in needed} == {
        name.split("<")[0].split(">")[0] for name in wanted
    }


def test_a_job_can_be_followed_with_the_wheel_alone(wheel, server, tmp_path, monkeypatch):
    """In an empty environment, away from the checkout, the wheel's worker, web side and command do their work."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True, timeout=60)
    python = venv / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "--no-cache-dir"]
    subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", wheel], check=True, timeout=60)
    # The dependencies come from this test's own environment. A path file adds that folder without obeying the path
    # files in it, so an editable install of the checkout over there is not seen.
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(str(Path(pytest.__file__).parents[1]) + "\n")
    (tmp_path / "somejobs.py").write_text(JOB)
    where = subprocess.run(
        [python, "-c", "import tailer, worker; print(tailer.__file__, worker.__file__)"],
        cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60,
    ).stdout.split()  # fmt: skip
    assert [Path(path).parents[1] for path in where] == [site, site]
    said = subprocess.run(
        [venv / "bin" / "tailer", "--version"], check=True, capture_output=True, text=True, timeout=60
    )
    assert said.stdout == f"tailer, version {__version__}\n"

    queue = rq.Queue("wheel", connection=redis.Redis.from_url(server.url))
    job = queue.enqueue("somejobs.job")
    address = f"127.0.0.1:{free_port()}"
    env = {"REDIS_URL": server.url}
    web = clean([python, "-m", "gunicorn", "-b", address, "-k", "gevent", "tailer.web:create_app()"])
    work = clean([python, "-m", "worker", "--burst", "wheel"])
    with (
        running(web, env=env, cwd=tmp_path, ready="Booting worker"),
        curl(f"http://{address}/jobs/{job.id}/log", "--retry", "20", "--retry-connrefused", "-m", "30") as client,
        running(work, env=env, cwd=tmp_path) as worker,
    ):
        assert worker.wait(30) == 0, worker.text()
        assert client.wait(30) == 0, client.head
        assert sorted(client.body.splitlines()) == [b"from a child", b"from a job"]
        assert job.get_status(refresh=True) == "finished"
        for place in ([], ["--url", f"http://{address}"]):
            follow = clean([venv / "bin" / "tailer", "follow", *place, job.id])
            with running(follow, env=env, cwd=tmp_path) as command:
                assert command.wait(30) == 0, command.text()
                assert command.stdout() == client.body
