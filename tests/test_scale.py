"""Many followers of a gunicorn that lends its sockets: exact bytes, those who leave or stall, stops and reloads."""

import contextlib
import json
import random
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tailer.store import LogStore, connect
from tests.processes import free_port
from tests.stack import curl
from tests.swarm import Swarm
from tests.test_servers import bytes_of, events_of
from tests.waiting import wait_until
from tests.web_servers import LENDING, connections_to, cpu_of, listeners, served, worker_of
from tests.written import Written


class Scene:
    """A server of the test's own, its Redis, and a swarm of clients."""

    def __init__(self, kind, server, url, process, swarm):
        self.kind, self.server, self.url, self.process, self.swarm = kind, server, url, process, swarm
        self.connection = connect(server.url)
        self.store = LogStore(self.connection)
        self.pid = worker_of(process)

    def started(self):
        """A log that a job writes just now."""
        log = Written(self.store)
        log.rq_job(self.connection, "started")
        return log

    def finish(self, log, outcome="finished"):
        """End it, for RQ too."""
        log.rq_job(self.connection, outcome)
        log.end(outcome)


@contextlib.contextmanager
def scene_of(kind, server, **env):
    """A scene with these settings; what its server says must not hold a traceback."""
    with served(kind, server.url, env=env) as (url, process), Swarm(url) as swarm:
        scene = Scene(kind, server, url, process, swarm)
        yield scene
        said = process.text()
        assert "Traceback" not in said, said
        scene.connection.connection_pool.disconnect()


@pytest.fixture(params=[pytest.param("gevent", marks=pytest.mark.whole), "gthread"])
def scene(request, server):
    """Each of gunicorn's workers that lend sockets; `make test` tries the Procfile's one."""
    with scene_of(request.param, server, TAILER_HEARTBEAT="2") as made:
        yield made


WAYS = {"live": ("", ()), "packed": ("", ("Accept-Encoding: gzip",)), "stripped": ("?ansi=strip", ())}


@pytest.mark.parametrize("how", ["close", "reset", "half"])
def test_who_leaves_a_quiet_log_is_freed_at_once(scene, how):
    """Within five seconds and without a byte to send, whatever kind of response it was, and however the client went."""
    log = scene.started()
    log.write(b"begin\n")
    for parameters, headers in WAYS.values():
        scene.swarm.follow(log.job_id, parameters, *headers)
    if how != "half":  # which HTTP/1.0 may mean otherwise
        scene.swarm.follow(log.job_id, version="1.0")
    clients = scene.swarm.clients
    wait_until(lambda: listeners(scene.connection, log.job_id) == 1)
    for client in clients:
        wait_until(lambda client=client: client.data)
        client.leave(how)
    wait_until(lambda: listeners(scene.connection, log.job_id) == 0, 5, "the followers are freed")
    wait_until(lambda: connections_to(scene.url) == 0, 5, "their sockets are closed")


def test_who_stalls_holds_up_nobody_and_loses_nothing(scene):
    """Clients that stop reading cost their socket's buffer; others' lines come as ever, and in the end all is there."""
    log = scene.started()
    stalled = [scene.swarm.follow(log.job_id, f"?format={form}", buffer=4096) for form in ("text", "ndjson") * 10]
    for client in stalled:
        client.stop_reading()
    quick = scene.swarm.follow(log.job_id)
    for number in range(60):
        log.write(b"%d " % number + random.Random(number).randbytes(30_000).hex().encode() + b"\n")
        wait_until(lambda: len(quick.data) == log.at.offset, 2, "the quick one's lines")
    assert all(len(client.data) < log.at.offset / 2 for client in stalled)
    for client in stalled:
        client.read_on()
    scene.finish(log)
    for client in stalled:
        wait_until(lambda client=client: client.ended, 20)
        assert client.ended == "end"
    assert {bytes_of("text", client.text) for client in stalled[::2]} == {quick.text}
    assert {bytes_of("ndjson", client.text) for client in stalled[1::2]} == {quick.text}


def test_who_stalls_for_too_long_is_dropped_and_resumes(server):
    """After TAILER_STALL_TIMEOUT the connection is closed, and the last event's id leads to exactly the rest."""
    with scene_of("gevent", server, TAILER_STALL_TIMEOUT="2") as scene:
        log = scene.started()
        client = scene.swarm.follow(log.job_id, "?format=sse&json=1", buffer=4096)
        log.write(b"first\n")
        wait_until(lambda: b"first" in client.data)
        client.stop_reading()
        for number in range(100):
            log.write(b"%d " % number + random.Random(number).randbytes(20_000).hex().encode() + b"\n")
        wait_until(lambda: listeners(scene.connection, log.job_id) == 0, 30, "it is dropped")
        with curl(f"{scene.url}/metrics") as figures:
            assert figures.wait() == 0
            assert b"\ntailer_stalled_clients_total 1.0\n" in figures.body
            assert b'\ntailer_streams_ended_total{reason="left"} 1.0\n' in figures.body
        client.read_on()
        wait_until(lambda: client.ended, 20)
        assert client.ended == "cut"
        seen = [event for event in events_of(client.text) if event[0] == "message"]
        scene.finish(log)
        rest = scene.swarm.follow(log.job_id, "?format=sse&json=1", f"Last-Event-ID: {seen[-1][1]}")
        wait_until(lambda: rest.ended, 20)
        whole = scene.swarm.follow(log.job_id)
        wait_until(lambda: whole.ended, 20)
        lines = [
            json.loads(data)["text"] for _, _, data in seen + [e for e in events_of(rest.text) if e[0] == "message"]
        ]
        assert "\n".join(lines).encode() + b"\n" == whole.text


def test_a_crowd_gets_exactly_its_bytes(scene):
    """150 followers of one log, and one each of thirty: any format and pace, some leave; no byte is wrong."""
    rng = random.Random(4)
    popular, others = scene.started(), [scene.started() for _ in range(30)]
    written = {log.job_id: bytearray() for log in (popular, *others)}
    over = threading.Event()

    def write(logs, seed, most):
        own = random.Random(seed)
        while not over.is_set():
            log = own.choice(logs)
            size = own.choice([1, 50, 500, 5000, most])
            piece = own.randbytes(size // 2).hex().encode() + b"\n" * own.randint(0, 1)
            if piece:
                log.write(piece)
                written[log.job_id] += piece
            time.sleep(own.random() * 0.02)  # jobs' own rhythm

    forms = {"text": "", "records": "?format=sse&json=1", "ndjson": "?format=ndjson", "sse": "?format=sse"}
    clients = []
    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(write, [popular], 1, 100_000), pool.submit(write, others, 2, 20_000)]
        for number in range(180):
            log = popular if number < 150 else others[number - 150]
            form = rng.choice(list(forms))
            client = scene.swarm.open(f"/jobs/{log.job_id}/log{forms[form]}", buffer=rng.choice([4096, None]))
            client.slow = rng.random() < 0.2
            clients.append((log, form, client))
            if rng.random() < 0.1:
                rng.choice(clients)[2].stop_reading()
            time.sleep(0.01)  # they come one after the other
        gone = rng.sample(clients, 30)
        for _, _, client in gone:
            client.leave(rng.choice(["close", "reset"]))
        over.set()
        for writer in writers:
            writer.result(20)
    for log in (popular, *others):
        scene.finish(log)
    for one in clients:
        if one not in gone:
            one[2].slow = False
            one[2].read_on()
    for log, form, client in clients:
        if (log, form, client) not in gone:
            wait_until(lambda client=client: client.ended, 40, "the end")
            assert (client.status, client.ended) == (200, "end")
            whole = bytes(written[log.job_id])
            got = bytes_of(form, client.text)
            # An unfinished last line has no newline in the plain event stream, and nothing else shows there.
            assert got == whole, (form, len(got), len(whole))


def resumed(swarm, job_id, parameters, *headers):
    """A client that comes back until it is served: the old process may still take its request, and turns it away."""
    for _ in range(100):
        client = swarm.open(f"/jobs/{job_id}/log{parameters}", *headers)
        wait_until(lambda client=client: b"meanwhile" in client.data or client.ended, 20)
        if b"meanwhile" in client.data:
            return client
        assert client.status == 503 or b"event: error" in client.text
        time.sleep(0.1)  # as a browser does, only sooner
    raise AssertionError("it is turned away for ever")


@pytest.mark.parametrize("sign", [signal.SIGHUP, signal.SIGTERM])
@pytest.mark.parametrize("kind", LENDING)
def test_a_deploy_ends_streams_so_that_clients_resume(server, kind, sign):
    """At a reload or a stop all streams end soon, none as if the log were over, and go on elsewhere without loss."""
    port = free_port()
    with served(kind, server.url, port=port) as (url, process), Swarm(url) as swarm:
        scene = Scene(kind, server, url, process, swarm)
        log = scene.started()
        forms = ("", "?format=sse&json=1", "?format=ndjson", "?ansi=strip")
        clients = [swarm.follow(log.job_id, form) for form in forms for _ in range(10)]
        clients.append(swarm.follow(log.job_id, "", version="1.0"))
        log.write(b"before\n")
        for client in clients:
            wait_until(lambda client=client: b"before" in client.data)
        began = time.monotonic()
        process.signal(sign)
        for client in clients:
            wait_until(lambda client=client: client.ended, 10, "the end of a stream")
            events = events_of(client.text) if "sse" in client.path else []
            if events:
                name, _, data = events[-1]
                assert (name, json.loads(data)["status"]) == ("error", 503)
            elif b"chunked" in client.head.lower():
                assert client.ended == "cut"
        if sign == signal.SIGTERM:
            assert process.wait(10) == 0
        assert time.monotonic() - began < 10
        log.write(b"meanwhile\n")
        with contextlib.ExitStack() as held:
            if sign == signal.SIGTERM:
                held.enter_context(served(kind, server.url, port=port))
            cursors = [re.findall(r"^id: (\S+)$", client.text.decode(), re.MULTILINE)[-1] for client in clients[10:20]]
            again = [resumed(swarm, log.job_id, forms[1], f"Last-Event-ID: {cursor}") for cursor in cursors]
            again.append(resumed(swarm, log.job_id, "?offset=1:7"))
            log.write(b"after\n")
            scene.finish(log)
            for client in again:
                wait_until(lambda client=client: client.ended, 20)
            assert {bytes_of("records", client.text) for client in again[:-1]} == {b"meanwhile\nafter\n"}
            assert again[-1].text == b"meanwhile\nafter\n"
        said = process.text()
        assert "Traceback" not in said, said
        scene.connection.connection_pool.disconnect()


@pytest.mark.parametrize("count", [1000, pytest.param(5000, marks=pytest.mark.whole)])
def test_thousands_of_clients_may_come_at_once(scene, count):
    """All of them are served, none is turned away, and each gets every line."""
    log = scene.started()
    log.write(b"begin\n")
    clients = [scene.swarm.open(f"/jobs/{log.job_id}/log") for _ in range(count)]
    for number, client in enumerate(clients):
        wait_until(lambda client=client: client.status or client.ended, 40, "an answer")
        if number % 100 == 0:
            scene.store.keep_alive(log.job_id, 1)  # on a slow machine this takes longer than a worker may be silent
    assert {client.status for client in clients} == {200}
    for number in range(5):
        log.write(b"line %d\n" % number)
    scene.finish(log)
    for client in clients:
        wait_until(lambda client=client: client.ended, 20)
    assert {(client.ended, client.text) for client in clients} == {
        ("end", b"begin\n" + b"".join(b"line %d\n" % number for number in range(5)))
    }


@pytest.mark.parametrize("kind", LENDING)
def test_more_followers_than_files_are_turned_away(server, kind):
    """Near the limit of open files new clients are told to come back, and those who are there follow on."""
    with served(kind, server.url, files=200) as (url, process), Swarm(url) as swarm:
        scene = Scene(kind, server, url, process, swarm)
        log = scene.started()
        log.write(b"begin\n")
        clients = []
        for _ in range(6):
            clients += [swarm.open(f"/jobs/{log.job_id}/log") for _ in range(20)]
            for client in clients:
                wait_until(lambda client=client: client.data or client.ended, 20, "an answer")
        turned_away = [client for client in clients if client.status == 503]
        assert b"Too many followers" in turned_away[0].text
        scene.finish(log)
        served_ones = [client for client in clients if client.status == 200]
        for client in served_ones:
            wait_until(lambda client=client: client.ended, 20)
            assert (client.ended, client.text) == ("end", b"begin\n")
        assert len(served_ones) > 40
        again = swarm.follow(log.job_id)
        wait_until(lambda: again.ended == "end", 20)
        assert "Traceback" not in process.text()
        scene.connection.connection_pool.disconnect()


def test_quiet_followers_cost_next_to_nothing(scene):
    """Three hundred of them take no thread or greenlet of the server, nor its time; gone, they leave no socket."""
    log = scene.started()
    log.write(b"begin\n")
    clients = [scene.swarm.follow(log.job_id) for _ in range(300)]
    for client in clients:
        wait_until(lambda client=client: client.data == b"begin\n")
    used, began = cpu_of(scene.pid), time.monotonic()
    wait_until(lambda: time.monotonic() - began > 3)
    assert cpu_of(scene.pid) - used <= 15  # of 300 ticks
    assert len(list(Path(f"/proc/{scene.pid}/task").iterdir())) < 60
    for client in clients:
        client.leave()
    wait_until(lambda: connections_to(scene.url) == 0, 10, "their sockets are closed")


def test_a_log_that_is_deleted_ends_for_its_followers(server):
    """Those whom the hub serves are told, too, that the log they follow is gone."""
    with scene_of("gthread", server) as scene:
        log = scene.started()
        log.write(b"so far\n")
        client = scene.swarm.follow(log.job_id)
        wait_until(lambda: client.data)
        scene.store.delete(log.job_id)
        wait_until(lambda: client.ended, 20)
        assert client.text == b"so far\n[tailer] deleted: its log was deleted\n"


def test_followers_outlive_a_restart_of_redis(scene):
    """They stay connected and get heartbeats while Redis is away, and then what the rebuilt log has for them."""
    log = scene.started()
    log.write(b"before\n")
    clients = {form: scene.swarm.follow(log.job_id, f"?format={form}") for form in ("text", "ndjson")}
    for client in clients.values():
        wait_until(lambda client=client: b"before" in client.data)
    scene.server.stop()
    beats = clients["ndjson"].data.count(b"\n")
    wait_until(lambda: clients["ndjson"].data.count(b"\n") >= beats + 2, 15, "two heartbeats")
    scene.server.start()
    again = Written(scene.store, log.job_id)
    again.rq_job(scene.connection, "started")
    again.write(b"before\nbehind\n")
    wait_until(lambda: clients["text"].data == b"before\nbehind\n", 15)
    scene.finish(again)
    for client in clients.values():
        wait_until(lambda client=client: client.ended, 20)
        assert client.ended == "end"
    assert bytes_of("ndjson", clients["ndjson"].text) == b"before\nbehind\n"
