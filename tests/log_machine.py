"""What workers, readers and failovers do with one job's log, in any order: the store must answer as plain lists do."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import redis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tailer.errors import TailerError
from tailer.follow import Final, Selection, snapshot
from tailer.hub import Hub
from tailer.jobs import Jobs
from tailer.reader import LogReader
from tailer.records import Attempt, Chunk, End, Hole, Record, encode
from tailer.store import Cursor, LogStore, meta_key
from tests.log_model import COMPRESSOR, PlainLog, WrittenLog, cut, flat, pieces, read_all

running = st.runner().flatmap(lambda machine: st.sampled_from(sorted(machine.writers)))
LIMITS = [(1 << 40, 1 << 40), (9, 7), (0, 1), (40, 1300)]
"""Bytes that a log's head and tail keep: all, so few that nearly every log has a gap, and some more."""
numbers = st.runner().flatmap(lambda machine: st.sampled_from([*machine.plain.attempts] * 9 + [1, 2]))


@dataclass
class Writer:
    """A worker that writes an execution's log: all its job wrote, and from where on it could send that again."""

    execution: str
    written: WrittenLog
    number: int = 0
    sent: int = 0
    held: int = 0

    def records(self, *, halve: bool) -> list[Chunk | Hole]:
        """What is to be sent next: what is not held any more as a hole; chunks as they were, or halved."""
        found: list[Chunk | Hole] = []
        start = self.sent
        if start < self.held:
            lines = self.newlines(self.held) - self.newlines(start)
            found.append(
                Hole(self.written.began, start, 1 + self.newlines(start), lines, True, self.held - start, "lost")
            )
            start = self.held
        for record in self.written.records:
            if record.end <= start:
                continue
            part = cut(record, start)
            if halve and isinstance(part, Chunk) and part.length > 1:
                middle = part.offset + part.length // 2
                found += [part.part(part.offset, middle), part.part(middle, part.end)]
            else:
                found.append(part)
        return found

    def newlines(self, offset: int) -> int:
        """How many there are before an offset."""
        before = [record for record in self.written.records if record.offset < offset]
        if before and isinstance(before[-1], Chunk):
            before[-1] = before[-1].part(before[-1].offset, offset)
        return sum(record.lines for record in before)


@dataclass
class Standing:
    """A reader that stays, while the log changes behind and before it."""

    reader: LogReader
    at: int = field(default=0)


class LogMachine(RuleBasedStateMachine):
    """Calls a store and a `PlainLog` alike, and compares what they answer and what can be read."""

    def __init__(self, connection: redis.Redis) -> None:
        super().__init__()
        self.connection = connection
        self.job_id = uuid.uuid4().hex
        self.writers: dict[str, Writer] = {}
        self.standing: list[Standing] = []
        self.backups: list[tuple[PlainLog, dict[bytes, bytes]]] = []
        self.last: tuple[str, Sequence[Any], dict[str, Any]] | None = None
        self.clock = 1000

    def call(self, method: str, *args: Any, **named: Any) -> object:
        """Call both, which must give the same answer or raise the same error, and return that."""
        answers: list[object] = []
        for bound in (getattr(self.plain, method), getattr(self.store, method)):
            where = [self.job_id] if isinstance(getattr(bound, "__self__", None), LogStore) else []
            try:
                answers.append(bound(*where, *args, **named))
            except TailerError as error:
                answers.append(type(error))
        assert answers[1] == answers[0], (method, args, named)
        return answers[0]

    def change(self, method: str, *args: Any, **named: Any) -> object:
        """Call both, and remember the call so that it can be sent again."""
        self.last = method, args, named
        return self.call(method, *args, **named)

    def tick(self) -> int:
        """The time, later than before."""
        self.clock += 1
        return self.clock

    # Workers.

    @initialize(limits=st.sampled_from(LIMITS))
    def first(self, limits: tuple[int, int]) -> None:
        """A worker begins: before that there is nothing to do."""
        self.store = LogStore(self.connection, keep_head=limits[0], keep_tail=limits[1])
        self.hub = Hub(self.store, Jobs(self.connection))
        self.plain = PlainLog(*limits)
        self.start("e1", 0)

    @rule(execution=st.sampled_from(["e1", "e2", "e3", "e4"]), number=st.sampled_from([0] * 5 + [1, 2, 3]))
    def start(self, execution: str, number: int) -> None:
        """A worker begins an execution, or comes back to it."""
        writer = self.writers.setdefault(execution, Writer(execution, WrittenLog(began=self.tick())))
        about = Attempt(writer.written.began, writer.number or number, execution, "w")
        answer = self.change("start", about)
        if isinstance(answer, tuple):
            writer.number, writer.sent = answer[0]

    @precondition(lambda self: self.writers)
    @rule(execution=running, written=pieces, halve=st.booleans(), count=st.integers(1, 9))
    def write(self, execution: str, written: list[tuple[str, bytes, int]], halve: bool, count: int) -> None:
        """A job prints, and its worker sends what is due from where it thinks that the log ends."""
        writer = self.writers[execution]
        here = self.plain.attempts.get(writer.number)
        if not writer.number or (here and here.about.execution != execution):
            return  # RQ begins no execution before the one whose number it takes is over
        for stream, data, _ in written:
            writer.written.write(stream, data, self.tick() - writer.written.time)
        # What the store answers is where the log ends: stored, or to be sent again from there.
        while records := writer.records(halve=halve)[:count]:
            at, end = Cursor(writer.number, writer.sent), records[-1].end
            elements = [encode(record, COMPRESSOR) for record in records]
            answer = self.change("append", at, elements, end=end, lines=writer.newlines(end))
            if not isinstance(answer, int):
                return
            writer.sent = min(answer, len(writer.written.bytes))
            if answer == end:
                return

    @precondition(lambda self: self.writers)
    @rule(execution=running, back=st.integers(1, 40))
    def forget(self, execution: str, back: int) -> None:
        """A worker holds only the end of what it could send again."""
        writer = self.writers[execution]
        ends = [record.end for record in writer.written.records if record.end <= writer.sent - back]
        writer.held = max([writer.held, *ends])

    @precondition(lambda self: self.last)
    @rule()
    def repeat(self) -> None:
        """The answer to the last call was lost on its way: it is made again."""
        assert self.last
        method, args, named = self.last
        self.call(method, *args, **named)

    @rule(number=numbers, at=st.integers(0, 30), data=st.binary(min_size=1, max_size=5))
    def stray(self, number: int, at: int, data: bytes) -> None:
        """Something is sent that belongs elsewhere, or nowhere."""
        here = self.plain.attempts.get(number)
        if here and at == here.size:
            at += 1
        chunk = Chunk("stdout", self.tick(), at, 1, data.count(b"\n"), False, data)
        self.call("append", Cursor(number, at), [encode(chunk)], end=chunk.end, lines=chunk.lines)

    @rule(number=numbers)
    def keep_alive(self, number: int) -> None:
        """A worker gives a sign of life."""
        self.change("keep_alive", number)

    @rule(
        number=numbers,
        outcome=st.sampled_from(["finished", "failed", *["lost"] * 5]),
        final=st.booleans(),
        off=st.sampled_from([0, 0, 0, 0, -1, 1]),
    )
    def end(self, number: int, outcome: str, final: bool, off: int) -> None:
        """A worker ends its log, here or at a wrong place; or a follower ends that of a worker it thinks lost."""
        here = self.plain.attempts.get(number)
        size, lines = (here.size, here.written.lines) if here else (0, 0)
        ended = self.tick() / 1000
        end = End(outcome=outcome, attempt=number, final=final, bytes=max(0, size + off), lines=lines, ended_at=ended)
        self.change("end", end)

    @rule(number=numbers)
    def seal(self, number: int) -> None:
        """A worker packs its log, if that is over."""
        for _ in self.store.seal(self.job_id, number, always=True):
            pass

    # The server.

    @rule()
    def back_up(self) -> None:
        """A replica has the log as it is now."""
        dumped = {key: self.store.connection.dump(key) for key in self.keys()}
        self.backups.append((copy.deepcopy(self.plain), dumped))

    @precondition(lambda self: self.backups)
    @rule(choice=st.integers(0, 20), seen=st.booleans())
    def fail_over(self, choice: int, seen: bool) -> None:
        """A replica that lags behind becomes the server; followers may have seen what it has not."""
        for standing in self.standing if seen else ():
            self.go_on(standing)
        plain, dumped = self.backups[choice % len(self.backups)]
        self.plain = copy.deepcopy(plain)
        if keys := self.keys():
            self.store.connection.delete(*keys)
        for key, value in dumped.items():
            self.store.connection.restore(key, 60_000, value)

    @rule(number=numbers)
    def fall_silent(self, number: int) -> None:
        """A worker is gone: its sign of life runs out."""
        self.store.connection.delete(f"{meta_key(self.job_id)}:{number}:alive")
        if number in self.plain.attempts:
            self.plain.attempts[number].alive = False

    @rule(sure=st.sampled_from([False] * 15 + [True]))
    def delete(self, sure: bool) -> None:
        """Somebody deletes the log."""
        if sure:
            self.change("delete")

    def keys(self) -> list[bytes]:
        """The job's keys."""
        return list(self.store.connection.keys(f"tailer:{{{self.job_id}}}*"))

    # Readers.

    @rule(number=numbers, back=st.integers(-1, 8) | st.integers(0, 400))
    def read(self, number: int, back: int) -> None:
        """Somebody reads from a cursor to the end of that attempt as it is."""
        at = Cursor(number, max(0, self.plain.end_of(number).offset - back))
        assert read_all(self.store, at, self.job_id) == self.plain.read(at)

    @rule(number=numbers, back=st.integers(0, 8) | st.integers(0, 400))
    def take(self, number: int, back: int) -> None:
        """Somebody takes all that there is from a cursor on, over all attempts, without waiting."""
        at = Cursor(number, max(0, self.plain.end_of(number).offset - back))
        told = list(snapshot(self.hub, Selection(job_id=self.job_id, start=at, wait=False)))
        later = [self.plain.read(Cursor(other)) for other in sorted(self.plain.attempts) if other > number]
        expected = [record for records in (self.plain.read(at), *later) for record in records]
        assert [event for event, _ in told if not isinstance(event, Final)] == expected
        newest = self.plain.attempts.get(max(number, self.plain.highest))
        over = newest.end is not None if newest else not self.plain.attempts
        assert over == any(isinstance(event, Final) for event, _ in told)

    @rule(number=numbers, line=st.integers(1, 400), lines=st.integers(0, 400))
    def look_for_lines(self, number: int, line: int, lines: int) -> None:
        """Somebody asks for a line, and for the last lines."""
        self.call("line", number, line)
        self.call("tail", lines)

    @rule(ago=st.integers(0, 60))
    def look_for_a_time(self, ago: int) -> None:
        """Somebody asks for what came since a time; where a log has times out of order any place in it will do."""
        time = self.clock - ago
        times = [[record.time for record in one.records] for one in self.plain.attempts.values()]
        if all(here == sorted(here) for here in times):
            self.call("since", time)
        else:
            found = self.store.since(self.job_id, time)
            assert found.offset <= self.plain.attempts[found.attempt].size

    @rule(number=numbers, back=st.integers(-1, 8) | st.integers(0, 400))
    def stand(self, number: int, back: int) -> None:
        """A follower comes."""
        offset = max(0, self.plain.end_of(number).offset - back)
        self.standing.append(Standing(self.store.reader(self.job_id, Cursor(number, offset)), offset))

    @precondition(lambda self: self.standing)
    @rule(standing=st.runner().flatmap(lambda machine: st.sampled_from(machine.standing)))
    def go_on(self, standing: Standing) -> None:
        """A follower reads on: each byte behind what it has, once, though the log was set back meanwhile."""
        reader = standing.reader
        here = self.plain.attempts.get(reader.attempt)
        told = self.read_on(reader)
        if here and here.size > reader.offset:
            reader.relocate()  # as followers do when there is more than they can read
            told += self.read_on(reader)
        expected = here.written.bytes[standing.at :] if here else []
        assert flat(told) == expected
        assert all(record.length for record in told if isinstance(record, Chunk | Hole))
        standing.at += len(expected)
        assert reader.cursor == Cursor(reader.attempt, standing.at)

    @staticmethod
    def read_on(reader: LogReader) -> list[Record]:
        """All that a reader gives."""
        records: list[Record] = []
        while piece := reader.read():
            records += piece
        return records

    # At every moment.

    @invariant()
    def is_told_as_it_is(self) -> None:
        """The summary, the ends and the signs of life are those of the plain lists."""
        told = self.store.summary(self.job_id)
        expected = self.plain.summary()
        assert (told.attempts if told else None) == (expected.attempts if expected else None)
        for number in {1, *self.plain.attempts}:
            self.call("end_of", number)
            self.call("alive", number)

    def teardown(self) -> None:
        """In the end all of it is as on plain lists, for those who have been there and for those who come."""
        for number in self.plain.attempts:
            self.read(number, back=self.plain.end_of(number).offset)
        for standing in self.standing:
            self.go_on(standing)
