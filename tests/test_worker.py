"""What a worker captures, what it leaves alone, and how it goes: with real workers and real signals."""

import ast
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rq import Callback, Queue, Worker

from tailer.embedded import EmbeddedServer
from tailer.store import LogStore, connect
from tests.processes import free_port
from tests.stack import ROOT, Log, Stack, children, read_log, watching_its_horse, worker_process
from tests.waiting import wait_until

EVERY = ("worker.Worker", "worker.HerokuWorker", "worker.SpawnWorker", "worker.SimpleWorker")
# All but the stop of its dyno is Worker's.
HEROKU = pytest.param("worker.HerokuWorker", marks=pytest.mark.whole)
CLASSES = ("worker.Worker", HEROKU, "worker.SpawnWorker", "worker.SimpleWorker")
FORKING = CLASSES[:3]
USER_CODE = ("--exception-handler", "tests.user_code.ignore")
"""Options that make a worker import tests.user_code before it forks."""


def set_up(name: str, mode: str, level: str | None) -> Any:
    """A class with a capture mode and RQ's option for what a worker tells; the rarer pairs are not run each time."""
    marks = [pytest.mark.xdist_group(f"{name}-{mode}")]
    if name == "worker.HerokuWorker" or (name == "worker.SpawnWorker" and mode != "separate"):
        marks.append(pytest.mark.whole)
    return pytest.param((name, mode, level), id=f"{name}-{mode}", marks=marks)


SET_UPS = [
    set_up(name, mode, level)
    for mode, level in (("separate", None), ("merged", "--verbose"), ("pty", "--quiet"))
    for name in EVERY
]
"""Each class with each capture mode."""
by_default = pytest.mark.parametrize("worked", SET_UPS[: len(EVERY)], indirect=True)
in_every_mode = pytest.mark.parametrize("worked", SET_UPS, indirect=True)


@dataclass(frozen=True)
class Worked:
    """A worker that has done some jobs and left: how it was started, its console, and the logs by the jobs' names."""

    worker_class: str
    mode: str
    level: str | None
    out: str
    err: str
    logs: dict[str, Log]


@pytest.fixture(scope="module")
def worked(request: pytest.FixtureRequest, stack: Stack) -> Worked:
    """One worker for all tests of what a worker does with every job."""
    worker_class, mode, level = request.param
    queue = stack.queue()
    jobs = {name: queue.enqueue(f"tests.jobs.{name}") for name in ("write_in_every_way", "log_through_rq", "fail")}
    options = ("--burst", *USER_CODE, *([level] if level else []))
    with stack.worker(queue, *options, worker_class=worker_class, env={"TAILER_CAPTURE": mode}) as process:
        assert process.wait(30) == 0, process.text()
        out, err = process.stdout().decode(), process.stderr().decode()
    logs = {name: stack.log(job.id) for name, job in jobs.items()}
    return Worked(worker_class, mode, level, out, err, logs)


# What is captured.


@in_every_mode
def test_everything_a_job_writes_is_captured(worked: Worked):
    """Whatever way a job writes, and whatever the class and the capture mode, its output is in its log, once."""
    log = worked.logs["write_in_every_way"]
    assert log.end.outcome == "finished"
    assert log.about.capture == worked.mode
    lines = log.data().decode().replace("stdout: no newline", "stdout: no newline\n").splitlines()
    ways = {
        *("stdout: print", "stdout: saved at import", "stdout: os.write", "stdout: os.system", "stdout: fork"),
        *("stdout: spawn", "stdout: thread", "stdout: C puts", "stdout: no newline"),
        *("stderr: print", "stderr: handler made at import", "stderr: subprocess"),
    }
    assert sorted(line for line in lines if line.startswith("std")) == sorted(ways)
    faults = [line for line in lines if not line.startswith("std")]
    assert faults[0].endswith("(most recent call first):")
    assert any("in write_in_every_way" in line for line in faults)
    if worked.mode == "separate":
        assert b"stderr" not in log.stdout
        assert b"stdout" not in log.stderr


@pytest.mark.parametrize("mode", ["merged", "pty"])
def test_one_pipe_keeps_the_order(stack: Stack, mode: str):
    """With one pipe for both streams, the log has the bytes in exactly the order in which they were written."""
    queue = stack.queue()
    job = queue.enqueue("tests.jobs.alternate", 2000)
    stack.work(queue, env={"TAILER_CAPTURE": mode})
    assert stack.log(job.id).data() == b"".join(b"%d\n" % number for number in range(2000))


@pytest.mark.parametrize(("mode", "seen"), [("separate", "[False, False]\nNone\n"), ("pty", "[True, True]\n120\n")])
def test_terminal(stack: Stack, mode: str, seen: str):
    """A job has a terminal, of a given width and without changed line ends, if and only if the mode is pty."""
    queue = stack.queue()
    job = queue.enqueue("tests.jobs.terminal")
    stack.work(queue, env={"TAILER_CAPTURE": mode})
    assert stack.log(job.id).data().decode() == seen


@pytest.mark.parametrize(
    ("worker_class", "names"),
    [(name, ("close_output", "replace_output")) for name in ("worker.Worker", "worker.SpawnWorker")]
    + [("worker.SimpleWorker", (name,)) for name in ("close_output", "replace_output")],
)
def test_output_taken_away(stack: Stack, worker_class: str, names: tuple[str, ...]):
    """A job that closes or replaces its output ends as it would otherwise, and what it wrote before is kept."""
    queue = stack.queue()
    jobs = {name: queue.enqueue(f"tests.jobs.{name}") for name in names}
    after = queue.enqueue("tests.jobs.hello")
    stack.work(queue, worker_class=worker_class)
    for name, job in jobs.items():
        log = stack.log(job.id)
        assert log.end.outcome == "finished"
        assert log.data() == {"close_output": b"before\n", "replace_output": b"in a buffer"}[name]
    if worker_class != "worker.SimpleWorker":
        assert stack.log(after.id).data() == b"hello\n"


@pytest.mark.parametrize("worker_class", CLASSES)
def test_partial_line_is_shown_soon(stack: Stack, worker_class: str, tmp_path: Path):
    """A prompt without a newline is in the log soon, while the job waits."""
    queue, path = stack.queue(), tmp_path / "prompted"
    job = queue.enqueue("tests.jobs.prompt", str(path))
    with stack.worker(queue, "--burst", worker_class=worker_class):
        wait_until(path.exists, 20)
        stack.wait_for_output(job.id, b"Password: ", timeout=3)
        path.unlink()
        assert stack.log(job.id).data() == b"Password: "


def test_c_code_that_holds_the_lock(stack: Stack):
    """In a SimpleWorker, C code that writes megabytes while it holds the interpreter's lock does not stand still."""
    queue, size = stack.queue(), 4 << 20
    job = queue.enqueue("tests.jobs.write_holding_the_lock", size, job_timeout=20)
    stack.work(queue, worker_class="worker.SimpleWorker")
    log = stack.log(job.id)
    assert (log.end.outcome, log.stderr) == ("finished", b"%d\n" % size)
    assert log.stdout == b"x" * size


# RQ's own lines, and the console.


@in_every_mode
def test_rq_lines_stay_out(worked: Worked):
    """RQ's lines are on the worker's console and not in the log; what a job logs through RQ's logger is in the log."""
    console, told = worked.out + worked.err, worked.worker_class != "worker.SpawnWorker"
    data = worked.logs["log_through_rq"].data()
    if worked.mode == "pty":  # a terminal, for which RQ's logger has colours
        data = re.sub(rb"\x1b\[[0-9;]*m", b"", data)
    assert re.fullmatch(rb"(\d\d:\d\d:\d\d )?mine\n", data.replace(b"no newline at end", b""))
    assert data.count(b"no newline at end") == 1
    assert ("performing job" in console) == (worked.level == "--verbose" and told)
    assert ("Successfully completed" in console) == (worked.level != "--quiet" and told)


@by_default
def test_traceback_once(worked: Worked):
    """A failing job's traceback is in its log once, without RQ's frames; RQ's report of it is on the console."""
    text, console = worked.logs["fail"].data().decode(), worked.out + worked.err
    assert text.count("Traceback (most recent call last)") == 1
    assert "/rq/" not in text
    assert text.startswith("about to fail\n")
    assert "exception raised while executing (tests.jobs.fail)" in console
    assert "perform_job" in console


def test_traceback_of_a_callback(stack: Stack):
    """When a failure callback fails too, both tracebacks are in the log, each without RQ's frames."""
    queue = stack.queue()
    job = queue.enqueue("tests.jobs.fail", on_failure=Callback("tests.user_code.fail_again"))
    stack.work(queue)
    log = stack.log(job.id)
    text = log.stderr.decode()
    assert log.end.reason == "KeyError: 'again'"
    assert text.count("Traceback (most recent call last)") == 2
    assert "ValueError: no π" in text
    assert "/rq/" not in text


def test_webhook_that_fails(stack: Stack):
    """What RQ says of a webhook that nobody answers is on the worker's console. There are none before RQ 2.10."""
    webhook = pytest.importorskip("rq.webhook")
    queue = stack.queue()
    job = queue.enqueue("tests.jobs.hello", webhooks=[webhook.Webhook(f"http://127.0.0.1:{free_port()}", "finished")])
    console = stack.work(queue)
    assert stack.log(job.id).data() == b"hello\n"
    assert "Failed to send webhook" in console


def test_root_handler(stack: Stack):
    """With all logging on a handler of the root logger, RQ's lines stay out of the log, and the job's are in it."""
    queue = stack.queue()
    job = queue.enqueue("tests.jobs.log_through_rq")
    console = stack.work(queue, "-c", "tests.root_logging")
    log = stack.log(job.id)
    assert (log.stderr, log.stdout) == (b"rq.worker: mine\n", b"no newline at end")
    assert "rq.worker: Successfully completed" in console


@by_default
def test_console(worked: Worked):
    """What a job writes also reaches the worker's own stdout and stderr."""
    for way in ("print", "fork", "C puts", "no newline"):
        assert worked.out.count(f"stdout: {way}") == 1
    assert worked.err.count("stderr: subprocess") == 1
    assert "*** Listening on" in worked.out


@pytest.mark.parametrize("worker_class", CLASSES)
def test_console_off(stack: Stack, worker_class: str):
    """With TAILER_CONSOLE=0 nothing that a job writes reaches it; what the worker says does."""
    queue = stack.queue()
    queue.enqueue("tests.jobs.write_in_every_way")
    console = stack.work(queue, worker_class=worker_class, env={"TAILER_CONSOLE": "0"})
    assert "stdout: " not in console
    assert "stderr: " not in console
    assert "*** Listening on" in console


@pytest.mark.parametrize("worker_class", ["worker.Worker", "worker.SimpleWorker"])
def test_pending_text_of_the_worker(stack: Stack, worker_class: str):
    """Text that the worker itself had not written yet when a job began comes out once, and not in the job's log."""
    queue = stack.queue()
    job = queue.enqueue("tests.jobs.hello")
    # --quiet, because RQ's own lines would push Python's text out.
    options = ("--quiet", *USER_CODE)
    console = stack.work(queue, *options, worker_class=worker_class, env={"USER_CODE_PENDING": "pending text"})
    assert sorted(console.split("\n")) == ["", "C's pending text", "Python's pending text", "hello"]
    assert stack.log(job.id).data() == b"hello\n"


# What a job leaves running.


@pytest.mark.parametrize("worker_class", CLASSES)
def test_daemon_lives_on(stack: Stack, worker_class: str, tmp_path: Path):
    """A daemon that a job leaves behind neither keeps the log open nor dies when the job has ended."""
    queue, path = stack.queue(), tmp_path / "count"
    job = queue.enqueue("tests.jobs.start_daemon", str(path))
    with stack.worker(queue, worker_class=worker_class), killed(tmp_path / "count.pid"):
        log = stack.log(job.id)
        ended = count(path)
        assert log.end.outcome == "finished"
        assert b"daemon started\n" in log.stdout
        wait_until(lambda: count(path) > ended + 25, 10, "more lines of the daemon than a pipe holds")
        assert len(stack.log(job.id).records) == len(log.records)
        after = queue.enqueue("tests.jobs.hello")
        assert stack.log(after.id).data() == b"hello\n"


def test_a_forked_child_does_not_hold_the_log_open(stack: Stack, tmp_path: Path):
    """A process that a job has forked, as pools do, has all its file descriptors; the log ends with the job."""
    queue = stack.queue()
    job = queue.enqueue("tests.jobs.leave_a_child", str(tmp_path / "child.pid"))
    with stack.worker(queue, worker_class="worker.SimpleWorker"), killed(tmp_path / "child.pid"):
        log = stack.log(job.id)
        os.kill(int((tmp_path / "child.pid").read_text()), 0)
    assert (log.end.outcome, log.data()) == ("finished", b"child left\n")


def test_a_job_that_has_its_children_forgotten_is_recorded_as_others(stack: Stack):
    """With SIGCHLD ignored nobody can wait for a process; its log and those of jobs behind it are whole."""
    queue = stack.queue()
    jobs = [queue.enqueue(f"tests.jobs.{name}") for name in ("ignore_children", "hello", "hello")]
    told = stack.work(queue, worker_class="worker.SimpleWorker")
    assert [stack.log(job.id).data() for job in jobs] == [b"ignored\n", b"hello\n", b"hello\n"]
    assert "failed" not in told


def test_an_exception_that_cannot_be_told_is_an_exception(stack: Stack):
    """The end names its class, and does not say that the process went by itself."""
    queue = stack.queue()
    job = queue.enqueue("tests.jobs.raise_untold")
    stack.work(queue)
    end = stack.log(job.id).end
    assert (end.outcome, end.reason) == ("failed", "Untold")


def count(path: Path) -> int:
    """How many lines the daemon of `start_daemon` has written; it may be writing the number just now."""
    return int(path.read_text() or 0)


@contextlib.contextmanager
def killed(path: Path) -> Iterator[None]:
    """Kill the process with the pid in this file when the block ends."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(path.read_text()), signal.SIGKILL)


# Signals.


def test_warm_shutdown(stack: Stack, tmp_path: Path):
    """One SIGTERM lets the job finish and its log be complete; then the worker goes."""
    queue, path = stack.queue(), tmp_path / "go"
    job = queue.enqueue("tests.jobs.wait_for", str(path))
    with stack.worker(queue) as process:
        stack.wait_for_output(job.id, b"waiting\n")
        watching_its_horse(process.pid)
        process.signal(signal.SIGTERM)
        process.says("warm shut down requested")
        path.touch()
        assert process.wait() == 0
    log = stack.log(job.id)
    assert (log.end.outcome, log.end.status, log.data()) == ("finished", "finished", b"waiting\ndone\n")


@pytest.mark.parametrize(
    ("worker_class", "outcome", "number"),
    [("worker.Worker", "killed", signal.SIGTERM), ("tests.user_code.HastyHerokuWorker", "failed", None)],
)
def test_dyno_stop(stack: Stack, tmp_path: Path, worker_class: str, outcome: str, number: int | None):
    """SIGTERM to all processes at once, as a stopping dyno gets it, leaves the last words and a true end record."""
    queue = stack.queue()
    job = queue.enqueue("tests.jobs.wait_for", str(tmp_path / "never"))
    with stack.worker(queue, worker_class=worker_class) as process:
        stack.wait_for_output(job.id, b"waiting\n")
        watching_its_horse(process.pid)
        for pid in (*children(process.pid), process.pid):
            os.kill(pid, signal.SIGTERM)
        assert process.wait() == 0
    log = stack.log(job.id)
    assert (log.end.outcome, log.end.status, log.end.signal) == (outcome, "failed", number)
    assert log.stdout == b"waiting\n"
    assert (b"ShutDownImminentException" in log.stderr) == (outcome == "failed")


@pytest.mark.parametrize("command", ["rq worker", "rq worker-pool"])
def test_a_worker_that_exits_waits_for_its_last_words(server: EmbeddedServer, command: str):
    """A log that Redis did not take at the job's end is complete when it does while the worker exits, in a pool too."""
    with EmbeddedServer() as logs, Stack.without_web(server.url, logs=logs.url) as stack:
        queue = stack.queue()
        job = queue.enqueue("tests.jobs.hello")
        os.kill(logs.pid, signal.SIGSTOP)
        try:
            env = {"TAILER_REDIS_URL": logs.url}
            with stack.worker(queue, "--burst", command=command, env=env) as process:
                stack.wait_for(job, "finished")
                wait_until(lambda: Worker.count(queue=queue) == 0, 20, "the worker says that it goes")
                with contextlib.suppress(AssertionError):  # It would be gone by then.
                    wait_until(lambda: process.poll() is not None or not children(process.pid), 1)
                os.kill(logs.pid, signal.SIGCONT)
                process.wait(20)
        finally:
            os.kill(logs.pid, signal.SIGCONT)
        log = stack.log(job.id)
    assert (log.end.outcome, log.data(), log.holes) == ("finished", b"hello\n", [])


def test_module_on_a_dyno(stack: Stack, tmp_path: Path):
    """`python -m worker` runs a HerokuWorker where DYNO is set: a horse is told of a shutdown, and may finish."""
    queue, path = stack.queue(), tmp_path / "go"
    job = queue.enqueue("tests.jobs.wait_for", str(path))
    with stack.worker(queue, command="python -m worker", worker_class=None, env={"DYNO": "worker.1"}) as process:
        stack.wait_for_output(job.id, b"waiting\n")
        watching_its_horse(process.pid)
        process.signal(signal.SIGTERM)
        process.says("Imminent shutdown")
        path.touch()
        assert process.wait() == 0
    log = stack.log(job.id)
    assert (log.end.outcome, log.data()) == ("finished", b"waiting\ndone\n")


# Redis away.


@pytest.mark.parametrize("worker_class", ["worker.Worker", "worker.SimpleWorker"])
def test_log_store_hangs(server: EmbeddedServer, tmp_path: Path, worker_class: str):
    """While the Redis of the logs hangs, jobs go on as if nothing were; their logs are complete once it is back."""
    check_outage(
        server,
        tmp_path,
        worker_class,
        begin=lambda logs: os.kill(logs.pid, signal.SIGSTOP),
        end=lambda logs: os.kill(logs.pid, signal.SIGCONT),
    )


@pytest.mark.parametrize("worker_class", ["worker.Worker", "worker.SimpleWorker"])
def test_log_store_restarts(server: EmbeddedServer, tmp_path: Path, worker_class: str):
    """While the Redis of the logs is down, jobs go on as if nothing were; their logs are complete once it is back."""
    check_outage(server, tmp_path, worker_class, begin=lambda logs: logs.stop(), end=lambda logs: logs.start())


@pytest.mark.parametrize("worker_class", FORKING)
def test_redis_away_at_heartbeats(tmp_path: Path, worker_class: str):
    """A job whose worker cannot say that it lives, because RQ's Redis is away, is watched on, and so is its log."""
    path = tmp_path / "go"
    with EmbeddedServer(extra=("--appendonly", "yes", "--appendfsync", "always")) as server:
        queue, store = Queue("heartbeats", connection=connect(server.url)), LogStore(connect(server.url))
        job = queue.enqueue("tests.jobs.count_until", str(path))
        options = (queue.name, "--job-monitoring-interval", "1")
        with worker_process(server.url, *options, worker_class=worker_class) as process:
            wait_until(lambda: (summary := store.summary(job.id)) and summary.last.lines > 100)
            server.stop(signal.SIGKILL)
            wait_until(lambda: process.text().count("heartbeat of a job") >= 2, 20)
            server.start()
            path.touch()
            log = read_log(store, job.id, timeout=30)
            wait_until(lambda: job.get_status(refresh=True) == "finished", 20)
            assert process.poll() is None
            count = job.return_value()
    assert log.data() == b"".join(b"%d\n" % number for number in range(count))
    assert (log.end.outcome, log.end.bytes, log.end.dropped) == ("finished", len(log.data()), 0)


def check_outage(
    server: EmbeddedServer,
    directory: Path,
    worker_class: str,
    begin: Callable[[EmbeddedServer], object],
    end: Callable[[EmbeddedServer], object],
) -> None:
    """Run a job that prints before and during the outage, and two others that run wholly within it."""
    queue, path = Queue("outage", connection=connect(server.url)), directory / "go"
    with EmbeddedServer(data_dir=directory / "logs", extra=("--appendonly", "yes", "--appendfsync", "always")) as logs:
        store = LogStore(connect(logs.url))
        first = queue.enqueue("tests.jobs.count_until", str(path))
        jobs = [first, *(queue.enqueue("tests.jobs.hello") for _ in range(2))]
        env = {"TAILER_REDIS_URL": logs.url}
        with worker_process(server.url, queue.name, worker_class=worker_class, env=env) as process:
            wait_until(lambda: (summary := store.summary(first.id)) and summary.last.lines > 100)
            begin(logs)
            path.touch()
            began = time.monotonic()
            wait_until(lambda: all(job.get_status(refresh=True) == "finished" for job in jobs), 20)
            assert time.monotonic() - began < 10
            end(logs)
            ended = [read_log(store, job.id, timeout=30) for job in jobs]
            process.signal(signal.SIGTERM)
            assert process.wait() == 0
    assert [(log.end.outcome, log.holes) for log in ended] == [("finished", [])] * len(jobs)
    lines = range(first.return_value())
    assert ended[0].data() == b"".join(b"%d\n" % number for number in lines)
    assert [log.data() for log in ended[1:]] == [b"hello\n"] * 2


# Nothing piles up.


@pytest.mark.parametrize(
    ("worker_class", "times"), [("worker.Worker", 20), ("worker.SpawnWorker", 6), ("worker.SimpleWorker", 20)]
)
def test_nothing_leaks(stack: Stack, worker_class: str, times: int):
    """After many jobs, half of which fail, a worker has the open files, threads and children it had after four."""
    queue = stack.queue()

    def run(times: int) -> None:
        jobs = [queue.enqueue(f"tests.jobs.{('hello', 'fail')[number % 2]}") for number in range(times)]
        assert {stack.log(job.id).end.outcome for job in jobs} == {"finished", "failed"}
        wait_until(lambda: Worker.all(queue=queue)[0].get_state() == "idle")

    def held() -> dict[str, int]:
        proc = Path("/proc") / str(process.pid)
        counts = {name: len(list((proc / name).iterdir())) for name in ("fd", "task")}
        return {**counts, "children": len(children(process.pid))}

    with stack.worker(queue, worker_class=worker_class) as process:
        run(4)
        before = held()
        run(times)
        # A thread that has been joined is still there for a moment.
        wait_until(lambda: all(count <= before[name] for name, count in held().items()), 10, f"at most {before}")


# Settings.


@pytest.mark.parametrize("command", ["rq worker", "python -m worker"])
@pytest.mark.parametrize(("name", "value"), [("TAILER_CAPTURE", "both"), ("TAILER_BUFFER", "much")])
def test_bad_setting(stack: Stack, command: str, name: str, value: str):
    """A setting that cannot be used stops the worker before it takes a job, with one line that names it."""
    queue = stack.queue()
    queue.enqueue("tests.jobs.hello")
    with stack.worker(queue, command=command, env={name: value}) as process:
        assert process.wait() == 1
        assert process.stderr().decode().startswith(f"tailer: {name}={value!r} cannot be used: ")
        assert process.text().count("\n") == 1
    assert len(queue) == 1


# What is loaded, and who reads the environment.


def loaded(statement: str) -> set[str]:
    """The modules that a fresh Python has after this statement."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    return set(found.stdout.split())


def test_import_is_light():
    """Importing the worker classes loads, beyond RQ itself, nothing but this project, zstandard and Python's own."""
    more = loaded("import worker") - loaded("import rq")
    foreign = {name.partition(".")[0] for name in more} - sys.stdlib_module_names
    assert foreign == {"worker", "tailer", "zstandard"}
    assert {name for name in more if name.startswith("tailer.")} <= LIGHT


LIGHT = {
    f"tailer.{name}"
    for name in [
        "budget",
        "cluster",
        "connection",
        "errors",
        "figures",
        "index",
        "jobs",
        "keys",
        "logs",
        "piece",
        "reader",
        "records",
        "scripts",
        "sealed",
        "settings",
        "store",
        "summary",
        "tokens",
        "workers",
    ]
}
"""What the worker side shares with the rest."""


def test_command_line_is_light():
    """A command loads what it needs when it runs: the command line itself loads neither Redis, RQ nor the web side."""
    foreign = {name.partition(".")[0] for name in loaded("import tailer.cli")} - sys.stdlib_module_names
    assert not foreign & {"redis", "rq", "flask", "werkzeug", "urllib3", "prometheus_client", "zstandard", "honcho"}


def test_web_side_does_not_load_the_workers():
    """The web application runs without the package of the workers."""
    assert not {name for name in loaded("import tailer.web") if name.partition(".")[0] == "worker"}


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Each module of the two packages, by its path."""
    for path in sorted([*(ROOT / "tailer").glob("**/*.py"), *(ROOT / "worker").glob("**/*.py")]):
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def test_tailer_never_imports_worker():
    """No module of tailer imports the workers' package, not even within a function."""
    for path, tree in modules():
        for node in ast.walk(tree) if path.startswith("tailer/") else ():
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.partition(".")[0] == "worker"], path


def test_only_settings_read_the_environment():
    """The environment is read by tailer.settings alone; a worker writes there what its horse and its children need."""
    found = set()
    for path, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv", "putenv"}:
                found |= {(path, ast.unparse(node))} if ast.unparse(node.value) == "os" else set()
            elif isinstance(node, ast.ImportFrom) and node.module == "os":
                found |= {(path, alias.name) for alias in node.names if "env" in alias.name}
    assert found == {
        ("tailer/settings.py", "os.environ"),
        ("worker/classes.py", "os.environ"),  # TAILER_CAPTURE_FDS, from the worker to its spawned horse
        ("worker/horse.py", "os.environ"),  # PYTHONUNBUFFERED, for the job's children
    }
