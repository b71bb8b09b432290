"""The designs that follow logs for thousands of clients: each as one web process, with what it needs beside it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import redis
from rq.job import Job

from bench.load import program
from bench.measured import environment
from bench.publish import job_name
from tailer.embedded import EmbeddedServer, free_port
from tailer.records import Attempt
from tailer.store import LogStore, meta_key, now_ms

HERE = Path(__file__).parents[1]
ROOT = Path(os.environ.get("BENCH_ROOT") or HERE)
"""The checkout whose web side is measured."""
WEB_CORE, OTHER_CORE = 0, 1
CONNECTIONS = 15_000
HOUR_MS = 3_600_000

NCHAN = """\
load_module {modules}/ngx_nchan_module.so;
daemon off;
user root;
pid nginx.pid;
error_log stderr error;
worker_processes 1;
worker_rlimit_nofile {connections};
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    keepalive_requests 1000000000;
    nchan_shared_memory_size 1024M;
    nchan_message_buffer_length 200;
    nchan_message_timeout 5m;
    {upstream}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location ~ ^/publish/(.+)$ {{
            nchan_publisher http;
            nchan_channel_id $1;
            {storage}
        }}
        location ~ ^/(.+)$ {{
            nchan_subscriber http-chunked eventsource;
            nchan_channel_id $1;
            nchan_subscriber_first_message newest;
            {storage}
        }}
    }}
}}
"""


@dataclass
class Served:
    """A design that runs.

    ``pid`` is that of its web process; ``publisher`` and ``at`` are a kind and a port for ``bench.publish``; ``early``
    means that a header comes with the first line only; ``ready`` tells for so many followers whether all of them will
    get what is published now.
    """

    port: int
    pid: int
    paths: list[str]
    publisher: str
    at: int
    headers: Sequence[str] = ()
    early: bool = False
    ready: Callable[[int], bool] = lambda _: True
    process: subprocess.Popen[str] | None = None


@dataclass(frozen=True)
class Design:
    """A name, what starts it for so many jobs, and why it can't run here."""

    name: str
    start: Callable[[int], object]
    lacks: str = field(default="")


def designs() -> dict[str, Design]:
    """Return all of them, by a short name."""
    no_nginx = "" if shutil.which("nginx") and nchan_module().exists() else "needs nginx and libnginx-mod-nchan"
    no_flask_sse = "" if find_spec("flask_sse") else "needs the package flask-sse"
    return {
        "text": Design("Tailer, text", tailer),
        "sse": Design("Tailer, SSE", lambda jobs: tailer(jobs, "text/event-stream")),
        "nchan": Design("nginx + nchan, memory, chunked", nchan, no_nginx),
        "nchan-redis": Design("nginx + nchan, Redis, SSE", lambda jobs: nchan(jobs, on_redis=True), no_nginx),
        "poll": Design("generators that poll (0.5 s)", polling),
        "flask-sse": Design("flask-sse", flask_sse, no_flask_sse),
        "c": Design("C program that only sends", c_program),
    }


def nchan_module() -> Path:
    """Return where Debian puts it."""
    return Path("/usr/lib/nginx/modules/ngx_nchan_module.so")


@contextmanager
def process(argv: Sequence[str | Path], core: int, port: int, **options: object) -> Iterator[subprocess.Popen[str]]:
    """Run a server on one core, and return when it listens; at its end its output is shown if it failed."""
    with tempfile.TemporaryFile("w+") as output:
        options = {"stdout": output, "stderr": output, "text": True, **options}
        child = subprocess.Popen(["taskset", "-c", str(core), *argv], **options)
        try:
            wait_until(lambda: child.poll() is not None or _listens(port), 20)
            if child.poll() is not None:
                output.seek(0)
                raise RuntimeError(f"{argv} ended:\n{output.read()[-3000:]}")
            yield child
        finally:
            child.terminate()
            try:
                child.wait(15)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            output.seek(0)
            if "Traceback" in (said := output.read()):
                print(f"{argv[-1]} said: {said[said.index('Traceback') - 200 :][:3000]}", file=sys.stderr)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(true: Callable[[], object], timeout: float) -> None:
    """Return once it is true; raises ``TimeoutError`` after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout} s")
        time.sleep(0.01)


def _only_child(pid: int) -> int:
    """Return the pid of the worker of a server with one."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    wait_until(lambda: children.read_text().split(), 10)
    return int(children.read_text().split()[0])


@contextmanager
def _gunicorn(
    app: str, server: EmbeddedServer, arguments: Sequence[str], root: Path, directory: str | Path
) -> Iterator[tuple[int, int]]:
    """Run an app of ``root`` with gunicorn, one worker; gives its port and the worker's pid."""
    port = free_port()
    path = [str(root), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    env = environment(server, PYTHONPATH=os.pathsep.join(filter(None, path)))
    argv = [sys.executable, "-m", "gunicorn", *arguments, "--bind", f"127.0.0.1:{port}", "--workers", "1", app]
    with process(argv, WEB_CORE, port, env=env, cwd=directory) as arbiter:
        yield port, _only_child(arbiter.pid)


@contextmanager
def pinned_redis() -> Iterator[EmbeddedServer]:
    """A Redis of our own, away from the web process."""
    with EmbeddedServer(extra=("--maxclients", "12000")) as server:
        os.sched_setaffinity(server.pid, {OTHER_CORE})
        yield server


def redis_port(server: EmbeddedServer) -> int:
    """Return the port of a server."""
    return urlsplit(server.url).port


@contextmanager
def tailer(jobs: int, accept: str = "text/plain") -> Iterator[Served]:
    """Tailer as ``gunicorn.conf.py`` has it, with jobs that run."""
    with pinned_redis() as server, redis.Redis.from_url(server.url) as connection:
        begin(connection, jobs)
        with tailer_on(server, jobs, accept) as served:
            yield served


@contextmanager
def tailer_on(server: EmbeddedServer, jobs: int, accept: str) -> Iterator[Served]:
    """The same, with what is in ``server``."""
    with _gunicorn("wsgi:app", server, extra_arguments(), ROOT, ROOT) as (port, pid):
        paths = [f"/jobs/{job_name(number)}/log" for number in range(jobs)]
        yield Served(port, pid, paths, "tailer", redis_port(server), [f"Accept: {accept}"])


def extra_arguments() -> list[str]:
    """Return what ``BENCH_GUNICORN`` adds to gunicorn's command line, such as another worker class."""
    return os.environ.get("BENCH_GUNICORN", "").split()


def begin(connection: redis.Redis, jobs: int) -> None:
    """Make running jobs whose logs have begun, and whose workers seem alive for an hour."""
    store = LogStore(connection, keep_tail=4 << 30)
    with connection.pipeline(transaction=False) as pipe:
        for name in map(job_name, range(jobs)):
            store.start(name, Attempt(now_ms(), 0, f"execution-of-{name}", "worker", "default", "bench", "separate"))
            state = {"status": "started", "origin": "default", "created_at": "2026-01-01T00:00:00.000000Z"}
            pipe.hset(Job.key_for(name), mapping=state)
            pipe.set(f"{meta_key(name)}:1:alive", "1", px=HOUR_MS)
        pipe.execute()


@contextmanager
def nchan(jobs: int, *, on_redis: bool = False) -> Iterator[Served]:
    """Nginx with one worker, whose followers take HTTP chunks, or events where it stores its messages in Redis."""
    with ExitStack() as held:
        directory = held.enter_context(tempfile.TemporaryDirectory(prefix="tailer-nchan-"))
        upstream = storage = ""
        if on_redis:
            server = held.enter_context(pinned_redis())
            upstream = f"upstream redis {{ nchan_redis_server redis://127.0.0.1:{redis_port(server)}; }}"
            storage = "nchan_redis_pass redis;"
        port = free_port()
        config = Path(directory) / "nginx.conf"
        config.write_text(
            NCHAN.format(
                modules=nchan_module().parent, connections=CONNECTIONS, upstream=upstream, storage=storage, port=port
            )
        )
        argv = ["nginx", "-p", directory, "-c", config, "-e", "stderr"]
        master = held.enter_context(process(argv, WEB_CORE, port))
        paths = [f"/{job_name(number)}" for number in range(jobs)]
        headers = ["Accept: text/event-stream"] if on_redis else ["TE: chunked"]
        if on_redis:
            time.sleep(1.0)  # It connects to Redis by and by, and says nothing about it.
        kind = "nchan_events" if on_redis else "nchan"
        yield Served(port, _only_child(master.pid), paths, kind, port, headers)


@contextmanager
def _peer(name: str, path: str, jobs: int, publisher: str) -> Iterator[tuple[Served, redis.Redis]]:
    arguments = ["--worker-class", "gevent", "--worker-connections", str(CONNECTIONS), "--no-control-socket"]
    arguments += ["--graceful-timeout", "1"]
    with tempfile.TemporaryDirectory(prefix="tailer-peer-") as directory, ExitStack() as held:
        server = held.enter_context(pinned_redis())
        connection = held.enter_context(redis.Redis.from_url(server.url))
        port, pid = held.enter_context(_gunicorn(f"bench.peers:{name}()", server, arguments, HERE, directory))
        paths = [path.format(job_name(number)) for number in range(jobs)]
        yield Served(port, pid, paths, publisher, redis_port(server)), connection


@contextmanager
def replaying(jobs: int) -> Iterator[tuple[Served, redis.Redis]]:
    """The generator of the tutorials for jobs that are over; gives a connection to fill its lists, too."""
    with _peer("replaying", "/{}", jobs, "rpush") as pair:
        yield pair


@contextmanager
def polling(jobs: int) -> Iterator[Served]:
    """The generator of the tutorials, on gevent."""
    with _peer("polling", "/{}", jobs, "rpush") as (served, _):
        yield served


@contextmanager
def flask_sse(jobs: int) -> Iterator[Served]:
    """Flask-SSE, on gevent."""
    with _peer("flask_sse", "/stream?channel={}", jobs, "flask_sse") as (served, connection):
        names = [job_name(number) for number in range(jobs)]
        served.early = True
        served.ready = lambda count: sum(number for _, number in connection.pubsub_numsub(*names)) >= count
        yield served


@contextmanager
def c_program(followers: int) -> Iterator[Served]:
    """``load serve``: as many system calls as followers and lines, and nothing else."""
    with _c_program("serve", "--count", str(followers)) as (port, child):
        yield Served(port, child.pid, ["/"], "c", port, process=child)


@contextmanager
def c_replay(server: EmbeddedServer, key: str) -> Iterator[int]:
    """``load replay`` of a list of Tailer's; gives its port."""
    with _c_program("replay", "--redis", str(redis_port(server)), "--key", key) as (port, _):
        yield port


@contextmanager
def _c_program(mode: str, *options: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    port = free_port()
    argv = ["taskset", "-c", str(WEB_CORE), program(), mode, "--port", str(port), *options]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            if child.stdout.readline() != "listening\n":
                raise RuntimeError(f"load {mode} ended with {child.wait()}")
            yield port, child
        finally:
            child.kill()
