"""What RQ says of a job's function, as it is read from the job's data."""

import json
import pickle
import zlib
from pathlib import Path

import fakeredis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rq import Queue

from tailer.jobs import Jobs, JobState, function_in

CALL = ("tests.jobs.hello", None, (1, "x"), {"y": 2})


class Bomb:
    """Leaves a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_the_name_is_found_in_every_form(protocol):
    """Pickled by any protocol, or JSON; compressed, or as RQ once stored it."""
    for data in (pickle.dumps(CALL, protocol), json.dumps(CALL).encode()):
        assert function_in(data) == function_in(zlib.compress(data)) == "tests.jobs.hello"


def test_the_function_is_read_without_running_anything(tmp_path):
    """Nothing that a pickle would do is done, wherever in it that stands."""
    path = tmp_path / "unpickled"
    for call in (("tests.jobs.hello", Bomb(path), (), {}), (Bomb(path), None, (), {}), Bomb(path)):
        named = function_in(zlib.compress(pickle.dumps(call)))
        assert (named == "tests.jobs.hello") == (isinstance(call, tuple) and call[0] == "tests.jobs.hello")
    assert not path.exists()
    pickle.loads(pickle.dumps(Bomb(path)))
    assert path.exists()


def test_large_arguments_are_not_unpacked():
    """The name stands first: of a hundred megabytes behind it, no more is unpacked than is needed."""
    call = ("tests.jobs.hello", None, (b"\0" * 100_000_000,), {})
    assert function_in(zlib.compress(pickle.dumps(call))) == "tests.jobs.hello"


@given(st.binary(max_size=40) | st.binary(max_size=20).map(lambda data: b"\x80\x05(" + data))
def test_any_bytes_are_a_name_or_none(data):
    """What is damaged, or made by another program, is no error."""
    assert function_in(data) is None or isinstance(function_in(data), str)
    assert function_in(zlib.compress(data)) is None or isinstance(function_in(zlib.compress(data)), str)


@pytest.mark.parametrize("data", [b"", b"[", b"[1", b'["', b"{}", b"\x80", pickle.dumps((None, "x")), b"\xff"])
def test_where_there_is_no_name_there_is_none(data):
    """A tuple that begins with something else names no function."""
    assert function_in(data) is None


def test_an_id_that_is_used_again_is_looked_up_again():
    """The name is kept for the job, not for its id."""
    with fakeredis.FakeRedis(server=fakeredis.FakeServer()) as connection:
        jobs, queue = Jobs(connection), Queue(connection=connection)
        first = queue.enqueue("tests.jobs.hello", job_id="same")
        assert jobs.function(jobs.state("same")) == "tests.jobs.hello"
        first.delete()
        second = queue.enqueue("tests.jobs.fail", job_id="same")
        connection.hset(second.key, "created_at", "2026-11-24T00:00:00.000000Z")
        assert jobs.function(jobs.state("same")) == "tests.jobs.fail"
        assert jobs.function(JobState("nobody")) is None
