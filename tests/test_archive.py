"""Archived logs: what is read from the archive is what Redis had, and what cannot be archived stays in Redis."""

import dataclasses
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailer import archive, volume
from tailer.archive import Archive
from tailer.archived import ArchivedStore, open_store
from tailer.archiver import Archiver
from tailer.errors import ArchiveUnavailable, CorruptRecord, LogExpired, SettingsError
from tailer.follow import Selection, snapshot
from tailer.hub import Hub
from tailer.jobs import Jobs
from tailer.objects import Objects
from tailer.records import STDOUT, Attempt, Chunk, End, encode
from tailer.settings import Settings
from tailer.store import INDEX, Cursor, LogStore, connect, list_key, meta_key, now_ms
from tests.log_model import COMPRESSOR, WrittenLog, flat, pieces, read_all
from tests.object_stores import s3_server
from tests.processes import shared
from tests.store_contract import StoreContract, examples, new_job, sample, write_numbers

NOW = Settings(archive_after=0, archive_release=3600)
DAY = 86_400_000


@pytest.fixture(scope="module")
def s3():
    """An S3-compatible server, shared by the tests of this module."""
    with s3_server() as server:
        shared.add(server.process.pid)
        yield server


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path, monkeypatch):
    """The URL of an empty archive, of each kind."""
    if request.param == "folder":
        (tmp_path / "archive").mkdir()
        return f"file://{tmp_path}/archive"
    server = request.getfixturevalue("s3")
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    return f"s3://logs/{new_job()}"


@pytest.fixture
def connection(server):
    """A Redis of the test's own."""
    with connect(server.url) as connection:
        yield connection


@pytest.fixture
def store(connection, place):
    """Logs, in Redis and in an archive."""
    return ArchivedStore(connection, Archive(Objects(place)))


@pytest.fixture
def small(monkeypatch):
    """Pieces of a few records, and ends of files that do not hold all of them, so that logs have many."""
    monkeypatch.setattr(volume, "FULL", 150)
    monkeypatch.setattr(archive, "END", 100)


def archived(store, *jobs):
    """Archive what has ended, and lose the lists of these jobs."""
    swept = Archiver(store, NOW).sweep()
    for job_id in jobs:
        numbers = [one.number for one in store.near.summary(job_id).attempts if one.archived]
        store.connection.delete(*[list_key(job_id, number) for number in numbers])
    return swept


class Late(ArchivedStore):
    """A store that archives whatever has ended, and loses all of it in Redis, just before anything is read."""

    def _lose(self, job_id):
        summary = self.near.summary(job_id)
        if summary and all(one.end for one in summary.attempts):
            for attempt in summary.attempts:
                Archiver(self, NOW).archive(job_id, attempt)
            self.connection.delete(meta_key(job_id), *[list_key(job_id, one.number) for one in summary.attempts])

    def summary(self, job_id):
        """Lose it, then tell."""
        self._lose(job_id)
        return super().summary(job_id)

    def find(self, job_id, attempt, what, value):
        """Lose it, then find."""
        self._lose(job_id)
        return super().find(job_id, attempt, what, value)

    def elements(self, job_id, attempt, first, last):
        """Lose it, then read."""
        self._lose(job_id)
        return super().elements(job_id, attempt, first, last)


@pytest.mark.usefixtures("small")
class TestContract:
    """What a store promises to readers, of logs that only the archive has."""

    @pytest.fixture
    def store(self, connection, tmp_path):
        """A store whose ended logs are in the archive alone."""
        return Late(connection, Archive(Objects(f"file://{tmp_path}")))

    test_every_line_is_found = StoreContract.test_every_line_is_found
    test_the_last_lines_reach_over_attempts = StoreContract.test_the_last_lines_reach_over_attempts
    test_places_in_a_log_that_is_not_there = StoreContract.test_places_in_a_log_that_is_not_there


@pytest.mark.usefixtures("small")
@settings(examples, max_examples=12)
@given(logs=st.lists(pieces, min_size=1, max_size=3), forgotten=st.booleans(), sealed=st.booleans())
def test_every_record_and_every_place_is_as_in_redis(store, logs, forgotten, sealed):
    """Summary, records, and the index, offset and record at every offset, line and time, from Redis and without it."""
    job_id = new_job()
    for number, log in enumerate(logs, 1):
        WrittenLog(log, began=1000 + 10 * number).store(store, job_id, execution=f"e{number}", end=True)

    def told():
        summary = store.summary(job_id)
        read, found = [], []
        for one in summary.attempts:
            read += read_all(store, Cursor(one.number), job_id)
            for what, most in {"offset": one.bytes + 2, "line": one.lines + 3, "time": 60}.items():
                for value in sample(most)[::4]:
                    index, offset, element = store.find(job_id, one.number, what, value + 1000 * (what == "time"))
                    record = store.reader(job_id, Cursor()).decode(element)[0] if element else None
                    found.append((index, offset, record))
        attempts = [dataclasses.replace(one, archived=True) for one in summary.attempts]
        places = [store.tail(job_id, count) for count in (0, 1, 2, 5, 1000)]
        places += [store.since(job_id, time) for time in (0, 1012, 1015, 1024, 1100)]
        return attempts, read, found, places, store.end_of(job_id, len(logs))

    before = told()
    for number in range(1, len(logs) + 1) if sealed else ():
        for _ in store.seal(job_id, number, always=True):
            pass
    archived(store, job_id)
    if forgotten:
        store.connection.delete(meta_key(job_id))
    assert told() == before


# What is archived, and when.


def write(store, job_id, data=b"one\ntwo\n", *, execution="e1", queue="q", outcome="finished", began=1000, **end):
    """A log of this output, ended, of one more attempt; returns its end record."""
    at, _ = store.start(job_id, Attempt(began, 0, execution, queue=queue))
    chunk = Chunk(STDOUT, began, 0, 1, data.count(b"\n"), False, data)
    store.append(job_id, at, [encode(chunk)], end=len(data), lines=chunk.lines)
    known = {"sha256": hashlib.sha256(data).hexdigest(), "ended_at": 2.0, **end}
    record = End(outcome=outcome, attempt=at.attempt, final=True, bytes=len(data), lines=chunk.lines, **known)
    store.end(job_id, record)
    return record


def output(store, job_id, attempt=1):
    """The bytes of an attempt, wherever they are."""
    return bytes(value for _, value, _ in flat(read_all(store, Cursor(attempt), job_id)))


def lifetime(store, key):
    """Ms that Redis keeps a key for."""
    return store.connection.pttl(key)


def test_the_list_goes_and_what_is_known_stays(store):
    """Behind the archiving, Redis keeps the output for as long as is set, and the figures and the entry for longer."""
    store = ArchivedStore(store.connection, store.archive, remember=90 * 86_400)
    write(store, "job")
    store.start("runs", Attempt(1, 0, "e1"))

    swept = Archiver(store, NOW).sweep()

    assert (swept.archived, swept.bytes, swept.failed) == (1, 8, 0)
    assert lifetime(store, list_key("job", 1)) <= 3_600_000
    assert lifetime(store, meta_key("job")) > 89 * DAY
    assert lifetime(store, INDEX) > 89 * DAY
    assert store.summary("job").last.archived
    assert not store.summary("runs").last.archived
    assert Archiver(store, NOW).sweep().archived == 0


def test_a_log_is_archived_some_time_after_its_end(store):
    """Not before `archive_after` seconds."""
    write(store, "job", ended_at=now_ms() / 1000 - 50)

    assert Archiver(store, Settings(archive_after=100)).sweep().archived == 0
    assert Archiver(store, Settings(archive_after=10)).sweep(whole=False).archived == 1


def test_what_is_not_as_its_end_record_says_is_not_archived(store, caplog):
    """Output that was changed in Redis does not count as archived, is told of once, and keeps its time there."""
    write(store, "job")
    changed = encode(Chunk(STDOUT, 1000, 0, 1, 2, False, b"one\nTWO\n"))
    store.connection.lset(list_key("job", 1), 1, changed)
    archiver = Archiver(store, NOW)

    assert [archiver.sweep().failed, archiver.sweep().failed] == [1, 0]

    assert not store.summary("job").last.archived
    assert lifetime(store, list_key("job", 1)) > 6 * DAY
    assert store.archive.summary("job") is None
    assert caplog.text.count("cannot be archived: its checksum is not that of its end record") == 1


def test_a_damaged_log_is_archived_as_it_is_read_and_kept(store):
    """What Redis has lost of a log is a hole there and here, and what Redis still has keeps its time."""
    write(store, "job")
    store.connection.lset(list_key("job", 1), 1, b"garbage")
    before = read_all(store, Cursor(), "job")

    assert Archiver(store, NOW).sweep().archived == 1

    assert lifetime(store, list_key("job", 1)) > 6 * DAY
    archived(store, "job")
    assert read_all(store, Cursor(), "job") == before


def test_an_archive_that_is_away_is_waited_for(connection, tmp_path):
    """Logs keep their whole time in Redis until the archive is back, and then go there. A folder must be there."""
    away = ArchivedStore(connection, Archive(Objects(f"file://{tmp_path}/archive")))
    for job_id in ("a", "b"):
        write(away, job_id)
        connection.pexpire(list_key(job_id, 1), 60_000)
    archiver = Archiver(away, NOW)

    assert archiver.sweep().failed == 2
    for job_id in ("a", "b"):
        assert lifetime(away, list_key(job_id, 1)) > 6 * DAY
    (tmp_path / "archive").mkdir()
    assert archiver.sweep().archived == 2


def test_what_only_an_archive_has_that_is_away_is_unavailable(store, place):
    """It has not expired, and is not unknown: who asks is told to come back."""
    write(store, "job")
    archived(store, "job")
    away = ArchivedStore(store.connection, Archive(Objects("file:///dev/null/archive")))

    assert away.summary("job").last.bytes == 8
    with pytest.raises(ArchiveUnavailable):
        away.reader("job", Cursor()).read()
    store.connection.delete(meta_key("job"))
    for call in (away.summary, away.expired):
        with pytest.raises(ArchiveUnavailable):
            call("job")
    with pytest.raises(ArchiveUnavailable):
        away.tail("job", 5)
    assert output(store, "job") == b"one\ntwo\n"


def test_several_archivers_do_no_harm(store, place):
    """All of them sweep the same logs at the same time; each log is archived, and as it was."""
    for number in range(20):
        write(store, f"job{number}", b"%d\n" % number * 5000)
    archivers = [Archiver(ArchivedStore(store.connection, Archive(Objects(place))), NOW) for _ in range(3)]

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda one: one.sweep(), archivers))

    archived(store, *[f"job{number}" for number in range(20)])
    for number in range(20):
        assert output(store, f"job{number}") == b"%d\n" % number * 5000


def test_later_attempts_join_up(store):
    """An attempt behind an archived one has the next number, and is archived beside it."""
    write(store, "job", b"first\n", outcome="failed")
    archived(store, "job")
    write(store, "job", b"second\n", execution="e2")

    assert [one.number for one in store.summary("job").attempts] == [1, 2]
    assert [output(store, "job", number) for number in (1, 2)] == [b"first\n", b"second\n"]
    assert store.tail("job", 2) == Cursor(1, 0)
    archived(store, "job")
    store.connection.flushall()
    assert [one.number for one in store.summary("job").attempts] == [1, 2]
    assert [output(store, "job", number) for number in (1, 2)] == [b"first\n", b"second\n"]


def test_an_attempt_that_was_rebuilt_joins_what_is_archived(store):
    """Redis lost all while attempt 2 ran; its worker wrote that anew, and attempt 1 is in the archive."""
    write(store, "job", b"first\n")
    archived(store, "job")
    store.connection.flushall()
    store.start("job", Attempt(3000, 2, "e2"))

    assert [one.number for one in store.summary("job").attempts] == [1, 2]
    assert output(store, "job", 1) == b"first\n"


def test_an_id_that_is_used_anew_has_the_newest_log(store):
    """When Redis has forgotten a job, its id counts from 1 again; the older files are left where they are."""
    for execution, began in (("e1", 1000), ("e2", 2000), ("e3", 90_000)):
        if began == 90_000:
            store.connection.flushall()
        write(store, "job", execution.encode(), execution=execution, began=began)
        archived(store, "job")
    store.connection.flushall()

    assert [one.about.execution for one in store.summary("job").attempts] == ["e3"]
    assert output(store, "job") == b"e3"


def test_a_worker_that_was_thought_lost_is_archived_anew(store):
    """A lost end is archived as any other, but its list stays; behind the real end all of it is archived."""
    write(store, "job", outcome="lost")
    assert Archiver(store, NOW).sweep().archived == 1
    assert lifetime(store, list_key("job", 1)) > 6 * DAY
    chunk = Chunk(STDOUT, 2000, 8, 3, 1, False, b"back\n")
    store.append("job", Cursor(1, 8), [encode(chunk)], end=13, lines=3)
    assert not store.summary("job").last.archived
    store.end("job", End(outcome="finished", attempt=1, final=True, bytes=13, lines=3, ended_at=3.0))

    assert archived(store, "job").archived == 1

    assert output(store, "job") == b"one\ntwo\nback\n"
    assert store.summary("job").last.end.outcome == "finished"


def test_a_deleted_log_is_gone_from_both(store):
    """Deleting takes it out of Redis and the archive; it was never there."""
    write(store, "job")
    write(store, "other")
    archived(store, "job", "other")

    store.delete("job")

    assert store.summary("job") is None
    assert not store.expired("job")
    assert output(store, "job") == b""
    assert output(store, "other") == b"one\ntwo\n"


def test_a_log_that_is_deleted_while_it_is_archived_stays_gone(store, monkeypatch):
    """What was on its way into the archive is taken back."""
    write(store, "job")
    attempt = store.summary("job").last
    put = store.archive.write
    monkeypatch.setattr(store.archive, "write", lambda *args: (put(*args), LogStore(store.connection).delete("job"))[0])

    Archiver(store, NOW).archive("job", attempt)

    assert store.summary("job") is None


def test_a_log_whose_file_is_gone_has_expired(store):
    """What a rule of the archive's has removed is told as expired, before anything is read."""
    write(store, "job")
    archived(store, "job")
    store.check("job", 1)
    store.archive.delete("job")

    with pytest.raises(LogExpired):
        store.check("job", 1)


def test_a_bucket_or_folder_that_is_missing_is_not_an_empty_archive(store, place):
    """It is an archive that is away, for those who ask for what it should have, and for what it never had."""
    write(store, "job")
    archived(store, "job")
    missing = place.replace("s3://logs/", "s3://no-such-bucket/") if place.startswith("s3") else f"{place}/missing"
    away = ArchivedStore(store.connection, Archive(Objects(missing)))

    for job_id in ("job", "unknown"):
        with pytest.raises(ArchiveUnavailable):
            away.reader(job_id, Cursor()).read()


def test_a_snapshot_that_has_begun_in_redis_goes_on_in_the_archive(store):
    """Also where the archive has fewer elements, and other indexes therefore: here of those that are there twice."""
    chunks = [Chunk(STDOUT, 1000, 4 * n, n + 1, 1, False, b"%03d\n" % n) for n in range(300)]
    store.start("job", Attempt(1000, 0, "e1"))
    store.append("job", Cursor(), [encode(chunk) for chunk in chunks], end=1200, lines=300)
    store.end("job", End(outcome="finished", attempt=1, final=True, bytes=1200, lines=300, ended_at=2.0))
    for _ in range(100):
        store.connection.linsert(list_key("job", 1), "AFTER", encode(chunks[5]), encode(chunks[5]))
    hub, selection = Hub(store, Jobs(store.connection)), Selection(job_id="job", start=Cursor(), wait=False)
    whole = list(snapshot(hub, selection))

    for count in (1, 5, 30, 150):
        begun = snapshot(hub, selection)
        read = [next(begun) for _ in range(count)]
        held = store.connection.dump(list_key("job", 1))
        archived(store, "job")
        assert read + list(begun) == whole
        store.connection.restore(list_key("job", 1), 0, held)


# Reading in ranges.


class Counting(Objects):
    """Objects that count what is read of them."""

    read_bytes = requests = 0

    def open(self, name, size):
        """Count it."""
        found = super().open(name, size)
        self.requests += 1
        self.read_bytes += len(found.data) if found else 0
        return found

    def read(self, name, start, end, version):
        """Count it."""
        self.requests += 1
        self.read_bytes += end - start
        return super().read(name, start, end, version)


def test_a_place_in_a_large_log_takes_a_few_small_reads(store, place):
    """Its last lines, or some in its midst, are read with the index and a piece or two, whatever its size."""
    at, _ = store.start("job", Attempt(1000, 0, "e1"))
    for number in range(150):
        data = b"".join(b"%08d" % (600 * number + n) + os.urandom(40).hex().encode() + b"\n" for n in range(600))
        chunk = Chunk(STDOUT, 1000 + number, at.offset, 600 * number + 1, 600, False, data)
        end = chunk.end
        store.append("job", at, [encode(chunk, COMPRESSOR)], end=end, lines=600 * (number + 1))
        at = Cursor(1, end)
    store.end("job", End(outcome="finished", attempt=1, final=True, bytes=at.offset, lines=90_000, ended_at=2.0))
    archived(store, "job")
    size = at.offset

    for where in (
        lambda far: far.tail("job", 100),
        lambda far: far.line("job", 1, 45_000),
        lambda far: far.since("job", 1080),
    ):
        objects = Counting(place)
        far = ArchivedStore(store.connection, Archive(objects))
        cursor = where(far)
        assert far.reader("job", cursor).read()[0].data.startswith(b"%08d" % (cursor.offset // 89))
        assert objects.requests <= 4
        assert objects.read_bytes < size / 8


def test_a_file_that_is_no_log_is_told(store, place, tmp_path):
    """Something else in the place of a log, or one that was cut, is unreadable, and not taken for output."""
    write(store, "job")
    archived(store, "job")
    (name,) = Objects(place).names("job")
    opened = Objects(place).open(name, 1 << 20)
    store.connection.flushall()
    for data in (b"garbage" * 10, opened.data[:-1], opened.data[1:], bytes(len(opened.data))):
        (tmp_path / "file").write_bytes(data)
        Objects(place).put(name, tmp_path / "file")
        far = ArchivedStore(store.connection, Archive(Objects(place)))
        with pytest.raises(CorruptRecord):
            read_all(far, Cursor(), "job")


def test_a_forked_process_is_told_and_does_not_hang(store):
    """The library's threads do not survive a fork; a child of a process that has read says so at once."""
    write(store, "job")
    archived(store, "job")
    assert output(store, "job")
    pid = os.fork()
    if pid == 0:
        told = 1
        try:
            store.archive.delete("job")
        except ArchiveUnavailable:
            told = 0
        finally:
            os._exit(told)
    assert os.waitpid(pid, 0)[1] == 0


# Settings.


@pytest.mark.parametrize(
    "url",
    [
        "x",
        "/srv/logs",
        "file://srv/logs",
        "file:///",
        "s3://",
        "s3:///x",
        "http://h/x",
        "s3://key@bucket",
        "s3://b?x=1",
    ],
)
def test_an_url_that_names_no_archive_is_refused(url):
    """The error has the variable's name, its value, and what is allowed."""
    with pytest.raises(SettingsError, match=r"TAILER_ARCHIVE=.* cannot be used: use file:///FOLDER"):
        Settings.from_env({"TAILER_ARCHIVE": url})


def test_without_an_archive_there_is_a_plain_store():
    """Nothing of the archive is loaded, and nothing asked."""
    assert type(open_store(Settings())) is LogStore


def test_a_log_that_somebody_has_overwritten_holds_up_no_other(store):
    """A key of another kind in the place of one log's figures: all others are archived."""
    for job_id in ("one", "overwritten", "two"):
        write_numbers(store, job_id, 20)
        store.end(job_id, End(outcome="finished", attempt=1, final=True, bytes=80, lines=20, ended_at=2.0))
    store.connection.set(meta_key("overwritten"), "by a stranger")
    assert Archiver(store, NOW).sweep().archived == 2


def test_a_log_over_its_limit_is_archived_with_its_hole(store):
    """Beginning, hole and end are read from the archive as they were from Redis, whose lists both go."""
    short = ArchivedStore(store.connection, store.archive, keep_head=10, keep_tail=20)
    write_numbers(short, "job", 20)
    short.end("job", End(outcome="finished", attempt=1, final=True, bytes=80, lines=20, ended_at=2.0))
    before = [read_all(short, Cursor(1, at), "job") for at in (0, 30, 60)]
    places = [short.tail("job", count) for count in (2, 6, 7, 18)]

    Archiver(short, NOW).sweep()
    lists = list_key("job", 1), f"{list_key('job', 1)}:tail"
    assert all(0 < lifetime(short, key) <= 3_600_000 for key in lists)
    short.connection.delete(*lists)
    assert [read_all(short, Cursor(1, at), "job") for at in (0, 30, 60)] == before
    assert [short.tail("job", count) for count in (2, 6, 7, 18)] == places
    assert short.near.elements("job", 1, 0, -1) == []
