"""The documents tell the truth: what there is, is in them, and what they tell people to type, works."""

import ast
import contextlib
import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
import yaml

from tailer.cli import main
from tailer.errors import ExitCode, TailerError
from tailer.links import Links
from tailer.query import LOG_PARAMETERS
from tailer.records import OUTCOMES, End
from tailer.settings import Settings
from tailer.web import create_app
from tests.faults.table import GROUPS, published
from tests.processes import free_port, running
from tests.stack import BIN, ROOT, Stack, clean

OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
README = (ROOT / "README.md").read_text()
SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def variables() -> set[str]:
    """The environment variables that the settings are read from, as the source names them."""
    source = (ROOT / "tailer" / "settings.py").read_text()
    return set(re.findall(r'"((?:TAILER|RQ|REDIS|DEMO)_[A-Z_]+|DYNO|NO_COLOR)"', source))


@pytest.mark.parametrize("variable", sorted(variables()))
def test_every_setting_is_documented(variable):
    """Each environment variable that Tailer reads has a row in the table of settings."""
    assert re.search(rf"^\|[^|]*`{variable}`", OPERATIONS, re.MULTILINE)


def test_the_variables_are_all_of_the_settings():
    """No setting is read from a variable that the test above would not find."""
    unset = {field.name for field in dataclasses.fields(Settings)} - {"rq_url_given"}

    assert len(variables() - {"REDIS_URL"}) == len(unset)


def test_every_documented_setting_exists():
    """The table of settings names nothing that is not read."""
    table = OPERATIONS.partition("## Settings")[2].partition("\n## ")[0]
    named = {
        name for row in re.findall(r"^\|([^|]*)\|", table, re.MULTILINE) for name in re.findall("`([A-Z_]+)`", row)
    }

    assert named - {"PORT", "WEB_CONCURRENCY", "PROMETHEUS_MULTIPROC_DIR"} == variables()


def test_every_route_is_documented():
    """Each URL that is served is in the protocol."""
    rules = create_app(Settings()).url_map.iter_rules()

    for rule in rules:
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            route = f"{method} {rule.rule.replace('<job_id>', '<id>')}"
            assert f"`{route}`" in PROTOCOL or route == "GET /static/<path:filename>"


@pytest.mark.parametrize("parameter", sorted(LOG_PARAMETERS))
def test_every_parameter_is_documented(parameter):
    """Each parameter of a log's URL has its place in the table."""
    assert re.search(rf"^\|[^|]*`{parameter}`", PROTOCOL, re.MULTILINE)


@pytest.mark.parametrize("word", [*OUTCOMES, *(field.name for field in dataclasses.fields(End))])
def test_every_word_of_the_end_record_is_documented(word):
    """Each outcome, and each field of the end record, is in the protocol."""
    table = PROTOCOL.partition("### The end record")[2].partition("\n## ")[0]

    assert f"`{word}`" in table


@pytest.mark.parametrize("code", list(ExitCode))
def test_every_exit_code_is_documented(code):
    """Each exit code has its row."""
    assert re.search(rf"^\| {int(code)}\b", OPERATIONS.partition("## Exit codes")[2], re.MULTILINE)


def test_every_status_is_documented():
    """Each HTTP status that an error of ours stands for is in the protocol, unless clients never see it."""
    shown = {error.status for error in TailerError.__subclasses__()} - {500, 409, 502}

    for status in shown:
        assert re.search(rf"^\| (\d+, )?{status}\b", PROTOCOL, re.MULTILINE), status


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_has_help_with_examples(command):
    """`--help` of each command ends with examples that begin with its name."""
    shown = click.Context(main.commands[command], info_name=f"tailer {command}").get_help()

    assert f"tailer {command}" in shown.partition("Examples:")[2]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    """A link to another file of ours, or to a heading, leads to one that is there."""
    for target in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", document.read_text()):
        path = document.parent / target[0] if target[0] else document
        assert path.exists(), target
        if target[1]:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert target[1] in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


# What the README tells people to type.


def examples() -> list[str]:
    """The Python of the embedding page, block by block."""
    page = (ROOT / "docs" / "embedding.md").read_text()
    return re.findall(r"```python\n(.*?)```", page, re.DOTALL)


def ran(argv: list[str], env: dict[str, str] | None = None) -> str:
    """What a command of a few seconds prints; it must succeed."""
    environ = {**os.environ, **(env or {})}
    done = subprocess.run(argv, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, (argv, done.stdout, done.stderr)
    return done.stdout


def commands() -> list[str]:
    """Each line of the README's shell blocks."""
    return [line for block in SHELL.findall(README) for line in block.splitlines() if line.strip()]


def listening(process) -> bool:
    """Whether a worker says that it waits for jobs."""
    return "*** Listening on" in process.text()


@contextlib.contextmanager
def served(stack: Stack) -> Iterator[str]:
    """A finished job on the shared stack; yields its id."""
    queue = stack.queue()
    job = queue.enqueue("tests.jobs.hello")
    stack.work(queue)
    yield job.id


def finished(stack: Stack, command: str) -> str:
    """Run a command about a job that has ended, against the shared stack; returns its output."""
    with served(stack) as job_id:
        line = command.replace("JOB", job_id).replace("http://127.0.0.1:8000", stack.web)
        env = {**os.environ, "REDIS_URL": stack.url, "PATH": f"{BIN}:{os.environ['PATH']}"}
        return ran(shlex.split(line), env)


def check_follow(stack: Stack, command: str) -> None:
    """It shows what the job printed."""
    assert "hello" in finished(stack, command)


def check_jobs(stack: Stack, command: str) -> None:
    """It lists, and has nothing to say of failures where there are none of this status."""
    assert "JOB" in finished(stack, command).upper()


def check_worker(stack: Stack, command: str) -> None:
    """The worker starts and waits for jobs."""
    env = {"RQ_REDIS_URL": stack.url, "PATH": f"{BIN}:{os.environ['PATH']}"}
    with running(clean(shlex.split(command)), cwd=ROOT, env=env, ready=listening):
        pass


def check_serve(stack: Stack, command: str) -> None:
    """The web side answers, on a port of the test's own."""
    address = f"127.0.0.1:{free_port()}"
    first, *rest = shlex.split(command.replace("redis://127.0.0.1:6379/0", stack.url))
    name, _, value = first.partition("=")
    env = {name: value, "PATH": f"{BIN}:{os.environ['PATH']}"}
    with running(clean([*rest, "--bind", address]), env=env, cwd=ROOT, ready="Booting worker"):
        line = ["curl", "-s", "--retry", "5", "--retry-connrefused", f"http://{address}/readyz"]
        assert subprocess.run(line, capture_output=True, timeout=30, check=True).stdout == b"ok\n"


def check_run(stack: Stack, command: str) -> None:
    """The job runs with its arguments, and the command leaves as it did."""
    queue = stack.queue()
    line = command.replace("--queue default", f"--queue {queue.name}").replace(
        "mymodule.nightly_import", "builtins.print"
    )
    env = {"REDIS_URL": stack.url, "PATH": f"{BIN}:{os.environ['PATH']}"}
    with stack.worker(queue), running(clean(shlex.split(line)), env=env, cwd=ROOT) as process:
        assert process.wait(30) == 0
        assert "2026-11-23" in process.stdout().decode()


def check_target(stack: Stack, command: str) -> None:
    """The Makefile has the target, which runs what the README says; test_stack and CI run them for real."""
    target = command.split()[1]
    shown = subprocess.run(
        ["make", "-n", target], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    ).stdout

    assert {"demo": "tailer demo", "test": "pytest"}[target] in shown


def check_install(stack: Stack, command: str) -> None:
    """The distribution's name is the one that pyproject.toml gives; test_wheel installs it."""
    assert f'name = "{command.rsplit(maxsplit=1)[-1]}"' in (ROOT / "pyproject.toml").read_text()


CHECKS: list[tuple[str, Callable[[Stack, str], None]]] = [
    ("make ", check_target),
    ("pip install ", check_install),
    ("rq worker ", check_worker),
    ("REDIS_URL=", check_serve),
    ("curl ", check_follow),
    ("tailer follow ", check_follow),
    ("tailer jobs ", check_jobs),
    ("tailer run ", check_run),
]


@pytest.mark.parametrize("command", commands())
def test_the_readme_commands_work(stack, command):
    """What the README says to type does what it says; places and ids are the test's own."""
    check = next(check for start, check in CHECKS if command.startswith(start))

    check(stack, command)


def test_the_python_of_the_embedding_page_works(stack):
    """The examples that read a log, put together, print it."""
    reading = "".join(block for block in examples() if "LogStore" in block or "Hub" in block)
    with served(stack) as job_id:
        code = f"from types import SimpleNamespace\njob = SimpleNamespace(id={json.dumps(job_id)})\n{reading}"
        code = code.replace("redis://127.0.0.1:6379/0", stack.url)
        printed = ran([sys.executable, "-c", code])

    assert printed.count("b'hello") == 2
    assert "Final(end=End(outcome='finished'" in printed


FLASK_LOGIN = """
from flask import redirect
from flask_login import UserMixin, login_user


class User(UserMixin):
    def __init__(self, name):
        self.id, self.queues = name, [QUEUE] if name == "ann" else []


logins.user_loader(User)
app.add_url_rule("/enter/<name>", view_func=lambda name: str(login_user(User(name))))
client = app.test_client()
led = client.get("/tailer/jobs/JOB", headers={"Accept": "text/html"})
print(led.status_code, led.location)
for name in ("bob", "ann"):
    client.get(f"/enter/{name}")
    answer = client.get("/tailer/jobs/JOB/log?follow=0")
    print(name, answer.status_code, answer.text.strip().partition(":")[0], len(client.get("/tailer/jobs").json["jobs"]))
"""
BEHIND_A_PROXY = """
def ask(client="127.0.0.1", **headers):
    answer = app.test_client().get("/jobs/JOB/log?follow=0", headers=headers, environ_base={"REMOTE_ADDR": client})
    return answer.status_code

print(ask(), ask(**{"X-Forwarded-User": "bob"}), ask("192.0.2.1", **{"X-Forwarded-User": "ann"}))
print(app.test_client().post("/jobs/JOB/link?for=2d", headers={"X-Forwarded-User": "ann"}).status_code)
"""


def embedded(stack: Stack, marker: str, more: str = "") -> list[str]:
    """What the example that has this in it prints, with more code behind it, about a job that is over."""
    example = next(block for block in examples() if marker in block)
    queue = stack.queue()
    job = queue.enqueue("tests.jobs.hello")
    stack.work(queue)
    code = f"{example}\nQUEUE = {queue.name!r}\n{more.replace('JOB', job.id)}"
    env = {"REDIS_URL": stack.url, "TAILER_SECRET_KEY": "a-key-to-sign-links-with"}
    return ran(
        [sys.executable, "-c", f"from types import SimpleNamespace\njob = SimpleNamespace(id={job.id!r})\n{code}"], env
    ).splitlines()


def test_the_flask_login_of_the_embedding_page_works(stack):
    """A stranger is led to the login; each user reads the jobs of the queues that are theirs."""
    led, bob, ann = embedded(stack, "flask_login", FLASK_LOGIN)
    assert led.startswith("303 /login?next=%2Ftailer%2Fjobs%2F")
    assert bob.startswith("bob 404 tailer")
    assert bob.endswith(" 0")
    assert ann == "ann 200 hello 1"


def test_the_proxy_of_the_embedding_page_works(stack):
    """Who comes from the proxy is who it says; without its word, or from elsewhere, nobody is let in."""
    assert embedded(stack, "X-Forwarded-User", BEHIND_A_PROXY) == ["401 200 401", "201"]


def test_the_links_of_the_embedding_page_work(stack):
    """The example prints a URL, and a web side with the same key takes it."""
    (url,) = embedded(stack, "Links(")
    link = url.partition("link=")[2]
    assert url.startswith("https://logs.example.org/tailer/jobs/")
    assert Links(["a-key-to-sign-links-with"]).read(link).job_id in url


def test_the_blueprint_of_the_embedding_page_works(stack):
    """The example that mounts the blueprint serves a job's log below its prefix."""
    mounting = next(block for block in examples() if "init_app" in block)
    with served(stack) as job_id:
        code = f"{mounting}\nprint(app.test_client().get('/tailer/jobs/{job_id}/log').text)"
        assert "hello" in ran([sys.executable, "-c", code], {"REDIS_URL": stack.url})


def sources() -> dict[str, str]:
    """The test modules' texts."""
    return {path.stem: path.read_text() for path in Path(ROOT / "tests").rglob("test_*.py")}


def test_each_row_of_the_threat_model_names_tests_that_are_there():
    """Whoever could try something: what stops them, and a test of exactly that."""
    page = (ROOT / "docs" / "security.md").read_text().partition("## What could be tried")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in page.splitlines() if row.startswith("|")][
        2:
    ]
    modules = sources()

    assert len(rows) > 30
    for row in rows:
        assert len(row) == 4, row
        assert all(row), row
        named = re.findall(r"`(test_\w+)::(\w+)`", row[3])
        assert named, row
        assert re.sub(r"`test_\w+::\w+`|[, ]", "", row[3]) == "", row
        for module, test in named:
            assert f"def {test}(" in modules[module], f"{module}::{test}"


def test_the_guarantees_name_tests_that_are_there():
    """Each promise names the tests that prove it, and they exist."""
    page = (ROOT / "docs" / "guarantees.md").read_text()
    named = re.findall(r"`(test_\w+)(?:::(\w+))?`", page)
    modules = sources()

    assert len(re.findall(r"^## \d+\. ", page, re.MULTILINE)) == 10
    for module, test in named:
        assert module in modules, module
        assert not test or f"def {test}(" in modules[module], f"{module}::{test}"


def test_the_deploys_name_tests_that_are_there():
    """Whatever is said to have been tried has its test."""
    named = re.findall(r"`(test_\w+)`", (ROOT / "docs" / "deploys.md").read_text())

    assert len(named) >= 6
    assert set(named) <= set(sources())


def test_the_files_of_deploys_name_settings_that_are_there():
    """No file to copy sets a variable that nothing reads."""
    files = [ROOT / "app.json", *(path for path in (ROOT / "deploy").rglob("*") if path.is_file())]
    named = {name for path in files for name in re.findall(r"\bTAILER_[A-Z_]+", path.read_text())}

    assert named
    assert named <= variables()


def test_no_worker_of_the_deploys_gets_what_is_for_the_web_side():
    """Jobs can read their worker's environment: of the files to copy, none gives it a token or a key."""
    deploy = ROOT / "deploy"
    services = yaml.safe_load((deploy / "compose.yaml").read_text())["services"]
    (container,) = yaml.safe_load((deploy / "kubernetes" / "worker.yaml").read_text())["spec"]["template"]["spec"][
        "containers"
    ]
    files = {
        name: re.findall("^EnvironmentFile=/etc/tailer/(.*)$", (deploy / "systemd" / name).read_text(), re.MULTILINE)
        for name in ("tailer-web.service", "tailer-worker@.service")
    }
    secrets = {"TAILER_TOKENS", "TAILER_SECRET_KEY"}

    assert not secrets & set(services["worker"]["environment"])
    assert secrets <= set(services["web"]["environment"])
    assert "envFrom" not in container
    assert [one["name"] for one in container["env"]] == ["REDIS_URL"]
    assert files == {"tailer-web.service": ["tailer.env", "web.env"], "tailer-worker@.service": ["tailer.env"]}
    assert not any(name in (deploy / "systemd" / "tailer.env").read_text() for name in secrets)
    assert all(name in (deploy / "systemd" / "web.env").read_text() for name in secrets)


@pytest.mark.parametrize("group", GROUPS)
def test_the_guarantees_have_every_fault(group):
    """There is a row for each fault that is tried, in order, and for no other; `make faults` writes them."""
    path = ROOT / "tests" / "faults" / f"test_{group}_faults.py"
    tree = ast.parse(path.read_text() if path.exists() else "")
    tests = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]

    assert published(group) == [ast.get_docstring(test).partition("\n")[0].removesuffix(".") for test in tests]
