"""Jobs for the tests' workers, many of them badly behaved. To an RQ queue they are `tests.jobs.NAME`.

Paths that a job waits for or leaves are given as its arguments, so that a test can lead it step by step.
"""

import base64
import ctypes
import faulthandler
import io
import json
import logging
import mmap
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import quote

from rq.job import Retry

PATIENCE_S = 60
"""How long a job waits for its test, so that one which was forgotten ends by itself."""


def _wait_for(path: str) -> None:
    """Return when there is such a file."""
    deadline = time.monotonic() + PATIENCE_S
    while not Path(path).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody made {path}")
        time.sleep(0.005)


def _first_time(path: str) -> bool:
    """Whether this is the first call with this path."""
    try:
        Path(path).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


# Well behaved.


def hello() -> None:
    """Print one line, and end well."""
    print("hello")


def silent() -> None:
    """Print nothing at all."""


def wait_for(path: str) -> None:
    """Print "waiting", and "done" as soon as there is such a file."""
    print("waiting")
    _wait_for(path)
    print("done")


def count(path: str) -> None:
    """Print how often it has run, counting in a file."""
    with Path(path).open("a+") as file:
        file.write("x")
        file.flush()
        file.seek(0)
        print("run", len(file.read()))


# Writing in every way there is.


def write_in_every_way() -> None:
    """Write one line "stdout: WAY" or "stderr: WAY" in each way that a job has."""
    from tests import user_code  # noqa: PLC0415 -- as the worker has imported it, if it has

    print("stdout: print")
    print("stderr: print", file=sys.stderr)
    print("stdout: saved at import", file=user_code.SAVED_STDOUT)
    user_code.LOGGER.info("stderr: handler made at import")
    os.write(1, b"stdout: os.write\n")
    os.system("echo stdout: os.system")
    subprocess.run(["sh", "-c", "echo stderr: subprocess >&2"], check=True)
    for method in ("fork", "spawn"):
        process = multiprocessing.get_context(method).Process(target=print, args=[f"stdout: {method}"])
        process.start()
        process.join()
    thread = threading.Thread(target=print, args=["stdout: thread"])
    thread.start()
    thread.join()
    ctypes.CDLL(None).puts(b"stdout: C puts")
    faulthandler.dump_traceback()
    print("stdout: no newline", end="")


def alternate(times: int) -> None:
    """Write to both streams in turn, in single writes."""
    for number in range(times):
        os.write(1 + number % 2, b"%d\n" % number)


def terminal() -> None:
    """Print what a program asks for that wants to know whether it has a terminal."""
    print([os.isatty(fd) for fd in (1, 2)])
    print(os.get_terminal_size(1).columns if os.isatty(1) else None)


def close_output() -> None:
    """Close standard output and standard error under Python's feet."""
    print("before")
    os.close(1)
    os.close(2)


def replace_output() -> None:
    """Put other files in the place of standard output and standard error, and half a line into the real one."""
    print("in a buffer", end="")
    sys.stdout = sys.stderr = io.StringIO()
    print("seen by nobody")


def log_through_rq() -> None:
    """Log through RQ's own logger, as its documentation used to say, and leave a line unfinished."""
    logging.getLogger("rq.worker").warning("mine")
    print("no newline at end", end="")


def log_and_fail() -> None:
    """Log as jobs do that set up no logging, and raise an exception."""
    logging.warning("by the job itself")  # noqa: LOG015 (as they do)
    raise ValueError("of the job")


def prompt(path: str) -> None:
    """Write half a line, leave word of it, and wait for somebody to take that away."""
    sys.stdout.write("Password: ")
    sys.stdout.flush()
    Path(path).touch()
    deadline = time.monotonic() + PATIENCE_S
    while Path(path).exists() and time.monotonic() < deadline:
        time.sleep(0.005)


def write_holding_the_lock(size: int) -> None:
    """Write so many bytes from C, without letting another thread of Python run meanwhile."""
    print(ctypes.PyDLL(None).write(1, b"x" * size, size), file=sys.stderr)


def leave_a_child(path: str) -> None:
    """Fork a process that stays, with all that this one has open, and leave its pid in a file."""
    if not (pid := os.fork()):
        time.sleep(PATIENCE_S)
        os._exit(0)
    Path(path).write_text(str(pid))
    print("child left")


def ignore_children() -> None:
    """Have the system forget children when they end."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ignored")


class Untold(Exception):
    """An exception that cannot be told."""

    def __str__(self) -> str:
        raise RuntimeError("not told either")


def raise_untold() -> None:
    """Fail in a way that cannot be printed."""
    raise Untold


def start_daemon(path: str) -> None:
    """Leave a process behind that goes on writing to this job's output, 100 kB at a time, and counts in a file."""
    script = """
        echo $$ >"$0.pid"
        much=$(head -c 100000 /dev/zero | tr '\\0' d)
        number=0
        while :; do
            number=$((number + 1))
            echo "$much"
            echo $number >"$0"
            sleep 0.02
        done
    """
    subprocess.Popen(["sh", "-c", script, path], start_new_session=True)
    _wait_for(path)
    print("daemon started")


def count_until(path: str, pause: float = 0.001) -> int:
    """Print numbers, with so many seconds between them, until there is such a file, and 1000 more; return how many."""
    number = 0
    while number % 100 or not Path(path).exists():
        print(number)
        number += 1
        time.sleep(pause)
    for more in range(number, number + 1000):
        print(more)
    return number + 1000


def write_more_than_fits(path: str) -> int:
    """Say so, then write more than a pipe holds, in small lines; return how many."""
    Path(path).touch()
    for number in range(1_000_000):
        print(number)
    return 1_000_000


def leak(pause: float = 0.0) -> None:
    """Write the variable SECRET to both streams: byte by byte, in two halves, encoded, and in one piece."""
    secret = os.environ["SECRET"].encode()
    half = len(secret) // 2
    for stream in (1, 2):
        for byte in b"bytes " + secret + b"\n":
            os.write(stream, bytes([byte]))
        for part in (b"halves " + secret[:half], secret[half:] + b"\n"):
            os.write(stream, part)
            time.sleep(pause)
        for before in (b"", b"a", b"ab"):
            os.write(stream, b"base64 " + base64.b64encode(before + secret + b"xyz") + b"\n")
        os.write(stream, f"url {quote(secret)} json {json.dumps(secret.decode())}\n".encode())
        os.write(stream, b"twice " + secret + secret)
        os.write(stream, b"\nthe end\n")


def register(value: str, path: str) -> None:
    """Register a mask, print its value and "masked", wait for the file, and print it once more to both streams."""
    print(f"::add-mask::{value}")
    print(f"{value} masked")
    _wait_for(path)
    print(value, "again")
    print(value, "as error", file=sys.stderr)


def register_late(value: str, path: str) -> None:
    """Print a value, wait for the file, and only then register it, print it again, and say so."""
    print(f"early {value}")
    _wait_for(path)
    print(f"::add-mask::{value}\nlate {value}")


def tear(path: str) -> None:
    """Write the first half of the variable SECRET, wait for the file, and write the second one."""
    secret = os.environ["SECRET"]
    print("begin", secret[:10], sep="", end="", flush=True)
    Path(f"{path}.torn").touch()
    _wait_for(path)
    print(f"{secret[10:]} rest\n{secret}\nthe end")


def leave_a_telltale(path: str) -> None:
    """Register a mask, and leave a process behind that prints it and the variable SECRET once there is such a file."""
    print("::add-mask::for-daemons")
    script = 'while [ ! -e "$0" ]; do sleep 0.02; done; echo for-daemons, registered; echo "$SECRET from the daemon"'
    subprocess.Popen(["timeout", str(PATIENCE_S), "sh", "-c", script, path], start_new_session=True)


def betray() -> None:
    """Fail with an exception that tells the variable SECRET, far behind in a long message."""
    raise ValueError("x" * 470 + os.environ["SECRET"])


# Failing.


def fail() -> None:
    """Raise an exception from a function of its own."""
    print("about to fail")
    _fail_deeper()


def _fail_deeper() -> None:
    raise ValueError("no π\nat all")


def wait_and_fail(path: str) -> None:
    """Print "waiting", and fail as soon as there is such a file."""
    print("waiting")
    _wait_for(path)
    raise ValueError("not wanted")


def fail_once(path: str) -> None:
    """Fail at the first run, end well at the next."""
    print("trying")
    if _first_time(path):
        raise RuntimeError("not yet")


def return_retry(path: str) -> Retry | None:
    """Ask RQ for another run at the first one."""
    print("trying")
    return Retry(max=1) if _first_time(path) else None


def always_return_retry() -> Retry:
    """Ask RQ for one other run, at every run."""
    print("trying")
    return Retry(max=1)


def overtime() -> None:
    """Work for longer than it may, in small steps that RQ's timeout can interrupt."""
    print("working")
    for _ in range(PATIENCE_S * 20):
        time.sleep(0.05)


# Dying.


def kill_itself(number: int = signal.SIGKILL) -> None:
    """Print half a line, and die of a signal."""
    print("last words", end="", flush=True)
    os.kill(os.getpid(), number)


def die_once(path: str) -> None:
    """Die of SIGKILL at the first run, end well at the next."""
    print("trying")
    if _first_time(path):
        os.kill(os.getpid(), signal.SIGKILL)


def crash() -> None:
    """Print a line, and read from address 0."""
    print("last words")
    ctypes.string_at(0)


def leave(code: int) -> None:
    """End the process behind RQ's back, without any clean-up."""
    print("leaving")
    os._exit(code)


def memory_error() -> None:
    """Ask for more memory than the process may have, which Python notices."""
    print("allocating")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
    bytearray(1 << 30)


def eat_memory() -> None:
    """Use memory without end; only for a process that is limited."""
    print("allocating")
    eaten = []
    while True:
        eaten.append(b"x" * (8 << 20))


def print_blocks(place: str, blocks: int, size: int) -> None:
    """Print blocks of lines of 20 bytes with their numbers, each when there is a file with the number of the block."""
    number = 0
    for block in range(blocks):
        _wait_for(f"{place}/{block}")
        for _ in range(size // 20):
            number += 1
            print(f"line {number:014}")
