"""The same log, to the byte, from every WSGI server: those that lend their sockets, and those that only iterate."""

import base64
import functools
import gzip
import json
import random
import re
import threading
import time

import pytest
import zstandard

from tailer.embedded import EmbeddedServer
from tailer.records import STDERR
from tailer.store import LogStore, connect
from tests.processes import leftovers, shared
from tests.swarm import Swarm
from tests.waiting import wait_until
from tests.web_servers import SERVERS, served
from tests.written import Written

FORMATS = {"text": "", "sse": "?format=sse", "records": "?format=sse&json=1", "ndjson": "?format=ndjson"}


class Web:
    """A server under test, with the Redis behind it."""

    def __init__(self, kind, url, redis_url):
        self.kind, self.url = kind, url
        self.connection = connect(redis_url)
        self.store = LogStore(self.connection)

    def started(self):
        """A log that a job writes just now."""
        log = Written(self.store)
        log.rq_job(self.connection, "started")
        return log

    def finish(self, log, outcome="finished", **fields):
        """End it, for RQ too."""
        log.rq_job(self.connection, outcome)
        log.end(outcome, **fields)


@pytest.fixture(scope="module", params=SERVERS)
def web(request):
    """Each server in turn, one for all tests here."""
    with (
        EmbeddedServer() as server,
        served(request.param, server.url, env={"TAILER_HEARTBEAT": "1"}) as (url, _),
    ):
        shared.update(leftovers(""))
        held = Web(request.param, url, server.url)
        yield held
        held.connection.connection_pool.disconnect()


def events_of(body):
    """The parsed events of an event stream: name, id and data of each."""
    found = []
    for block in body.decode().split("\n\n"):
        fields = [line.partition(": ")[::2] for line in block.split("\n") if ": " in line or line.endswith(":")]
        data = "\n".join(value for name, value in fields if name.rstrip(":") == "data")
        names = dict(fields)
        if "data" in names or "data:" in names:
            found.append((names.get("event", "message"), names.get("id"), data))
    return found


def bytes_of(name, body):
    """The log's bytes in a body; for the plain event stream with CR as it may come there."""
    if name == "text":
        return body
    if name == "sse":
        return "".join(data for event, _, data in events_of(body) if event == "message").encode()
    if name == "records":
        records = [json.loads(data) for event, _, data in events_of(body) if event == "message"]
    else:
        records = [json.loads(line) for line in body.splitlines() if line]
    lines = [one for one in records if "text" in one]
    raw = [base64.b64decode(one["base64"]) if "base64" in one else one["text"].encode() for one in lines]
    return b"".join(data + (b"" if one.get("partial") else b"\n") for one, data in zip(lines, raw, strict=True))


@functools.cache
def output(seed, binary):
    """Pieces of some output: short and long, whole lines and parts of them. The same ones for each server."""
    rng = random.Random(seed)
    pieces = []
    for _ in range(40):
        size = rng.choice([1, 10, 100, 3000, 30_000]) if rng.random() < 0.95 else 300_000
        if binary:
            pieces.append(rng.randbytes(size).replace(b"\r", b"\n"))
        else:
            pieces.append("".join(rng.choices("abc äß€" * 20 + "\n", k=size)).encode())
    return pieces


@pytest.mark.parametrize("binary", [False, True])
def test_followers_in_every_format_get_the_same_bytes_once(web, binary):
    """Whoever joins at any moment, in any format, gets exactly what the job wrote, and a proper end."""
    log, pieces, rng = web.started(), output(5, binary), random.Random(6)
    whole = b"".join(pieces)
    done = threading.Event()

    def write():
        for piece in pieces:
            log.write(piece)
            time.sleep(rng.random() * 0.02)  # a job's own rhythm
        web.finish(log)
        done.set()

    with Swarm(web.url) as swarm:
        writer = threading.Thread(target=write)
        writer.start()
        clients = []
        while not done.is_set() and len(clients) < 12:
            name = list(FORMATS)[len(clients) % len(FORMATS)]
            clients.append((name, swarm.follow(log.job_id, FORMATS[name])))
            time.sleep(0.05)
        writer.join(30)
        for name, client in clients:
            wait_until(lambda client=client: client.ended, 30, f"the end of {name}")
            assert client.ended == "end"
            if not (binary and name == "sse"):
                assert bytes_of(name, client.text) == whole


def test_two_attempts_and_a_bad_end_come_in_order(web):
    """All attempts are one stream, and text says in its last line how the job ended."""
    log = web.started()
    with Swarm(web.url) as swarm:
        clients = {name: swarm.follow(log.job_id, where or "?heartbeat=1") for name, where in FORMATS.items()}
        log.write(b"first\n")
        log.rq_job(web.connection, "queued")
        log.end("failed", final=False, reason="try again")
        log.rq_job(web.connection, "started")
        log.start()
        log.write(b"second\n", STDERR)
        log.hole(7, 1, "a test")
        web.finish(log, "failed", reason="for good")
        for client in clients.values():
            wait_until(lambda client=client: client.ended, 20)
            assert client.ended == "end"
    text = clients["text"].text.replace(b"\0", b"")
    assert text.startswith(b"first\nsecond\n[tailer] 7 bytes are missing here: a test\n")
    assert text.endswith(b"[tailer] failed after 1.0 s: for good\n")
    names = [name for name, _, _ in events_of(clients["sse"].text) if name not in {"status", "ping"}]
    assert names == ["attempt", "message", "attempt", "message", "hole", "end"]
    last = json.loads(clients["ndjson"].text.splitlines()[-1])
    assert (last["outcome"], last["attempt"]) == ("failed", 2)


def test_old_clients_and_compression_get_the_same_bytes(web):
    """HTTP/1.0 comes without chunks; gzip and zstd can be read up to the last piece, and hold the same in the end."""
    log, pieces = web.started(), [b"one\n", b"two\n" * 5000, random.Random(1).randbytes(3000), b"end\n"]
    log.write(pieces[0])
    with Swarm(web.url) as swarm:
        old = swarm.follow(log.job_id, version="1.0")
        packed = {name: swarm.follow(log.job_id, "", f"Accept-Encoding: {name}") for name in ("gzip", "zstd")}
        zstd = zstandard.ZstdDecompressor().decompressobj
        wait_until(lambda: old.text == pieces[0])
        wait_until(lambda: packed["zstd"].data and zstd().decompress(packed["zstd"].text) == pieces[0])
        for piece in pieces[1:]:
            log.write(piece)
        web.finish(log)
        for client in (old, *packed.values()):
            wait_until(lambda client=client: client.ended, 20)
            assert client.ended == "end"
    if web.kind != "flask":  # whose server sends chunks to everybody
        assert b"chunked" not in old.head.lower()
    assert old.text == b"".join(pieces)
    assert gzip.decompress(packed["gzip"].text) == b"".join(pieces)
    with zstandard.ZstdDecompressor().stream_reader(packed["zstd"].text, read_across_frames=True) as reader:
        assert reader.read() == b"".join(pieces)


def test_selections_are_kept_while_following(web):
    """What is asked for is what comes, also of what is written later."""
    log = web.started()
    log.write(b"before, unfinished ")
    with Swarm(web.url) as swarm:
        errors = swarm.follow(log.job_id, "?stderr=1&heartbeat=1")
        plain = swarm.follow(log.job_id, "?ansi=strip")
        tail = swarm.follow(log.job_id, "?tail=0&heartbeat=1")
        stamped = swarm.follow(log.job_id, "?timestamps=1")
        lines = swarm.follow(log.job_id, "?lines=1-2&follow=1")
        log.write(b"line\n")
        log.write(b"\x1b[31mred\x1b[0m\n", STDERR)
        log.write(b"last\n")
        web.finish(log)
        for client in (errors, plain, tail, stamped, lines):
            wait_until(lambda client=client: client.ended == "end", 20)
    assert errors.text.replace(b"\0", b"") == b"\x1b[31mred\x1b[0m\n"
    assert plain.text == b"before, unfinished line\nred\nlast\n"
    assert tail.text.replace(b"\0", b"") == b"line\n\x1b[31mred\x1b[0m\nlast\n"
    assert lines.text == b"before, unfinished line\n\x1b[31mred\x1b[0m\n"
    assert re.sub(rb"(?m)^\S+Z ", b"", stamped.text) == b"before, unfinished line\n\x1b[31mred\x1b[0m\nlast\n"


def test_a_quiet_log_shows_signs_of_life(web):
    """The header comes at once, and then a heartbeat whenever nothing came for TAILER_HEARTBEAT seconds."""
    log = web.started()
    wanted = {"?format=sse": b"event: ping", "?format=ndjson": b"\n", "?heartbeat=1": b"\0"}
    with Swarm(web.url) as swarm:
        began = time.monotonic()
        clients = {mark: swarm.follow(log.job_id, parameters) for parameters, mark in wanted.items()}
        assert time.monotonic() - began < 5
        for mark, client in clients.items():
            wait_until(lambda mark=mark, client=client: client.text.count(mark) >= 3, 10)
        assert not any(client.ended for client in clients.values())


def test_who_reads_slowly_gets_all_and_holds_up_nobody(web):
    """A slow client is given everything at its own pace, and another one's lines come as quickly as ever."""
    log = web.started()
    log.write(b"begin\n")
    with Swarm(web.url) as swarm, Swarm(web.url) as other:
        slow = swarm.follow(log.job_id, buffer=8192)
        slow.slow = True
        quick = other.follow(log.job_id)
        for number in range(40):
            log.write(b"%d\n" % number + b"x" * 50_000 + b"\n")
            wait_until(lambda: len(quick.data) == log.at.offset, 2, "the quick one's lines")
        assert len(slow.data) < log.at.offset
        slow.slow = False
        web.finish(log)
        wait_until(lambda: slow.ended, 20)
        assert slow.text == quick.text
