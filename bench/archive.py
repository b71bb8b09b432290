"""What a place in an archived log of 1 GB takes to be read: requests and bytes. No time, which is that of the store."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

from bench.jobs import varied
from bench.report import equipment, table
from tailer.archive import Archive
from tailer.archived import ArchivedStore
from tailer.embedded import EmbeddedServer
from tailer.objects import Objects, Opened
from tailer.records import STDOUT, Attempt, Chunk, End, encode
from tailer.store import AttemptSummary, Cursor, connect
from tailer.volume import Writer

SIZE = 1_000_000_000
LINES = 600
"""Of a chunk: as many as fit into 64 KiB."""
POOL = 200_000
BEGAN = 1_800_000_000_000


class Counted(Objects):
    """Objects that count what is read of them."""

    requests = read_bytes = 0

    def names(self, folder: str) -> list[str]:
        """Count it."""
        self.requests += 1
        return super().names(folder)

    def open(self, name: str, size: int) -> Opened | None:
        """Count it."""
        found = super().open(name, size)
        self.requests += 1
        self.read_bytes += len(found.data) if found else 0
        return found

    def read(self, name: str, start: int, end: int, version: str | None) -> bytes:
        """Count it."""
        self.requests += 1
        self.read_bytes += end - start
        return super().read(name, start, end, version)


def measure() -> str:
    """Return the table."""
    with EmbeddedServer() as server, tempfile.TemporaryDirectory(prefix="tailer-bench-") as folder:
        about = f"{equipment(server)}.\n"
        stored, lines = write(folder)
        places: list[tuple[str, Callable[[ArchivedStore], Cursor]]] = [
            ("`tail=100`", lambda store: store.tail("job", 100)),
            ("`tail=10000`", lambda store: store.tail("job", 10_000)),
            (f"`lines={lines // 2}-`, the first piece", lambda store: store.line("job", 1, lines // 2)),
            ("`since=`, in its midst, the first piece", lambda store: store.since("job", BEGAN + lines // 2)),
        ]
        rows = [row(server, folder, *place) for place in places]
        head = ["asked for", "requests", "KiB read"]
        told = f"A log of {SIZE / 1e9:.0f} GB, {lines / 1e6:.0f} million lines, takes {stored / 1e6:.0f} MB there.\n"
        return "\n".join([about, told, table(head, rows)])


def write(folder: str) -> tuple[int, int]:
    """Write the log; returns its size in the archive and its lines."""
    pool = cycle(f"{line}\n" for line in varied(POOL))
    offset = lines = 0
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        writer = Writer(file)
        about = Attempt(BEGAN, 1, "e1")
        writer.add(encode(about))
        while offset < SIZE:
            data = "".join(islice(pool, LINES)).encode()
            chunk = Chunk(STDOUT, BEGAN + lines, offset, lines + 1, LINES, False, data)
            writer.add(encode(chunk))
            offset, lines = chunk.end, lines + LINES
        end = End(outcome="finished", attempt=1, final=True, bytes=offset, lines=lines, ended_at=BEGAN / 1000)
        writer.add(encode(end))
        attempt = AttemptSummary(1, BEGAN, offset, lines, about, end)
        writer.close(attempt)
        file.flush()
        Archive(Objects(f"file://{folder}")).write("job", attempt, Path(file.name))
        return file.tell(), lines


def row(server: EmbeddedServer, folder: str, name: str, place: Callable[[ArchivedStore], Cursor]) -> list[str]:
    """Find a place with nothing kept from before, and read to the end, or one piece of it."""
    objects = Counted(f"file://{folder}")
    store = ArchivedStore(connect(server.url), Archive(objects))
    reader = store.reader("job", place(store))
    while reader.read() and "first piece" not in name:
        pass
    return [name, str(objects.requests), f"{objects.read_bytes / 1024:.0f}"]
