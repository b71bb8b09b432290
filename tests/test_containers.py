"""The pods of deploy/kubernetes as a node runs them: as process 1, unable to write, stopped by hook and signal.

There is no container engine in this: it is the kernel that both have in common.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.processes import Running, free_port, running
from tests.stack import BIN, ROOT, clean, curl
from tests.waiting import wait_until

# Of the file system, only the place for temporary files can be written. No capability is left.
CONTAINER = """
mount --make-rprivate /
mount -t tmpfs -o mode=1777 tmpfs /var/tmp
mount -o remount,bind,ro /
exec setpriv --no-new-privs --inh-caps=-all --bounding-set=-all "$@"
"""
HOOK_S = 3
"""What the seconds of the worker's hook are here; RQ takes no notice of a second SIGTERM within one second."""


def container(name: str) -> dict[str, Any]:
    """The container of a manifest's deployment."""
    documents = yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / f"{name}.yaml").read_text())
    (found,) = next(iter(documents))["spec"]["template"]["spec"]["containers"]
    return found


@contextlib.contextmanager
def pod(name: str, *more: str, ready: str, **env: str) -> Iterator[tuple[Running, int]]:
    """Run its command, or else the image's, for the block; yields it, and the pid that process 1 has outside.

    `more` are more arguments.
    """
    if os.geteuid() or not all(map(shutil.which, ("unshare", "nsenter", "setpriv"))):
        pytest.skip("what a container is made of needs root on Linux")
    (default,) = re.findall(r"^CMD (.*)$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)
    program, *arguments = container(name).get("command") or json.loads(default)
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
    argv = [*namespaces, "sh", "-c", CONTAINER, "sh", str(BIN / program), *arguments, *more]
    env = {**env, "TMPDIR": "/var/tmp", "PYTHONDONTWRITEBYTECODE": "1"}
    with running(clean(argv, env), cwd=ROOT, env=env, ready=ready) as process:
        first = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        try:
            yield process, first
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(first, signal.SIGKILL)  # which ends all in its namespace


def inside(first: int) -> list[str]:
    """What runs the command behind it in the pod."""
    return ["nsenter", "-t", str(first), "-m", "-p"]


def test_the_pods_stop_as_their_manifests_say(stack):
    """A web pod ends its streams and leaves; a worker's gives its job the time of the hook, then says why it ended."""
    queue, port = stack.queue(), free_port()
    job = queue.enqueue("tests.jobs.wait_for", "/nowhere/never")
    web_pod = pod("web", ready="Booting worker", PORT=str(port), REDIS_URL=stack.url)
    worker_pod = pod("worker", queue.name, ready="*** Listening on", REDIS_URL=stack.url)
    with web_pod as (web, web_first), worker_pod as (worker, first):
        log = f"http://127.0.0.1:{port}/jobs/{job.id}/log"
        with curl(log) as here, curl(stack.path(job.id)) as elsewhere:
            wait_until(lambda: here.body == elsewhere.body == b"waiting\n", 20)
            assert subprocess.run([*inside(first), "touch", str(ROOT / "new")], check=False, timeout=20).returncode == 1
            os.kill(web_first, signal.SIGTERM)
            assert here.wait() == 18
            assert web.wait() == 0, web.text()

            hook = container("worker")["lifecycle"]["preStop"]["exec"]["command"]
            hook = [word.replace("sleep 300", f"sleep {HOOK_S}") for word in hook]
            subprocess.run([*inside(first), *hook], check=True, timeout=20)
            assert worker.poll() is None, worker.text()
            os.kill(first, signal.SIGTERM)
            assert worker.wait() == 0, worker.text()
            assert elsewhere.wait() == 0
            assert elsewhere.body.startswith(b"waiting\n[tailer] killed")
            assert b"the worker was shut down" in elsewhere.body
