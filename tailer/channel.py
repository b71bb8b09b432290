"""A followed job as the hub keeps it: its newest output, what RQ says of it, and the followers that wait for more."""

from __future__ import annotations

import copy
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Protocol, Self

from tailer.errors import CorruptRecord, TailerError
from tailer.jobs import JobState
from tailer.metrics import Tally
from tailer.reader import Cursor, LogReader, Place
from tailer.records import MAX_CHUNK, Chunk, Hole, Record
from tailer.store import AttemptSummary, LogStore, LogSummary

if TYPE_CHECKING:
    from tailer.follower import Follower

FRESH = MAX_CHUNK
"""Bytes up to which an attempt is read from its start, so that all its followers find all of it here."""
GLANCE_S = 0.05
"""How often a thread that waits for several channels looks at them."""


@dataclass(frozen=True, slots=True)
class Beat:
    """Nothing has come for a heartbeat."""


class Encoder(Protocol):
    """Turns a log into a response's bytes. Equal encoders have the same options and are in the same state."""

    def encode(self, event: Record | Beat, cursor: Cursor, /) -> bytes:
        """Return the bytes for ``event``; ``cursor`` is the place behind it."""

    def catch_up(self, other: Self) -> None:
        """Take the state of another encoder, which has encoded more of the same log."""


@dataclass(slots=True, eq=False)
class Pause:
    """Nothing to send until the channel has news behind ``version``, at most for ``timeout`` seconds.

    With a ``reader`` it is up to date and waits for nothing but output, so that the channel may serve it meanwhile,
    and then moves the reader and sets ``served``. That takes an ``encoder``, and ``heartbeat``, the longest silence
    in seconds. It is served until ``deadline`` at most, as of ``time.monotonic()``. One that waits for several channels
    has ``parts`` instead, a pause for each.
    """

    timeout: float
    channel: Channel | None = None
    version: int = 0
    reader: LogReader | None = None
    heartbeat: float = float("inf")
    encoder: Encoder | None = None
    deadline: float = float("inf")
    served: bool = False
    parts: tuple[Pause, ...] = ()

    @property
    def channels(self) -> list[Channel]:
        """Those whose news end the pause."""
        return [part.channel for part in self.parts or (self,) if part.channel]

    def has_news(self) -> bool:
        """Return whether one of the channels has news."""
        return any(part.channel and part.channel.version != part.version for part in self.parts or (self,))

    def wait(self, limit: float = float("inf")) -> bool:
        """Wait for the end of the pause, at most ``limit`` seconds; returns whether it is over."""
        seconds = min(self.timeout, limit)
        if self.channel:
            self.channel.wait(self.version, seconds)
        else:
            self._wait_for_any(time.monotonic() + seconds)
        return self.timeout <= limit or self.has_news()

    def _wait_for_any(self, deadline: float) -> None:
        # For servers that do not lend connections; elsewhere it is the hub that waits, and a channel wakes it.
        while not self.has_news() and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, GLANCE_S) if self.parts else left)


@dataclass(slots=True)
class Share:
    """What all channels of a hub have in common.

    ``room`` is for how many bytes of its newest output each followed log is kept here; ``tally`` is of what they do.
    """

    room: int
    tally: Tally = field(default_factory=Tally)


def frame(data: bytes, *, chunked: bool) -> bytes:
    """Return ``data`` as it goes over the wire: as an HTTP chunk (RFC 9112, section 7.1), or as it is."""
    return b"%x\r\n%b\r\n" % (len(data), data) if chunked else data


class Feed:
    """Followers that are up to date and get the same bytes, encoded once."""

    def __init__(self, encoder: Encoder, heartbeat: float, tally: Tally, *, chunked: bool) -> None:
        self.encoder = copy.copy(encoder)
        self.tally = tally
        self.chunked = chunked
        self.heartbeat = heartbeat
        self.spoke = time.monotonic()
        self.members: dict[Follower, Callable[[bytes], int]] = {}
        self.pending: list[bytes] = []

    def send(self) -> list[Follower]:
        """Send what is pending to all; returns those that did not take all of it, with the rest in ``unsent``."""
        data = b"".join(self.pending)
        self.pending.clear()
        if not data:
            return []
        framed = frame(data, chunked=self.chunked)
        size, behind = len(framed), []
        self.tally.batches += 1
        self.tally.sent += size * len(self.members)
        for follower, send in self.members.items():
            try:
                sent = send(framed)
            except OSError as error:
                sent = 0
                if not isinstance(error, BlockingIOError):
                    follower.leave(error.errno)
            if sent != size:
                follower.unsent = memoryview(framed)[sent:]
                behind.append(follower)
        return behind


class Channel:
    """A followed job. Made by the hub, which gives it a ``share`` for its newest output.

    ``resume`` is called with followers that have to go on by themselves, ``look`` when RQ should be asked again.

    ``wait``, ``read`` and ``adopt`` are for the followers' threads, all that changes it for the hub's one.
    """

    def __init__(
        self,
        job_id: str,
        *,
        share: Share,
        resume: Callable[[Follower], None],
        look: Callable[[Channel], None],
    ) -> None:
        self.job_id = job_id
        self.followers = 0
        self.listening = False
        self.state: JobState | None = None
        self.summary: LogSummary | None = None
        self.asked_after: LogSummary | None = None
        self.asked_at = self.changed = 0.0
        self.expires_at: int | None = None
        self.suspect: dict[int, float] = {}
        self.feeds: list[Feed] = []
        self.waiting: set[Follower] = set()
        self._share = share
        self._resume = resume
        self._look = look
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._sleepers = 0
        self._version = 0
        self._failure: Exception | None = None
        self._live: LogReader | None = None
        self._open: int | None = None
        self._expected: LogSummary | None = None
        self._ring: deque[Record | None] = deque()
        self._ring_size = 0
        self._held = 0
        self._unsent: list[int] = []

    # For followers.

    @property
    def version(self) -> int:
        """A number that changes with every piece of news; 0 until the hub listens for wake-ups."""
        return self._version

    def wait(self, version: int, timeout: float) -> None:
        """Wait until ``version`` is no longer the newest, at most ``timeout`` seconds."""
        with self._news:
            self._sleepers += 1
            try:
                self._news.wait_for(lambda: self._version != version, timeout)
            finally:
                self._sleepers -= 1

    def look(self) -> None:
        """Have the hub ask RQ now; news will tell that it has."""
        self._look(self)

    def read(self, reader: LogReader) -> list[Record]:
        """Return what is next for ``reader``: from the ring if it is in there, else from Redis; empty if nothing.

        Raises:
            CorruptRecord: the hub cannot read this log.
            TailerError: what the channel failed with.
            StoreUnavailable: Redis cannot be reached.
        """
        if isinstance(self._failure, TailerError):
            raise self._failure.with_traceback(None)  # else it would hold the frames of all who raise it
        if self._failure:
            raise CorruptRecord("see the server's log") from self._failure
        records = self._from_ring(reader)
        return reader.read() if records is None else reader.join(records)

    def _from_ring(self, reader: LogReader) -> list[Record | None] | None:
        with self._lock:
            live = self._live
            if live is None or live.index is None or reader.index is None or reader.attempt != live.attempt:
                return None
            missing = live.index - reader.index
            if not 0 <= missing <= len(self._ring):
                return None
            records = list(islice(reversed(self._ring), missing))
            at = live.offset
        records.reverse()
        # Both places may be those of a list that was rebuilt meanwhile; then only Redis knows what comes next.
        joins = not reader.leaves_gap(records[0]) if records else reader.offset == at
        return records if joins else None

    def adopt(self, reader: LogReader, version: int) -> None:
        """Go on from where this reader is, if there is no other place to do so and it has read all up to here."""
        with self._lock:
            if self._live is None and version == self._version and version and reader.place:
                self._live = copy.copy(reader)

    # For the hub's thread.

    def park(self, follower: Follower, pause: Pause) -> bool:
        """Serve a follower from now on; returns whether that can be: it is up to date, and to be encoded as others."""
        live = self._live
        if pause.reader is None or pause.encoder is None or live is None or live.place is None:
            return False
        if (pause.reader.attempt, pause.reader.index, pause.reader.offset) != (live.attempt, live.index, live.offset):
            return False
        self.flush()
        for feed in self.feeds:
            if feed.chunked == follower.chunked and feed.encoder == pause.encoder:
                break
        else:
            feed = Feed(pause.encoder, pause.heartbeat, self._share.tally, chunked=follower.chunked)
            self.feeds.append(feed)
        feed.members[follower] = follower.send
        follower.feed = feed
        pause.served = True
        return True

    def leave(self, follower: Follower) -> None:
        """Serve a follower no longer, and don't wake it."""
        self.waiting.discard(follower)
        if feed := follower.feed:
            follower.feed = None
            del feed.members[follower]
            if not feed.members:
                self.feeds.remove(feed)

    def release(self, one: Follower | None = None) -> None:
        """Let all who are served, or that one, go on by themselves from where they are."""
        self.flush()
        place = self._live.place if self._live else None
        for feed in list(self.feeds):
            for follower in list(feed.members):
                if one in {None, follower}:
                    self._release(follower, place)

    def _release(self, follower: Follower, place: Place | None) -> None:
        pause = follower.pause
        if place and follower.feed and pause and pause.reader and pause.encoder:
            pause.reader.move(place)
            pause.encoder.catch_up(follower.feed.encoder)
        self.leave(follower)
        self._resume(follower)

    def fail(self, error: Exception) -> None:
        """Have the followers end with ``error``. It is for them to tell of it, each in its own stream."""
        self._failure = error
        self.release()
        self._wake()

    def beat(self, now: float) -> None:
        """Send a heartbeat to those who have heard nothing for that long."""
        for feed in list(self.feeds):
            if now - feed.spoke >= feed.heartbeat and self._live:
                feed.spoke = now
                feed.pending.append(feed.encoder.encode(Beat(), self._live.cursor))
                self.flush()

    def judge(self, state: JobState, asked_at: float, asked_after: LogSummary | None) -> None:
        """Take in what RQ said when it was asked at ``asked_at``, with ``asked_after`` known of the log by then."""
        if state.status:
            self.expires_at = state.expires_at
        news = state != self.state or _ends(asked_after) != _ends(self.asked_after)
        self.state, self.asked_at, self.asked_after = state, asked_at, asked_after
        if news:
            self.release()
            self._wake()

    def hear(self, message: bytes) -> bool:
        """Take in what a wake-up tells; returns whether that is all there is, and nothing needs to be read.

        It goes out with the next ``flush``.

        ``message`` is as the store sends it: an attempt, and perhaps the index of a new element and the element.
        """
        live = self._live
        if live is None or live.index is None or live.attempt != self._open:
            return False
        expected = b"%d %d " % (live.attempt, live.index)
        record = live.decode(message[len(expected) :])[0] if message.startswith(expected) else None
        if type(record) is not Chunk or record.offset != live.offset:
            return False
        with self._lock:
            self._remember(record)
            live.step(record)
            self._version += 1
            if self._sleepers:
                self._news.notify_all()
        self._encode(live, record)
        if self.waiting:
            self._wake()
        return True

    def expect(self, store: LogStore, summary: LogSummary | None) -> LogReader | None:
        """Take in what is known of the log now; returns what has to be read on, if anything, for ``extend``."""
        news = summary != self.summary
        self._expected = summary
        self._open = summary.last.number if summary and not summary.last.end else None
        live = self._live
        if news and summary and not self._is_live(summary.last):
            self.release()
            # Without a reader, the first follower that is up to date gives one: see `adopt`.
            fresh = live is None or live.attempt != summary.last.number
            at = Cursor(summary.last.number)
            live = store.reader(self.job_id, at) if fresh and summary.last.bytes <= FRESH else None
            self._begin_at(live)
        if news:
            self.changed = time.monotonic()
        up_to_date = live and live.index and summary and live.offset == summary.last.bytes and self._open
        if news and live and not up_to_date:
            return live
        self.summary = summary
        if news and live is None:
            self._wake()
        return None

    def _begin_at(self, live: LogReader | None) -> None:
        """Go on from another place: what the ring holds does not lead there."""
        with self._lock:
            self._live = live
            self._ring.clear()
            self._ring_size = 0

    def _is_live(self, attempt: AttemptSummary) -> bool:
        """Return whether the ring is that of this attempt, and the attempt has not begun anew after a loss."""
        live = self._live
        return live is not None and live.attempt == attempt.number and live.offset <= attempt.bytes

    def settle(self) -> None:
        """All was read that Redis has. If it should have more, the list is another one now: let followers look."""
        self.summary = self._expected
        live, last = self._live, self.summary.last if self.summary else None
        if last is None or (live and live.attempt == last.number and live.offset < last.bytes):
            self.release()
            self._begin_at(None)
        self.flush()
        self._wake()

    def extend(self, records: Sequence[Record | None]) -> None:
        """Take in the next records of the list; they go out with the next ``flush`` at the latest.

        Those who are up to date are sent chunks. For anything else they go on by themselves.
        """
        live = self._live
        if live is None or live.index is None:
            return
        for record in records:
            if type(record) is Chunk and record.offset == live.offset and not record.more:
                with self._lock:
                    self._remember(record)
                    live.step(record)
                self._encode(live, record)
                continue
            self.release()
            with self._lock:
                # The ring is one element behind the other, and one record each.
                other = (type(record) is Hole and record.next) or (type(record) is Chunk and record.more)
                if other or (self._ring and live.leaves_gap(record)):
                    self._ring.clear()
                    self._ring_size = 0
                if not other:
                    self._remember(record)
                live.join([record])
        self._wake()

    def _encode(self, live: LogReader, chunk: Chunk) -> None:
        """Encode what comes next for those who are up to date."""
        self.changed = time.monotonic()
        cursor = Cursor(live.attempt, live.offset)
        self._share.tally.output += len(chunk.data)
        if self.feeds:  # Others may only be reading what was there before.
            self._unsent.append(chunk.time)
        for feed in self.feeds:
            feed.spoke = self.changed
            feed.pending.append(feed.encoder.encode(chunk, cursor))
        self._held += len(chunk.data)
        if self._held > MAX_CHUNK:
            self.flush()

    def _remember(self, record: Record | None) -> None:
        self._ring.append(record)
        self._ring_size += _size(record)
        while self._ring_size > self._share.room:
            self._ring_size -= _size(self._ring.popleft())

    def _wake(self) -> None:
        """Tell that there is news to all who wait, but for those whom the channel serves."""
        with self._lock:
            self._version += 1
            if self._sleepers:
                self._news.notify_all()
        for follower in list(self.waiting):
            self._release(follower, None)

    def flush(self) -> None:
        """Send what is encoded. Many logs' output goes out faster at once than each as soon as it is encoded.

        Otherwise every client's process is woken for each line by itself, which takes the kernel as long as the rest.
        """
        self._held = 0
        for feed in self.feeds.copy():
            if feed.pending and (behind := feed.send()):
                place = self._live.place if self._live else None
                for follower in behind:
                    self._release(follower, place)
        if self._unsent:
            now = time.time()
            self._share.tally.delays += [max(0, now - read_at / 1000) for read_at in self._unsent]
            self._unsent.clear()


def _size(record: Record | None) -> int:
    return len(record.data) + len(record.frame or b"") + 200 if isinstance(record, Chunk) else 200


def _ends(summary: LogSummary | None) -> list[object]:
    return [attempt.end for attempt in summary.attempts] if summary else []
