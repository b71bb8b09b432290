"""Real processes for tests: started, read, signalled, and none of them left over."""

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tailer.embedded import free_port
from tests.waiting import wait_until

__all__ = ["MARK", "Running", "free_port", "leftovers", "present", "running", "shared"]

MARK = "RUNNING_TEST"  # the environment variable by which a test's processes are found, however they detach
shared: set[int] = set()  # pids of what outlives a test: a wider fixture adds what it starts


class Running:
    """A process of a test, leader of its own process group. Its output goes to files and is kept after its end."""

    def __init__(self, process: subprocess.Popen[bytes], stdout: Path, stderr: Path) -> None:
        self._process = process
        self._stdout = stdout
        self._stderr = stderr
        self.pid = process.pid
        self.argv = process.args

    def stdout(self) -> bytes:
        """What it has written to standard output so far."""
        return self._stdout.read_bytes()

    def stdout_size(self) -> int:
        """How many bytes that is, without reading them."""
        return self._stdout.stat().st_size

    def stderr(self) -> bytes:
        """What it has written to standard error so far."""
        return self._stderr.read_bytes()

    def text(self) -> str:
        """Standard output and then standard error so far, as text; bytes that aren't UTF-8 are replaced."""
        return (self.stdout() + self.stderr()).decode(errors="replace")

    def says(self, text: str, timeout: float = 10) -> None:
        """Return when that is in its output; AssertionError with the output if it is not within the seconds."""
        try:
            wait_until(lambda: text in self.text(), timeout)
        except AssertionError:
            raise AssertionError(f"not said within {timeout} s: {text!r}\n{self.text()}") from None

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def wait(self, timeout: float = 10) -> int:
        """The exit code, negative for a signal; AssertionError with its output if it still runs after the seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {timeout} s: {self.argv}\n{self.text()}") from None

    def signal(self, sig: int) -> None:
        """Send it alone, not its group, a signal. Does nothing if its end has been seen."""
        self._process.send_signal(sig)


@contextlib.contextmanager
def running(
    argv: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    ready: str | Callable[[Running], object] | None = None,
) -> Iterator[Running]:
    """Run a command in the block; at the block's end its process group is ended, by SIGKILL after 5 s.

    `env` is laid over the test's own environment. `ready` is a text that must be in the output, or a condition that
    must hold, before the block begins: AssertionError with the output if the process ends first, or after 20 s.
    """
    with tempfile.TemporaryDirectory(prefix="tailer-test-") as scratch:
        stdout, stderr = Path(scratch) / "stdout", Path(scratch) / "stderr"
        with stdout.open("wb") as out, stderr.open("wb") as err:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )
        held = Running(process, stdout, stderr)
        try:
            if ready is not None:
                _wait_ready(held, ready)
            yield held
        finally:
            _end_group(process)


def present() -> set[int]:
    """The pids of all processes on this machine; none where there is no /proc."""
    with contextlib.suppress(OSError):
        return {int(name) for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208 (10 times as fast)
    return set()


def leftovers(mark: str, *, besides: set[int] | frozenset[int] = frozenset()) -> dict[int, str]:
    """Command lines by pid of this process's children, and of all processes that bear the mark.

    Those `besides` are not looked at: to read of every process on a machine takes some 20 ms. Linux only; elsewhere
    there are never any.
    """
    wanted = f"{MARK}={mark}".encode()
    found: dict[int, str] = {}
    for pid in present() - besides:
        about = Path(f"/proc/{pid}")
        with contextlib.suppress(OSError):  # it has ended meanwhile, or is another user's
            parent = int((about / "stat").read_bytes().rpartition(b")")[2].split()[1])
            command = (about / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            if "multiprocessing.resource_tracker" in command:  # Python's own; it serves until we end
                continue
            if parent == os.getpid() or wanted in (about / "environ").read_bytes().split(b"\0"):
                found[pid] = command or "(ended, but not waited for)"
    found.pop(os.getpid(), None)
    return found


def _wait_ready(held: Running, ready: str | Callable[[Running], object]) -> None:
    """Return when it is ready; raises AssertionError if it ends or does not get ready in time."""

    def ended_or_ready() -> object:
        ended = held.poll() is not None  # before the look: an end may come with the awaited text
        return (ready in held.text() if isinstance(ready, str) else ready(held)) or ended

    try:
        wait_until(ended_or_ready, 20, f"{held.argv} ready")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{held.text()}") from None
    if held.poll() is not None and not (isinstance(ready, str) and ready in held.text()):
        raise AssertionError(f"ended with {held.poll()} before it was ready: {held.argv}\n{held.text()}")


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the process and its group; returns when the process is reaped."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        os.killpg(process.pid, signal.SIGCONT)  # a paused process would not see the other signal
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
