"""The pump: drains a job's pipes for as long as the job runs, whatever else happens."""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
from collections.abc import Callable, Sequence

from tailer.logs import CURRENT
from worker.capture import PIECE, Report, Source, capacity, waiting
from worker.counts import COUNTS
from worker.redact import Redactor

logger = logging.getLogger("tailer.worker")

COALESCE_MS = 2
"""Pause after a read that emptied the pipe: the next read then takes many lines instead of one."""
PTY_BUFFERED = 1 << 20
"""More than a pseudo terminal can hold: the most that is read from one after its job has gone."""

Take = Callable[[str, bytes], None]


class Pump(threading.Thread):
    """Reads ``sources`` and hands what comes, masked by ``redactor``, to each of ``takers`` as ``taker(stream, data)``.

    A taker that raises is logged and left out from then on; the draining goes on, because a pipe that fills up
    stops the job. Where masking fails, nothing is handed out any more.
    """

    def __init__(
        self, sources: Sequence[Source], takers: Sequence[Take], report: Report, redactor: Redactor | None = None
    ) -> None:
        super().__init__(name="tailer-pump", daemon=True)
        self._sources = {source.fd: source for source in sources}
        # Behind so many bytes there may be more, or a writer that waits: a pause would stall the job.
        self._much = {source.fd: min(PIECE, capacity(source) // 2) for source in sources}
        self._takers = list(takers)
        self._report = report
        self._redactor = redactor
        self._current = CURRENT.get()
        self._stop_read, self._stop_write = os.pipe()

    def finish(self) -> None:
        """Take what is in the pipes now, all of it, and stop. To be called when the horse is gone."""
        os.write(self._stop_write, b"!")
        self.join()
        os.close(self._stop_read)
        os.close(self._stop_write)

    def run(self) -> None:
        """Drain until ``finish`` is called."""
        CURRENT.set(self._current)
        try:
            self._pump()
        except Exception:
            logger.exception("the pump failed; it goes on without passing the output on")
            COUNTS.fault()
            self._takers.clear()
            self._redactor = None
            self._pump()

    def _pump(self) -> None:
        poller = select.poll()
        stop = select.poll()
        poller.register(self._stop_read, select.POLLIN)
        stop.register(self._stop_read, select.POLLIN)
        for fd in self._sources:
            poller.register(fd, select.POLLIN)
        ended: set[int] = set()
        while True:
            ready = {fd for fd, _ in poller.poll()}
            if self._stop_read in ready:
                break
            emptied = True
            for fd in [fd for fd in self._sources if fd in ready]:
                data = self._read(self._sources[fd], PIECE)
                if data is None:
                    poller.unregister(fd)
                    ended.add(fd)
                    continue
                emptied &= len(data) < self._much[fd]
                self.hand_out(self._sources[fd].stream, data)
            if emptied:
                stop.poll(COALESCE_MS)
        self._drain(ended)

    def _drain(self, ended: set[int]) -> None:
        """Read what the horse wrote before it went, and no more: a daemon may go on writing for ever."""
        for source in self._sources.values():
            if source.fd in ended:
                continue
            left = waiting(source) if os.get_blocking(source.fd) else PTY_BUFFERED
            while left > 0:
                data = self._read(source, left)
                if not data:
                    break
                left -= len(data)
                self.hand_out(source.stream, data)
        if self._redactor:
            for source in self._sources.values():
                self._pass_on(source.stream, self._redactor.flush(source.stream))

    def _read(self, source: Source, size: int) -> bytes | None:
        """Return what is there, and count it; ``b""`` if there is nothing just now, ``None`` at the end."""
        if os.get_blocking(source.fd) and (there := waiting(source)):
            return self._report.drain(source, min(there, size))
        # Nothing is there, or it is a pseudo terminal, which does not say how much.
        data = _read(source.fd, size)
        self._report.count(data or b"")
        return data

    def hand_out(self, stream: str, data: bytes) -> None:
        """Mask what was read of ``stream`` and pass it on. To be called by others only before the start."""
        if data:
            self._pass_on(stream, self._redactor.feed(stream, data) if self._redactor else data)

    def _pass_on(self, stream: str, data: bytes) -> None:
        if not data:
            return
        for take in list(self._takers):
            try:
                take(stream, data)
            except Exception:
                self._takers.remove(take)
                logger.exception("%r failed and gets no more of this job's output", take)
                COUNTS.fault()


def _read(fd: int, size: int) -> bytes | None:
    """Return what is there, ``b""`` if there is nothing just now, ``None`` at the end."""
    try:
        return os.read(fd, size) or None
    except BlockingIOError:
        return b""
    except OSError as error:
        # A pseudo terminal whose last writer has gone says EIO.
        if error.errno != errno.EIO:
            logger.warning("reading a job's output: %s", error)
        return None


def hung_up(source: Source) -> bool:
    """Return whether no process can write to ``source`` any more, and nothing is left in it."""
    poller = select.poll()
    poller.register(source.fd, select.POLLIN)
    return any(event & (select.POLLHUP | select.POLLERR) and not event & select.POLLIN for _, event in poller.poll(0))


def forward_rest(sources: Sequence[Source], take: Take | None, redactor: Redactor | None = None) -> None:
    """Keep draining what a job left running, in the background, so that it lives on as it does under plain RQ.

    What it still writes belongs to no job: it goes, masked by ``redactor``, to ``take`` (the console), if any. Closes
    the sources.
    """

    def drain(source: Source) -> None:
        os.set_blocking(source.fd, True)
        while data := _read(source.fd, 1 << 16):
            if take:
                take(source.stream, redactor.feed(source.stream, data) if redactor else data)
        if take and redactor:
            take(source.stream, redactor.flush(source.stream))
        os.close(source.fd)

    for source in sources:
        threading.Thread(target=drain, args=[source], name="tailer-left-over", daemon=True).start()
