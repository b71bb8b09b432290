"""The web side under the WSGI servers that it is tested with, each as a process of its own."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import redis

from tailer.store import wake_channel
from tests.processes import Running, free_port, running
from tests.stack import BIN, ROOT, clean
from tests.waiting import wait_until

LENDING = ("gevent", "gthread")
"""The workers of gunicorn, which lend the hub their sockets."""
SERVERS = (*LENDING, "waitress", "flask")


def command(kind: str, port: int) -> list[str]:
    """The command line of a server."""
    here = f"127.0.0.1:{port}"
    match kind:
        case "gevent" | "gthread":
            return [str(BIN / "gunicorn"), "-b", here, "-k", kind, "--threads", "16", "wsgi:app"]
        case "waitress":
            options = ["--threads=64", "--channel-request-lookahead=1", "--send-bytes=1", f"--listen={here}"]
            return [str(BIN / "waitress-serve"), *options, "wsgi:app"]
        case "flask":
            return [sys.executable, "-m", "flask", "--app", "wsgi:app", "run", "--with-threads", "-p", str(port)]
    raise ValueError(kind)


@contextlib.contextmanager
def served(
    kind: str,
    redis_url: str,
    *,
    port: int | None = None,
    files: int | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[tuple[str, Running]]:
    """Run the web side for the block; yields its URL and the process. `files` is how many it may open."""
    port = port or free_port()
    settings = {"REDIS_URL": redis_url, **(env or {})}
    limited = ["sh", "-c", f'ulimit -n {files} && exec "$@"', "sh"] if files else []
    with running([*limited, *clean(command(kind, port), settings)], cwd=ROOT, env=settings) as process:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(port) or process.poll() is not None, 20, f"{kind} listening")
        assert process.poll() is None, process.text()
        yield url, process


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def worker_of(process: Running) -> int:
    """The pid of gunicorn's one worker."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_until(lambda: children.read_text().split(), 10, "a worker")
    return int(children.read_text().split()[-1])


def connections_to(url: str) -> int:
    """How many connections the server has that are not closed on its side (proc(5): 0A is a listener, 06 TIME_WAIT)."""
    ours = f":{urlsplit(url).port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(ours) and row[3] not in {"0A", "06"} for row in rows)


def cpu_of(pid: int) -> int:
    """The clock ticks, of 10 ms, that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def listeners(connection: redis.Redis, job_id: str) -> int:
    """How many web processes have a follower of the job."""
    return connection.pubsub_numsub(wake_channel(job_id))[0][1]
