"""Jobs that do what people's jobs do, and write down what they wrote, for the end-to-end tests to compare.

Each gets a directory of its own. There its bytes go to the files `stdout`, `stderr` and `both` as well. In the
middle of its work it makes the file `half` and waits for the file `go`.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

PATIENCE_S = 60.0
"""How long a job waits for its test; one that failed must not leave it waiting."""
LONG_LINE = 10_000_000
RANDOM_BYTES = 1_000_000
GIL_BYTES = 4 << 20
"""More than any pipe holds: if nobody could read while it is written, the write would never return."""


class Place:
    """A job's directory: writes to fds 1 and 2 and, the same bytes, to the files there."""

    def __init__(self, directory: str) -> None:
        self.path = Path(directory)
        self._files = {1: (self.path / "stdout").open("ab", 0), 2: (self.path / "stderr").open("ab", 0)}
        self._both = (self.path / "both").open("ab", 0)

    def write(self, data: bytes, fd: int = 1) -> None:
        """Write all of `data`."""
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        self.note(data, fd)

    def note(self, data: bytes, fd: int = 1) -> None:
        """Write down what somebody else has written or will write."""
        self._files[fd].write(data)
        self._both.write(data)

    def half_way(self) -> None:
        """Wait until the test lets the job go on."""
        (self.path / "half").touch()
        deadline = time.monotonic() + PATIENCE_S
        while not (self.path / "go").exists():
            if time.monotonic() > deadline:
                raise TimeoutError("the test has not let the job go on")
            time.sleep(0.005)

    def run(self, argv: Sequence[str | os.PathLike[str]]) -> int:
        """Run a program, with what it writes passed on as it comes, as `tee` does; returns its exit code."""
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.path) as child:
            assert child.stdout
            assert child.stderr
            threads = [
                threading.Thread(target=self._pass_on, args=[source.fileno(), fd])
                for source, fd in ((child.stdout, 1), (child.stderr, 2))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return child.returncode

    def _pass_on(self, source: int, fd: int) -> None:
        while data := os.read(source, 1 << 16):
            self.write(data, fd)

    @contextlib.contextmanager
    def streams(self) -> Iterator[None]:
        """Have `sys.stdout` and `sys.stderr` written down in the block; they are terminals if fds 1 and 2 are."""
        before = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = (
            io.TextIOWrapper(_Tee(self, fd), encoding="utf-8", write_through=True) for fd in (1, 2)
        )
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


class _Tee(io.RawIOBase):
    """The file under a text stream."""

    def __init__(self, place: Place, fd: int) -> None:
        self._place = place
        self._fd = fd

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def fileno(self) -> int:
        return self._fd

    def write(self, data: bytes) -> int:
        self._place.write(bytes(data), self._fd)
        return len(data)


def pip_download(directory: str, index: str) -> int:
    """Download a wheel with pip from the index at this URL."""
    place = Place(directory)
    place.write(b"Fetching what we need\n")
    place.half_way()
    # No index but the test's own: neither this machine's configuration nor the environment's.
    pip = ["env", f"PIP_CONFIG_FILE={os.devnull}", sys.executable, "-m", "pip", "--isolated", "download"]
    options = [
        "--disable-pip-version-check",
        "--no-cache-dir",
        "--no-deps",
        "--index-url",
        index,
        "--dest",
        "downloads",
    ]
    return place.run([*pip, *options, "tailer-demo-data"])


def make(directory: str) -> int:
    """Build the C project that lies in the directory, and build it again."""
    place = Place(directory)
    built = place.run(["make", "-j2", "CFLAGS=-Wall -Wextra -fdiagnostics-color=always"])
    place.half_way()
    return built or place.run(["make", "--always-make", "CFLAGS=-Wall -Wextra"])


def git_clone(directory: str, url: str) -> int:
    """Clone a repository twice, with git's progress on stderr."""
    place = Place(directory)
    first = place.run(["git", "clone", "--progress", url, "first"])
    place.half_way()
    return first or place.run(["git", "clone", "--progress", "--bare", url, "second"])


def tqdm_bar(directory: str) -> None:
    """Show a bar that is half full when the job waits."""
    from tqdm import tqdm  # noqa: PLC0415 -- imported where a job would

    place = Place(directory)
    # With tqdm's own, for processes too, Python 3.14 prints a warning of a leaked semaphore behind the job.
    tqdm.set_lock(threading.RLock())
    with place.streams():
        for number in tqdm(range(100), desc="crunching", mininterval=0, file=sys.stderr):
            if number == 50:
                place.half_way()


def rich_bar(directory: str) -> None:
    """Show a table and a bar that is half full when the job waits."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    place = Place(directory)
    with place.streams():
        console = Console()
        table = Table(title="Ünïcode ✓")
        table.add_column("[red]left")
        table.add_row("[bold green]value[/]")
        console.print(table)
        with Progress(console=console, refresh_per_second=50) as progress:
            task = progress.add_task("[cyan]crunching", total=100)
            progress.update(task, advance=50)
            progress.refresh()
            place.half_way()
            progress.update(task, advance=50)


def segfault(directory: str) -> int:
    """Run a Python that dumps its stack when it crashes, and crash it."""
    place = Place(directory)
    place.run([sys.executable, "-c", "print('as a start')"])
    place.half_way()
    crash = "import ctypes; print('last words', flush=True); ctypes.string_at(0)"
    return place.run([sys.executable, "-X", "faulthandler", "-c", crash])


def yes(directory: str, lines: int) -> int:
    """Let a shell's children, which know nothing of us, write so many lines."""
    place = Place(directory)
    place.note(b"y\n" * lines)
    subprocess.run(f"yes | head -n {lines // 2}", shell=True, check=True)
    place.half_way()
    return subprocess.run(f"yes | head -n {lines // 2}", shell=True, check=True).returncode


def long_line(directory: str) -> None:
    """Write ten million bytes without a newline."""
    place = Place(directory)
    data = random.Random(1).randbytes(LONG_LINE // 2).hex().encode()
    place.write(data[: LONG_LINE // 3])
    place.half_way()
    place.write(data[LONG_LINE // 3 :])


def random_bytes(directory: str) -> None:
    """Write a million bytes of any kind, to both streams."""
    place = Place(directory)
    place.write(os.urandom(RANDOM_BYTES // 4))
    place.write(os.urandom(RANDOM_BYTES // 4), 2)
    place.half_way()
    place.write(os.urandom(RANDOM_BYTES // 4), 2)
    place.write(os.urandom(RANDOM_BYTES // 4))


def with_the_gil(directory: str) -> None:
    """Write from C, without letting go of the interpreter's lock, first 64 KiB and then more than a pipe holds."""
    libc = ctypes.PyDLL(None)
    place = Place(directory)
    for size in (64 << 10, GIL_BYTES):
        data = (b"%065535d\n" % size) * (size >> 16)
        place.note(data)
        assert libc.write(1, data, len(data)) == len(data)
        if size == 64 << 10:
            place.half_way()


def daemon(directory: str) -> None:
    """Leave a process behind that goes on printing, and counts in a file `count` what it has printed."""
    place = Place(directory)
    loop = (
        "echo $$ > pid; n=0; while [ $n -lt 20000 ]; do n=$((n+1)); echo line $n || exit 1; echo $n > count;"
        " sleep 0.005; done"
    )
    subprocess.Popen(["setsid", "sh", "-c", loop], cwd=place.path, stdin=subprocess.DEVNULL)
    while not (place.path / "count").exists():
        time.sleep(0.005)
    place.half_way()


def counting(directory: str) -> None:
    """Print numbered lines, a few hundred a second, until the file `go` is there."""
    place = Path(directory)
    number = 0
    while not (place / "go").exists():
        number += 1
        print("line", number)
        time.sleep(0.002)
