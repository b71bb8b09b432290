"""One reader of Redis per web process: wakes followers, and reads what is new once, however many follow it."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import redis

from tailer.errors import AttemptMissing, CorruptRecord, LogClosed, StoreUnavailable, TailerError
from tailer.jobs import Jobs, JobState
from tailer.records import Chunk, End, Record
from tailer.settings import Settings
from tailer.store import (
    AttemptSummary,
    Cursor,
    LogReader,
    LogStore,
    LogSummary,
    connect,
    now_ms,
    redis_errors,
    wake_channel,
)

logger = logging.getLogger(__name__)

RING = 4 << 20
"""Bytes of the newest output kept per followed log; a follower that is further behind reads Redis by itself."""
TICK_S = 0.1
"""How long the hub waits for a wake-up before it looks for new followers and for what is due."""
POLL_S = 1.0
"""How often a followed log without news is looked at anyway: a wake-up may be lost, and RQ sends none."""
QUIET_S = 5.0
"""How long a log must have been quiet before the hub asks whether its worker is alive: one that writes is."""
CONFIRM_S = 2.0
"""A worker counts as lost when its alive key was seen missing for so long, with no output meanwhile."""
IDLE_S = 30.0
"""The hub's thread ends after so long without a follower."""
BACKOFF_S = (0.1, 2.0)


class Channel:
    """A followed job: its newest output, RQ's view of it, and a way to wait for news. Made by the hub."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.followers = 0
        self.state: JobState | None = None
        self.summary: LogSummary | None = None
        self._news = threading.Condition()
        self._version = 0
        self._reader: LogReader | None = None
        self._ring: deque[tuple[int, Record | None]] = deque()
        self._ring_size = 0
        self.expires_at: int | None = None
        self._failure: Exception | None = None
        self.checked = self.changed = 0.0
        self.suspect: dict[int, float] = {}

    @property
    def version(self) -> int:
        """A number that changes with every piece of news."""
        return self._version

    def wait(self, version: int, timeout: float) -> None:
        """Wait until ``version`` is no longer the newest, at most ``timeout`` seconds."""
        with self._news:
            self._news.wait_for(lambda: self._version != version, timeout)

    def notify(self) -> None:
        """Wake all who wait."""
        with self._news:
            self._version += 1
            self._news.notify_all()

    def read(self, reader: LogReader) -> list[Record]:
        """Return what is next for ``reader``: from the ring if it is in there, else from Redis; empty if nothing.

        Raises ``CorruptRecord`` if the hub cannot read this log.
        """
        if self._failure:
            known = isinstance(self._failure, TailerError)
            raise CorruptRecord(str(self._failure) if known else "see the server's log") from self._failure
        records = self._from_ring(reader)
        return reader.read() if records is None else reader.join(records)

    def _from_ring(self, reader: LogReader) -> list[Record | None] | None:
        with self._news:
            live = self._reader
            if live is None or live.index is None or reader.index is None or reader.attempt != live.attempt:
                return None
            first = self._ring[0][0] if self._ring else live.index
            if not first <= reader.index <= live.index:
                return None
            records = [record for index, record in self._ring if index >= reader.index]
            # Both places may be those of a list that was rebuilt meanwhile; then only Redis knows what comes next.
            return None if records and reader.leaves_gap(records[0]) else records

    def fail(self, error: Exception) -> None:
        """Have the followers end with ``error``. It is for them to tell of it, each in its own stream."""
        self._failure = error
        self.notify()

    def advance(self, store: LogStore, summary: LogSummary | None) -> None:
        """Bring the ring up to what ``summary`` tells of. For the hub's thread only. Raises ``StoreUnavailable``."""
        if summary == self.summary:
            return
        if summary and not self._is_live(summary.last):
            # Begin at the newest: those who want what came before read it themselves.
            reader = store.reader(self.job_id, Cursor(summary.last.number, summary.last.bytes))
            reader.fetch()
            with self._news:
                self._reader = reader
                self._ring.clear()
                self._ring_size = 0
        while self._reader and (records := self._reader.fetch()):
            self._remember(self._reader, records)
        self.summary, self.changed = summary, time.monotonic()
        self.notify()

    def _is_live(self, attempt: AttemptSummary) -> bool:
        """Return whether the ring is that of this attempt, and the attempt has not begun anew after a loss."""
        live = self._reader
        return live is not None and live.attempt == attempt.number and live.offset <= attempt.bytes

    def _remember(self, reader: LogReader, records: Sequence[Record | None]) -> None:
        index = reader.index or 0
        with self._news:
            if self._ring and (self._ring[-1][0] + 1 != index or reader.leaves_gap(records[0])):
                self._ring.clear()
                self._ring_size = 0
            self._ring.extend(enumerate(records, index))
            self._ring_size += sum(map(_size, records))
            reader.join(records)
            while self._ring_size > RING:
                self._ring_size -= _size(self._ring.popleft()[1])


def _size(record: Record | None) -> int:
    return len(record.data) + 200 if isinstance(record, Chunk) else 200


class Hub:
    """Followers of the same job share one ``Channel``. The hub's one thread starts with the first follower."""

    def __init__(self, store: LogStore, jobs: Jobs) -> None:
        self.store = store
        self.jobs = jobs
        self._channels: dict[str, Channel] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @classmethod
    def open(cls, settings: Settings) -> Hub:
        """Return one for the logs and jobs that the settings name. Connects to nothing yet."""
        store = LogStore(connect(settings.log_url or settings.rq_url), ttl=settings.ttl)
        return cls(store, Jobs(connect(settings.rq_url)))

    @contextmanager
    def follow(self, job_id: str) -> Iterator[Channel]:
        """Hold the job's channel; it is freed when its last follower leaves."""
        with self._lock:
            channel = self._channels.setdefault(job_id, Channel(job_id))
            channel.followers += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tailer-hub", daemon=True)
                self._thread.start()
        try:
            yield channel
        finally:
            with self._lock:
                channel.followers -= 1
                if channel.followers == 0:
                    del self._channels[job_id]

    def followers(self) -> dict[str, int]:
        """Return how many follow each job."""
        with self._lock:
            return {job_id: channel.followers for job_id, channel in self._channels.items()}

    def _run(self) -> None:
        """Serve until nobody has followed for a while; Redis may come and go."""
        backoff = BACKOFF_S[0]
        while True:
            try:
                self._serve()
                return
            except StoreUnavailable as error:
                logger.warning("followers wait for Redis: %s", error)
            except Exception:
                logger.exception("the hub failed and starts again")
            time.sleep(backoff)
            backoff = min(backoff * 2, BACKOFF_S[1])

    def _serve(self) -> None:
        with redis_errors(), self.store.connection.pubsub(ignore_subscribe_messages=True) as pubsub:  # type: ignore[no-untyped-call]
            pubsub.subscribe("tailer:wake")
            subscribed: set[str] = set()
            idle_since = time.monotonic()
            while True:
                with self._lock:
                    channels = dict(self._channels)
                    if not channels and time.monotonic() - idle_since > IDLE_S:
                        self._thread = None
                        return
                if channels:
                    idle_since = time.monotonic()
                self._subscribe(pubsub, subscribed, set(channels))
                woken = _woken(pubsub)
                self._advance([channels[job_id] for job_id in woken if job_id in channels])
                now = time.monotonic()
                self._check([channel for channel in channels.values() if now - channel.checked >= POLL_S])

    def _subscribe(self, pubsub: redis.client.PubSub, subscribed: set[str], wanted: set[str]) -> None:
        if new := wanted - subscribed:
            pubsub.subscribe(*map(wake_channel, new))
        if gone := subscribed - wanted:
            pubsub.unsubscribe(*map(wake_channel, gone))  # type: ignore[no-untyped-call]
        subscribed ^= new | gone

    def _advance(self, channels: Sequence[Channel]) -> None:
        """Read what is new in these logs."""
        if channels:
            summaries = self.store.summaries([channel.job_id for channel in channels])
            for channel, summary in zip(channels, summaries, strict=True):
                try:
                    channel.advance(self.store, summary)
                except StoreUnavailable:
                    raise
                except Exception as error:  # noqa: BLE001 (one broken log must not hold up the others)
                    channel.fail(error)

    def _check(self, channels: Sequence[Channel]) -> None:
        """Look at what no wake-up tells: RQ's view of the jobs, and workers that are gone."""
        if not channels:
            return
        now = time.monotonic()  # Before the look: whoever compares must not take an older view for a newer one.
        states = self.jobs.states([channel.job_id for channel in channels])
        self._advance(channels)
        for channel, state in zip(channels, states, strict=True):
            channel.checked = now
            if state.status:
                channel.expires_at = state.expires_at
            if state != channel.state:
                channel.state = state
                channel.notify()
            if channel.summary and now - channel.changed > QUIET_S:
                for attempt in channel.summary.attempts:
                    if attempt.end is None:
                        self._check_alive(channel, attempt, state)

    def _check_alive(self, channel: Channel, attempt: AttemptSummary, state: JobState) -> None:
        now = time.monotonic()
        if self.store.alive(channel.job_id, attempt.number):
            channel.suspect.pop(attempt.number, None)
        elif now - channel.suspect.setdefault(attempt.number, now) >= CONFIRM_S:
            end = lost(attempt, state)
            # Somebody else may have ended it meanwhile; output that came meanwhile shows that it is not lost.
            with suppress(LogClosed, AttemptMissing):
                self.store.end(channel.job_id, end)
            channel.suspect.pop(attempt.number, None)


def _woken(pubsub: redis.client.PubSub) -> set[str]:
    """Return the jobs for which wake-ups have come; waits a little for the first one."""
    woken: set[str] = set()
    message = pubsub.get_message(timeout=TICK_S)
    while message:
        name = message["channel"].decode()
        woken.add(name[name.find("{") + 1 : name.rfind("}")])
        message = pubsub.get_message(timeout=0)
    return woken


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
