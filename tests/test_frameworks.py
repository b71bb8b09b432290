"""Tailer in other people's houses, as docs/deploys.md has it: beside rq-dashboard in Flask, and with django-rq."""

import os
import re
import shlex
import sys
from pathlib import Path
from urllib.parse import urlsplit

from tailer.store import LogStore, connect
from tests.processes import free_port, running
from tests.stack import BIN, ROOT, Stack, clean, curl, web_process

PAGE = (ROOT / "docs" / "deploys.md").read_text()


def shown(heading: str) -> list[str]:
    """The blocks of code below a heading of the page, without the fences."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"```(?:python)?\n(.*?)```", section, re.DOTALL)


def test_beside_rq_dashboard(stack, tmp_path):
    """One app has rq-dashboard's pages and Tailer's, under gunicorn by the command that is shown."""
    code, command = shown("Beside rq-dashboard")
    (tmp_path / "app.py").write_text(code)
    queue, port = stack.queue(), free_port()
    job = queue.enqueue("tests.jobs.hello")
    env = {"REDIS_URL": stack.url, "PATH": f"{BIN}:{os.environ['PATH']}"}
    argv = clean([*shlex.split(command), "--bind", f"127.0.0.1:{port}"], env)
    with running(argv, cwd=tmp_path, env=env, ready="Booting worker") as process:
        url = f"http://127.0.0.1:{port}"
        with curl(f"{url}/rq/0/data/queues.json") as client:
            assert client.wait() == 0, process.text()
            assert queue.name.encode() in client.body
        with curl(f"{url}/logs/jobs/{job.id}/log") as client:
            client.connected()
            stack.work(queue)
            assert client.wait() == 0
            assert client.body == b"hello\n"


PROJECT = """
SECRET_KEY = "for tests only"
INSTALLED_APPS = ["django_rq"]
GREETING = "from a Django project"
"""
JOBS = """
from django.conf import settings


def greet():
    print("hello", settings.GREETING)
"""


def test_workers_of_django_rq(server, tmp_path: Path):
    """`rqworker` runs our class, by the setting or by the option, and writes logs to the Redis of Django's settings."""
    settings, _ = shown("Django")
    port = urlsplit(server.url).port
    settings = PROJECT + settings.replace("6379", str(port))
    (tmp_path / "settings.py").write_text(settings)
    (tmp_path / "plain_settings.py").write_text(settings.replace("RQ =", "IGNORED ="))
    (tmp_path / "jobs.py").write_text(JOBS)
    with connect(server.url) as connection:
        connection.config_set("requirepass", "sesame")
    url = f"redis://:sesame@127.0.0.1:{port}/3"

    def manage(*argv: str, settings: str = "settings") -> str:
        env = {"DJANGO_SETTINGS_MODULE": settings}
        line = clean([sys.executable, "-m", "django", *argv], env)
        with running(line, cwd=tmp_path, env=env) as process:
            assert process.wait(60) == 0, process.text()
            return process.stdout().decode()

    code = "import django_rq, jobs; print('enqueued', *(django_rq.enqueue(jobs.greet).id for _ in range(2)))"
    job_ids = re.search(r"enqueued (\S+) (\S+)", manage("shell", "-c", code)).groups()
    option = ("--worker-class", "worker.Worker")
    with web_process(url) as (web, _), connect(url) as connection:
        stack = Stack(url, web, connection, LogStore(connection))
        with stack.follow(job_ids[0]) as first, stack.follow(job_ids[1]) as second:
            manage("rqworker", "--max-jobs", "1", "default")
            manage("rqworker", "--max-jobs", "1", *option, "default", settings="plain_settings")
            for clients in (first, second):
                assert clients.text() == b"hello from a Django project\n"
                assert clients.records()[-1]["outcome"] == "finished"
