"""`tailer up` and `tailer demo`: all of Tailer in one command, and nothing left of it."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess

import pytest
import redis
import rq

from tests.processes import MARK, free_port, leftovers, running, shared
from tests.stack import BIN, ROOT, clean, curl
from tests.waiting import wait_until

TAILER = str(BIN / "tailer")
LATE = 40  # seconds for what takes two on a machine with nothing else to do


@contextlib.contextmanager
def up(port, cwd, *options, **env):
    """Run `tailer up` for the block, which begins when the web side answers; yields it, and the URLs it told."""
    argv = clean([TAILER, "up", "--port", str(port), *options])
    web = f"http://127.0.0.1:{port}"
    with running(argv, cwd=cwd, env=env) as process:
        wait_until(lambda: answers(web) or process.poll() is not None, LATE, "an answer of the web side")
        yield process, web, re.search(rb"redis://\S+", process.stdout())[0].decode()


def answers(web):
    """Whether the web side says that it is ready."""
    with curl(f"{web}/readyz", "-m", "5", "--noproxy", "*") as client:
        client._process.wait()
        return client.status == 200


def ours():
    """What runs of this test, without what tests share."""
    return {pid: command for pid, command in leftovers(os.environ[MARK]).items() if pid not in shared}


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_up_runs_all_of_it_and_leaves_nothing(sig, tmp_path):
    """A job runs and can be followed; Ctrl-C, SIGTERM or a closed terminal ends every process, with exit code 0."""
    (tmp_path / "somejobs.py").write_text("def job():\n    print('from somewhere')\n")
    (tmp_path / "gunicorn.conf.py").write_text("raise SystemExit('not mine')\n")
    (tmp_path / "Procfile").write_text("web: echo not mine\nworker: echo not mine\n")
    with up(free_port(), tmp_path, "--workers", "2") as (process, web, url):
        with redis.Redis.from_url(url) as connection:
            job = rq.Queue(connection=connection).enqueue("somejobs.job")
        with curl(f"{web}/jobs/{job.id}/log") as client:
            assert client.wait() == 0
            assert client.body == b"from somewhere\n"
        wait_until(lambda: process.stdout().count(b"*** Listening") == 2)
        assert b"worker.1 " in process.stdout()
        assert b"worker.2 " in process.stdout()
        process.signal(sig)
        assert process.wait(LATE) == 0, process.text()
        wait_until(lambda: not ours())
        assert b"Traceback" not in process.stdout() + process.stderr()


def test_up_in_the_checkout_runs_the_procfile_on_loopback_only():
    """The commands are the Procfile's, but a PORT in the environment does not open them to the network."""
    port = free_port()
    with up(port, ROOT, PORT=str(free_port())) as (process, *_):
        (command,) = {command for command in ours().values() if "gunicorn" in command}
        assert command.endswith(f"gunicorn wsgi:app --bind 127.0.0.1:{port} --graceful-timeout 1")
        assert f"Listening at: http://127.0.0.1:{port}" in process.text()
        process.signal(signal.SIGINT)
        assert process.wait(LATE) == 0, process.text()


def test_up_ends_a_job_that_is_running_too(tmp_path):
    """Ctrl-C gives a running job five seconds, and ends it then: not even the job is left running."""
    (tmp_path / "somejobs.py").write_text("import time\ndef job():\n    print('working')\n    time.sleep(100)\n")
    with up(free_port(), tmp_path) as (process, web, url):
        with redis.Redis.from_url(url) as connection:
            job = rq.Queue(connection=connection).enqueue("somejobs.job")
        with curl(f"{web}/jobs/{job.id}/log") as client:
            wait_until(lambda: client.body == b"working\n")
            process.signal(signal.SIGINT)
            assert process.wait(LATE) == 0, process.text()
        wait_until(lambda: not ours())


def test_up_uses_the_redis_that_is_named(server, tmp_path):
    """With REDIS_URL no server is started, and that one is left running."""
    with up(free_port(), tmp_path, REDIS_URL=server.url) as (process, _, url):
        assert url == server.url
        assert [pid for pid, command in ours().items() if "valkey-server" in command] == [server.pid]
        process.signal(signal.SIGINT)
        assert process.wait(LATE) == 0, process.text()
    with redis.Redis.from_url(server.url) as client:
        assert client.ping()


def test_up_ends_with_the_code_of_a_process_that_fails(server, tmp_path):
    """If one process cannot run, all end, and the exit code is that process's."""
    (tmp_path / "worker.py").write_text("raise SystemExit(7)\n")
    argv = clean([TAILER, "up", "--port", str(free_port())])
    with running(argv, cwd=tmp_path, env={"REDIS_URL": server.url}) as process:
        assert process.wait(LATE) == 7, process.text()
        wait_until(lambda: not [command for command in ours().values() if "gunicorn" in command])


def test_up_tells_of_a_port_in_use_at_once(tmp_path):
    """A taken port is one line and exit code 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        argv = clean([TAILER, "up", "--port", str(port)])
        done = subprocess.run(argv, capture_output=True, text=True, timeout=LATE, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"tailer: port {port} cannot be used (Address already in use): name another one with --port\n"


def test_up_ends_when_nobody_reads_what_it_says(tmp_path):
    """`tailer up | head` does not go on unseen, nor leave anything behind."""
    argv = clean([TAILER, "up", "--port", str(free_port())])
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=tmp_path) as process:
        process.stdout.readline()
        process.stdout.close()
        # 141 if it is its own line that finds the pipe closed, 0 if one of its processes' is.
        assert process.wait(LATE) in {0, 141}
    wait_until(lambda: not ours())


# The demo: a quarter of a minute each.


def check_shown(output: bytes) -> None:
    """The demo's output shows all that it is there for."""
    assert re.search(rb"http://127\.0\.0\.1:\d+/jobs\n", output)
    assert re.search(rb"\$ curl -N http://127\.0\.0\.1:\d+/jobs/[-\w]+/log\n", output)
    assert b"\x1b[1mNightly report\x1b[0m\n" in output
    assert b"  exported customers\n" in output
    assert b"\x1b[33mwarning: 3 invoices have no customer\x1b[0m\n" in output
    assert b"INFO report: rates of yesterday are used\n" in output
    assert len(re.findall(rb"\r  totals: +\d+%", output)) > 5
    assert b"  printed by C's puts()\n" in output
    assert b"  printed by os.system()\n" in output
    assert b"  printed by a thread\n" in output
    assert b"\x1b[32mReport sent.\x1b[0m\n" in output
    failing = output.partition(b"/log?tail=")[2].partition(b"\n")[2]
    assert b"row 201: n/a\nTraceback (most recent call last):\n" in failing
    assert b"row 100: " not in failing
    assert b"[tailer] failed after" in output


def test_the_demo_shows_a_job_and_ends_well(tmp_path):
    """Bar, colours, stderr, C: all of it is followed; then a failing job's last lines; then nothing is left."""
    argv = clean([TAILER, "demo"])
    env = {"TMPDIR": str(tmp_path), "TAILER_REDIS_URL": "redis://127.0.0.1:1"}
    with running(["env", *(f"{name}={value}" for name, value in env.items()), *argv], cwd=ROOT) as process:
        assert process.wait(60) == 0, process.text()
        assert process.stderr().replace(b"\n", b"") == b"", process.stderr()
        check_shown(process.stdout())
    assert not ours()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.whole
def test_the_demo_stays_up_on_demand_and_does_without_curl(tmp_path):
    """With DEMO_KEEP=1 the web side serves until Ctrl-C; where there is no curl, Tailer's own client follows."""
    path = tmp_path / "bin"
    path.mkdir()
    for program in ("sh", "sleep"):
        (path / program).symlink_to(shutil.which(program))
    argv = clean([TAILER, "demo"])
    with running(
        [shutil.which("env"), f"PATH={path}", "DEMO_KEEP=1", shutil.which("env"), *argv[1:]], cwd=tmp_path
    ) as process:
        wait_until(lambda: b"until Ctrl-C" in process.stdout() or process.poll() is not None, 60, "the end of the show")
        output = process.stdout()
        (web,) = set(re.findall(r"http://127\.0\.0\.1:\d+", output.decode()))
        assert answers(web)
        process.signal(signal.SIGINT)
        assert process.wait(LATE) == 0, process.text()
        assert b"[tailer] failed after" in process.stderr()
        check_shown(output + process.stderr())
    assert not ours()


def test_an_interrupted_demo_leaves_nothing(tmp_path):
    """Ctrl-C in the middle: 130, and no process and no file is left."""
    env = {"TMPDIR": str(tmp_path)}
    with running(clean([TAILER, "demo"]), cwd=tmp_path, env=env) as process:
        wait_until(lambda: b"exported customers" in process.stdout(), LATE)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        assert process.wait(LATE) == 130, process.text()
    wait_until(lambda: not ours())
    assert list(tmp_path.iterdir()) == []
