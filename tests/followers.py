"""Followers without HTTP: threads that walk through a job's log as a response's generator does."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tailer.follow import Event, Final, Selection, follow, waiting
from tailer.hub import Hub
from tailer.jobs import Jobs
from tailer.records import Chunk, Hole
from tailer.store import Cursor, LogStore, connect
from tests.waiting import wait_until
from tests.written import Written


class Follower(threading.Thread):
    """Follows a job from a cursor to its end; `events` is what it got so far, each with the cursor behind it."""

    def __init__(
        self, hub: Hub, job_id: str, start: Cursor, *, heartbeat: float, pause: Callable[[], object] | None
    ) -> None:
        super().__init__(daemon=True)
        self.events: list[tuple[Event, Cursor]] = []
        self.failure: Exception | None = None
        self._generator = follow(hub, Selection(job_id=job_id, start=start), heartbeat)
        self._pause = pause
        self.start()

    def run(self) -> None:
        """Walk to the end."""
        try:
            for placed in waiting(self._generator):
                self.events.append(placed)
                if self._pause:
                    self._pause()
        except Exception as error:  # noqa: BLE001 -- a test looks at it
            self.failure = error
        finally:
            self._generator.close()

    @property
    def data(self) -> bytes:
        """The output received so far."""
        return b"".join(event.data for event, _ in list(self.events) if isinstance(event, Chunk))

    @property
    def holes(self) -> list[Hole]:
        """The holes received so far."""
        return [event for event, _ in list(self.events) if isinstance(event, Hole)]

    @property
    def finals(self) -> list[Final]:
        """The end: none yet, or one."""
        return [event for event, _ in list(self.events) if isinstance(event, Final)]

    def done(self, timeout: float = 20) -> Follower:
        """Return when the log has ended for it; AssertionError if it ended otherwise, or not in time."""
        self.join(timeout)
        assert not self.is_alive(), self.events[-3:]
        assert self.failure is None, self.failure
        assert len(self.finals) == 1
        assert isinstance(self.events[-1][0], Final)
        return self


class Watchers:
    """A hub on a server of the test's own, and the followers that the test starts on it."""

    def __init__(self, url: str) -> None:
        self.connection = connect(url)
        self.store = LogStore(self.connection)
        self.hub = Hub(self.store, Jobs(connect(url)))
        self._followers: list[Follower] = []

    def started(self) -> Written:
        """A log that a job writes just now."""
        log = Written(self.store)
        log.rq_job(self.connection, "started")
        return log

    def follow(
        self,
        job_id: str,
        start: Cursor = Cursor(),  # noqa: B008 -- it can't be changed
        *,
        heartbeat: float = 15.0,
        pause: Callable[[], object] | None = None,
    ) -> Follower:
        """Start a follower; `pause` is called after each of its events."""
        self._followers.append(Follower(self.hub, job_id, start, heartbeat=heartbeat, pause=pause))
        return self._followers[-1]

    def joined(self, job_id: str, count: int) -> None:
        """Return when so many follow the job and the hub has seen them."""
        wait_until(lambda: self.hub.followers().get(job_id) == count, what=f"{count} followers")
        wait_until(lambda: self.hub._channels[job_id].state is not None, what="the hub has looked")

    def close(self) -> None:
        """End all followers and the hub's thread, while the server is still there."""
        for channel in list(self.hub._channels.values()):
            channel.fail(RuntimeError("the test is over"))
        for follower in self._followers:
            follower.join(10)
            assert not follower.is_alive()
        wait_until(lambda: self.hub._thread is None, what="the hub's thread to end")
        for connection in (self.connection, self.hub.jobs.connection):
            connection.connection_pool.disconnect()
