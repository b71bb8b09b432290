"""Builds and drives ``load.c``: the clients of the web side's benchmarks, and the C programs that are their limits."""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

PATIENCE_S = 40.0
"""How long the client may take for an answer; ten thousand connections take five seconds."""
SOURCE = Path(__file__).with_name("load.c")
_scratch = tempfile.TemporaryDirectory(prefix="tailer-bench-")


@cache
def program() -> str:
    """Compile it; returns its path. Raises ``subprocess.CalledProcessError``, or ``OSError`` without a compiler."""
    target = f"{_scratch.name}/load"
    subprocess.run(["cc", "-O2", "-o", target, SOURCE], check=True)
    return target


class Load:
    """Connections that follow ``paths`` in turn; ``stall`` of them never read a body."""

    def __init__(
        self,
        port: int,
        paths: Sequence[str],
        count: int,
        *,
        headers: Sequence[str] = (),
        stall: int = 0,
        early: bool = False,
        rate: int = 2000,
    ) -> None:
        self.count = count
        self._paths = tempfile.NamedTemporaryFile("w", suffix=".paths")  # noqa: SIM115 (closed when left)
        self._paths.write("".join(f"{path}\n" for path in paths))
        self._paths.flush()
        options = {"port": port, "paths": self._paths.name, "count": count, "stall": stall, "rate": rate}
        argv = [program(), "follow", *(["--early"] if early else [])]
        argv += [text for name, value in options.items() for text in (f"--{name}", str(value))]
        argv += [text for header in headers for text in ("--header", header)]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._paths.close()

    def _say(self, word: str) -> None:
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def _hear(self) -> str:
        killer = threading.Timer(PATIENCE_S, self._process.kill)
        killer.start()
        line = self._process.stdout.readline().strip()
        killer.cancel()
        if not line:
            raise RuntimeError(f"the load client ended with {self._process.wait()}")
        return line

    def connected(self) -> dict[str, Any]:
        """Return the figures once all connections are there; raises ``RuntimeError`` if some failed."""
        if (line := self._hear()) != "connected":
            raise RuntimeError(line)
        figures = self.mark()
        if figures["failed"]:
            raise RuntimeError(f"{figures['failed']} of {self.count} connections failed")
        return figures

    def mark(self) -> dict[str, Any]:
        """Return the figures since the last call; ``total``, ``gaps``, ``doubles`` and ``cpu`` are since the start."""
        self._say("mark")
        return json.loads(self._hear())

    def resume(self) -> None:
        """Let the stalled ones read."""
        self._say("resume")

    def closed(self) -> dict[str, Any]:
        """Wait until the server has closed all connections; returns the figures since the last ``mark``."""
        self._say("wait")
        while (line := self._hear()) != "closed":
            if line != "connected":
                raise RuntimeError(line)
        return self.mark()
