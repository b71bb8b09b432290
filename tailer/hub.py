"""One reader of Redis per web process: it reads what is new in followed logs once, and wakes those who follow them."""

from __future__ import annotations

import logging
import resource
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from tailer.archived import open_store
from tailer.channel import Channel, Share
from tailer.clients import Clients
from tailer.errors import AttemptMissing, CorruptRecord, LogClosed, ServerStopping, StoreUnavailable, TailerError
from tailer.follower import Follower
from tailer.jobs import Jobs, JobState
from tailer.metrics import FOLLOWERS, LOGS, LOST, REDIS_LOST
from tailer.poller import Poller
from tailer.records import MAX_CHUNK, End, Record
from tailer.settings import Settings
from tailer.store import AttemptSummary, LogStore, connect, now_ms, wake_channel
from tailer.wakeups import WakeUps

logger = logging.getLogger(__name__)

RING = 4 << 20
"""Bytes of the newest output kept per followed log at most; a follower that is further behind reads Redis by itself."""
RINGS = 256 << 20
"""Bytes that all of them share; a chunk's worth each is always there."""
TICK_S = 0.5
"""How long the hub waits for news before it looks for what is due."""
PACE_S = 0.004
"""Shortest time between two looks at the wake-ups: under load batches grow, and a lone line still goes out at once."""
POLL_S = 1.0
"""How often a followed log without news is looked at anyway: a wake-up may be lost, and RQ sends none."""
LOOKS = 50
"""Most logs looked at per ``TICK_S``: with many more of them, each has its turn less often."""
ALIVE_S = 2.0
"""How often the hub asks whether the workers of quiet logs are alive."""
QUIET_S = 5.0
"""How long a log must have been quiet before the hub asks whether its worker is alive: one that writes is."""
CONFIRM_S = 2.0
"""A worker counts as lost when its alive key was seen missing for so long, with no output meanwhile."""
IDLE_S = 30.0
"""The hub's thread ends after so long without a follower."""
BACKOFF_S = (0.1, 2.0)
RESERVED = 128
"""File descriptors left for all but followers: a server that runs out of them cannot even turn clients away."""


class Hub:
    """Followers of the same job share one ``Channel``. The hub's one thread starts with the first follower.

    ``stopping`` is asked now and then whether the process is told to stop: all streams are ended then. ``takes_over``
    tells whether it may be given connections that a web server lends.
    """

    def __init__(self, store: LogStore, jobs: Jobs) -> None:
        self.store = store
        self._near = store.near  # The hub's thread serves everybody, and waits for no archive.
        self.jobs = jobs
        self.stopping: Callable[[], bool] = lambda: False
        self.takes_over = False
        self._channels: dict[str, Channel] = {}
        self._share = Share(RING)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._poller: Poller | None = None
        self._clients: Clients | None = None
        self._inbox: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque()
        # What follows is for the hub's thread only.
        self._wakeups: WakeUps | None = None
        self._retry_at, self._backoff = 0.0, BACKOFF_S[0]
        self._named: dict[bytes, Channel] = {}
        self._fresh: list[str] = []
        self._rota: deque[Channel] = deque()
        self._urgent: set[Channel] = set()
        self._ticked = self._asked_alive = self._paced = self._idle_since = 0.0

    @classmethod
    def open(cls, settings: Settings) -> Hub:
        """Return one for the logs and jobs that the settings name. Connects to nothing yet."""
        return cls(open_store(settings), Jobs(connect(settings.rq_url)))

    # For all threads.

    @contextmanager
    def follow(self, job_id: str) -> Iterator[Channel]:
        """Hold the job's channel; it is freed when its last follower leaves.

        Raises:
            ServerStopping: the process is told to stop.
        """
        if self.stopping():
            raise ServerStopping("follow the log again")
        with self._lock:
            channel = self._channels.get(job_id)
            if channel is None:
                resume = self._start().let_go
                channel = Channel(job_id, share=self._share, resume=resume, look=self._look_soon)
                self._channels[job_id] = channel
                LOGS.inc()
                self._share_out()
                self._do(self._subscribe, channel)
            channel.followers += 1
            FOLLOWERS.inc()
        try:
            yield channel
        finally:
            with self._lock:
                channel.followers -= 1
                FOLLOWERS.dec()
                if channel.followers == 0:
                    LOGS.dec()
                    del self._channels[job_id]
                    self._share_out()
                    self._do(self._forget, channel)

    def followers(self) -> dict[str, int]:
        """Return how many follow each job."""
        with self._lock:
            return {job_id: channel.followers for job_id, channel in self._channels.items()}

    def is_full(self) -> bool:
        """Return whether the process may open too few more files for another follower."""
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return len(self._clients or ()) >= allowed - RESERVED

    def take(self, follower: Follower) -> None:
        """Serve a client whose connection was taken over."""
        with self._lock:
            self._do(self._start().add, follower)

    def close(self, timeout: float = 3.0) -> None:
        """End all streams, each so that its client knows to resume; waits up to ``timeout`` seconds for that."""
        self.stopping = lambda: True
        deadline = time.monotonic() + timeout
        while (self._channels or self._clients) and time.monotonic() < deadline:
            self._do(self._stop)
            time.sleep(0.05)

    def _start(self) -> Clients:
        if self._clients is None:
            thread = threading.Thread(target=self._run, name="tailer-hub", daemon=True)
            thread.start()  # It waits for the lock. Where no more threads may be started, the next caller tries again.
            self._poller, self._thread = Poller(), thread
            self._clients = Clients(self._poller, self._do)
        return self._clients

    def _do(self, function: Callable[..., None], *arguments: object) -> None:
        """Have the hub's thread call ``function``."""
        self._inbox.append((function, arguments))
        if self._poller:
            self._poller.wake()

    def _share_out(self) -> None:
        self._share.room = min(RING, max(MAX_CHUNK, RINGS // max(1, len(self._channels))))

    def _look_soon(self, channel: Channel) -> None:
        self._do(self._urgent.add, channel)

    # The hub's thread.

    def _run(self) -> None:
        """Serve until nobody has followed for a while; Redis may come and go."""
        self._idle_since = time.monotonic()
        while parts := self._wanted():
            try:
                self._turn(*parts)
            except Exception:
                logger.exception("the hub failed and goes on")
                self._hang_up()
                time.sleep(BACKOFF_S[0])

    def _wanted(self) -> tuple[Poller, Clients] | None:
        """Return what to wait with, and for; ``None``, having tidied up, if nobody has followed for a while."""
        with self._lock:
            if self._channels or self._clients or self._inbox:
                self._idle_since = time.monotonic()
            elif time.monotonic() - self._idle_since > IDLE_S and self._poller:
                self._hang_up()
                self._rota.clear()
                self._urgent.clear()
                if self._clients is not None:
                    self._clients.close()
                self._poller.close()
                self._poller = self._clients = self._thread = None
            return (self._poller, self._clients) if self._poller and self._clients is not None else None

    def _turn(self, poller: Poller, clients: Clients) -> None:
        """Wait for something to happen, and deal with it."""
        told = False
        for fd, events in poller.wait(min(TICK_S, clients.until_timer())):
            if self._wakeups and fd == self._wakeups.fd:
                told = True
            else:
                clients.stir(fd, events)
        while self._inbox:
            function, arguments = self._inbox.popleft()
            function(*arguments)
        clients.expire_timers()
        now = time.monotonic()
        ticks = now - self._ticked >= TICK_S
        if ticks:
            self._ticked = now
            self._beat(now)
        try:
            self._serve(told=told, ticks=ticks)
        except StoreUnavailable as error:
            logger.warning("followers wait for Redis: %s", error)
            REDIS_LOST.inc()
            self._hang_up()

    def _beat(self, now: float) -> None:
        if self.stopping():
            self._stop()
        for channel in list(self._channels.values()):
            if channel.feeds:
                channel.beat(now)
        self._share.tally.publish()

    def _stop(self) -> None:
        for channel in list(self._channels.values()):
            channel.fail(ServerStopping("follow the log again"))

    # Redis.

    def _serve(self, *, told: bool, ticks: bool) -> None:
        """Read what is new. Raises ``StoreUnavailable``."""
        if self._wakeups is None:
            if self._named:
                self._call()
            return
        if self._fresh:
            self._wakeups.subscribe(self._fresh)
            self._fresh.clear()
        if told:
            self._hear(self._wakeups)
        if self._urgent:
            urgent = [channel for channel in self._urgent if channel.followers and channel.listening]
            self._urgent.clear()
            self._look(urgent)
        if ticks:
            self._wakeups.check()
            self._look(list(self._due()))
            self._check_alive()

    def _call(self) -> None:
        """Subscribe anew to all that is followed."""
        now = time.monotonic()
        if now < self._retry_at:
            return
        self._retry_at, self._backoff = now + self._backoff, min(self._backoff * 2, BACKOFF_S[1])
        self._wakeups = WakeUps(self.store.connection)
        if self._poller:
            self._poller.add(self._wakeups.fd)
        self._fresh.clear()
        self._wakeups.subscribe(["tailer:wake", *map(bytes.decode, self._named)])

    def _hang_up(self) -> None:
        if self._wakeups:
            if self._poller:
                with suppress(OSError, KeyError):
                    self._poller.remove(self._wakeups.fd)
            self._wakeups.close()
            self._wakeups = None

    def _subscribe(self, channel: Channel) -> None:
        name = wake_channel(channel.job_id)
        self._named[name.encode()] = channel
        self._fresh.append(name)

    def _forget(self, channel: Channel) -> None:
        name = wake_channel(channel.job_id)
        if self._named.get(name.encode()) is channel:
            del self._named[name.encode()]
            if name in self._fresh:
                self._fresh.remove(name)
            elif self._wakeups:
                with suppress(StoreUnavailable):  # which the next read will notice
                    self._wakeups.unsubscribe([name])

    def _hear(self, wakeups: WakeUps) -> None:
        """Take in what the wake-ups tell, and read what they don't."""
        if (pause := self._paced - time.monotonic()) > 0:
            time.sleep(pause)
        messages = wakeups.read()
        self._paced = time.monotonic() + PACE_S
        heard: dict[Channel, bool] = {}
        for message in messages:
            if len(message) != len(("kind", "channel", "data")):
                continue  # It answers a PING.
            kind, name, data = message
            channel = self._named.get(name)
            if channel is None:
                continue
            if kind == b"subscribe":
                self._backoff = BACKOFF_S[0]
                if not channel.listening:
                    channel.listening = True
                    self._rota.append(channel)
                self._urgent.add(channel)
            elif kind == b"message" and heard.get(channel, True):
                heard[channel] = channel.hear(data)
        unread = []
        for channel, told in heard.items():
            channel.flush()
            if not told:
                unread.append(channel)
        if unread:
            self._advance(unread)

    def _advance(self, channels: Sequence[Channel]) -> None:
        """Read what is new in these logs."""
        behind = []
        summaries = self._near.summaries([channel.job_id for channel in channels])
        for channel, summary in zip(channels, summaries, strict=True):
            if isinstance(summary, CorruptRecord):
                channel.fail(summary)
            elif reader := channel.expect(self._near, summary):
                behind.append((channel, reader))
        while behind:
            again = []
            answers = self._near.fetch([reader for _, reader in behind])
            for (channel, reader), records in zip(behind, answers, strict=True):
                try:
                    self._extend(channel, records)
                except Exception as error:  # noqa: BLE001 (one broken log must not hold up the others)
                    channel.fail(error)
                    continue
                if reader.full:
                    again.append((channel, reader))
                else:
                    channel.settle()
            behind = again

    def _extend(self, channel: Channel, records: list[Record | None] | TailerError) -> None:
        if isinstance(records, TailerError):
            raise records
        channel.extend(records)

    def _due(self) -> Iterator[Channel]:
        """Yield the logs whose turn it is to be looked at."""
        now = time.monotonic()
        for _ in range(min(LOOKS, len(self._rota))):
            if now - self._rota[0].asked_at < POLL_S:
                return
            channel = self._rota.popleft()
            if channel.followers:
                self._rota.append(channel)
                if now - channel.changed >= POLL_S:
                    yield channel

    def _look(self, channels: Sequence[Channel]) -> None:
        """See what no wake-up tells: RQ's view of the jobs."""
        if not channels:
            return
        known = [channel.summary for channel in channels]
        now = time.monotonic()
        states = self.jobs.states([channel.job_id for channel in channels])
        self._advance(channels)
        for channel, state, summary in zip(channels, states, known, strict=True):
            channel.judge(state, now, summary)

    def _check_alive(self) -> None:
        """End the logs of workers that are gone."""
        now = time.monotonic()
        if now - self._asked_alive < ALIVE_S:
            return
        self._asked_alive = now
        quiet = [
            (channel, attempt.number)
            for channel in self._named.values()
            if channel.summary and now - channel.changed > QUIET_S
            for attempt in channel.summary.attempts
            if attempt.end is None
        ]
        alive = self.store.living([(channel.job_id, number) for channel, number in quiet]) if quiet else []
        for (channel, number), lives in zip(quiet, alive, strict=True):
            if lives:
                channel.suspect.pop(number, None)
            elif now - channel.suspect.setdefault(number, now) >= CONFIRM_S:
                del channel.suspect[number]
                self._end_lost(channel, number)

    def _end_lost(self, channel: Channel, number: int) -> None:
        self._look([channel])
        attempt = channel.summary.attempt(number) if channel.summary else None
        if attempt and attempt.end is None and channel.state:
            # Somebody else may have ended it meanwhile; output that came meanwhile shows that it is not lost.
            with suppress(LogClosed, AttemptMissing):
                self.store.end(channel.job_id, lost(attempt, channel.state))
                LOST.inc()


def lost(attempt: AttemptSummary, state: JobState) -> End:
    """Return the end record of an attempt whose worker has stopped reporting."""
    now = now_ms()
    return End(
        outcome="lost",
        attempt=attempt.number,
        final=not state.waiting,
        status=state.status,
        reason="its worker stopped reporting",
        duration=round((now - attempt.started) / 1000, 3),
        bytes=attempt.bytes,
        lines=attempt.lines,
        worker=attempt.about.worker if attempt.about else None,
        ended_at=now / 1000,
    )
