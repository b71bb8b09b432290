"""`tailer doctor`: what it says of a Redis, of workers and of the web side, behind real proxies, well set or not."""

import contextlib
import json
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from tailer.embedded import EmbeddedServer
from tailer.proxies import PROXIES
from tailer.redis_health import clock, examine_redis
from tailer.store import connect
from tailer.web_health import WebSide
from tests.processes import free_port, leftovers, shared
from tests.proxies import documented, proxied
from tests.stack import ROOT, Stack, clean, worker_process
from tests.test_cli import TAILER, tailer
from tests.test_client import scripted
from tests.waiting import wait_until

TOKEN = "a-token-for-everything"
GUARDED = {"TAILER_TOKENS": f"ann:{TOKEN}:admin", "TAILER_TRUSTED_PROXIES": "1", "TAILER_HEARTBEAT": "3"}
SILENCE = 2.2
"""Shorter than the heartbeat of these web sides, longer than the patience of the proxies that are set wrong."""


def findings(done):
    """The report as (level, subject, text)."""
    return [(line[:4].strip(), *line[6:].split(": ", 1)) for line in done.stdout.splitlines()]


def texts(found, level):
    """The texts of the findings of one level."""
    return [finding.text for finding in found if finding.level == level]


def names(found, level, *words):
    """Say whether a finding of that level has all these words; AssertionError with what was found if none has."""
    assert any(all(word in text for word in words) for text in texts(found, level)), "\n".join(map(str, found))
    return True


# The command.


def test_doctor_finds_a_good_set_up_good(server):
    """Where all is well every line says ok, and the exit code is 0, also with --strict."""
    with redis.Redis.from_url(server.url) as client:
        client.config_set("appendonly", "yes")
    with Stack.on(server.url, env={"TAILER_HEARTBEAT": "1"}) as stack:
        queue = stack.queue()
        with stack.worker(queue, ready=True):
            done = tailer("doctor", "--strict", REDIS_URL=stack.url, TAILER_URL=stack.web)
        left = stack.connection.keys("tailer:*")
    assert {level for level, *_ in findings(done)} == {"ok"}, done.stdout
    assert (done.returncode, done.stderr) == (
        0,
        f"tailer: following a log of this command's own through {stack.web}: takes 6 s\n",
    )
    for words in (
        "Valkey 9",
        "policy noeviction",
        "a crash loses a second",
        "ms a round trip",
        "its clock agrees",
        f"on {queue.name} (pid",
        "captures (separate)",
        "each line comes at once",
        "no stream is cut in 2 s of silence",
        "Last-Event-ID gets through",
    ):
        assert words in done.stdout
    assert left == []


def test_doctor_names_workers_that_do_not_capture(server):
    """None at all, RQ's own beside ours, and two that capture in different ways are told, with what to do."""
    done = tailer("doctor", REDIS_URL=server.url)
    assert done.returncode == 0
    assert ("warn", "workers", "none is alive: start one with `python -m worker`") in findings(done)
    with contextlib.ExitStack() as held:
        for name, worker_class, mode in (
            ("plain", "rq.Worker", ""),
            ("ours", "worker.Worker", "separate"),
            ("terminal", "worker.Worker", "pty"),
        ):
            env = {"TAILER_CAPTURE": mode} if mode else {}
            held.enter_context(
                worker_process(server.url, "-n", name, "mail", worker_class=worker_class, env=env, ready=True)
            )
        done = tailer("doctor", "--json", "--strict", REDIS_URL=server.url)
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"]) == (2, False)
    told = [found for found in report["findings"] if found["subject"] == "workers"]
    levels = {found["text"].split()[0]: found["level"] for found in told}
    assert levels == {"ours": "ok", "terminal": "ok", "plain": "warn", "those": "warn"}
    plain, differing = (
        next(one["text"] for one in told if one["text"].startswith(name)) for name in ("plain", "those")
    )
    assert plain.startswith("plain on mail (pid ")
    assert plain.endswith("does not capture its jobs' output: start it with `rq worker -w worker.Worker mail`")
    assert (
        differing == "those of queue mail capture in different ways (pty, separate): give all the same TAILER_CAPTURE"
    )


def test_doctor_fails_where_nothing_can_work(server):
    """A bad setting, no Redis, no web side: fail, exit code 2, and one line for each that says what to do."""
    nowhere = f"127.0.0.1:{free_port()}"
    for env, subject, words in (
        ({"TAILER_TTL": "1"}, "settings", "TAILER_TTL='1'"),
        ({"REDIS_URL": f"redis://{nowhere}"}, "Redis", "set REDIS_URL"),
        ({"REDIS_URL": server.url, "TAILER_REDIS_URL": f"redis://{nowhere}"}, "Redis (logs)", "refused"),
        ({"REDIS_URL": server.url, "TAILER_URL": f"http://{nowhere}"}, "web side", "TAILER_URL is right"),
    ):
        done = tailer("doctor", **env)
        failed = [(subject, text) for level, subject, text in findings(done) if level == "fail"]
        assert (done.returncode, done.stderr) == (2, "")
        assert [subject for subject, _ in failed] == [subject]
        assert words in failed[0][1]


def test_doctor_interrupted_leaves_nothing_behind(server):
    """Ctrl-C in the middle removes the log that is followed."""
    with Stack.on(server.url) as stack:
        argv = clean(["env", f"REDIS_URL={server.url}", TAILER, "doctor", "--url", stack.web])
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert "following a log" in process.stderr.readline()
            wait_until(lambda: stack.connection.keys("tailer:{doctor-*"))
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (130, "")
        assert stack.connection.keys("tailer*") == []


# Redis.


@contextlib.contextmanager
def looked_at(*extra, user=None, clients=0):
    """What is found of a server with these arguments, as that user, with so many idle clients."""
    with EmbeddedServer(extra=extra) as server, contextlib.ExitStack() as held:
        for _ in range(clients):
            held.enter_context(redis.Redis.from_url(server.url)).ping()
        url = server.url.replace("//", "//other:secret@") if user else server.url
        if user:
            with redis.Redis.from_url(server.url) as client:
                client.execute_command("ACL", "SETUSER", "other", "on", ">secret", *user)
        with connect(url) as connection:
            yield list(examine_redis("Redis", connection, logs=True))


@pytest.mark.parametrize(
    ("extra", "level", "words"),
    [
        (("--maxmemory-policy", "allkeys-lru"), "warn", ("allkeys-lru", "RQ's own jobs", "use noeviction")),
        (("--maxmemory", "64mb", "--maxmemory-policy", "volatile-ttl"), "ok", ("64 MiB", "logs", "evicted")),
        (("--maxmemory", "1mb"), "warn", ("of maxmemory 1.0 MiB", "refuses writes", "raise maxmemory")),
        ((), "warn", ("keeps nothing on disk", "appendonly yes")),
        (("--save", "900 1"), "ok", ("snapshots", "loses what came since")),
        (("--appendonly", "yes", "--appendfsync", "always"), "ok", ("appendfsync always", "loses nothing")),
        (
            ("--client-output-buffer-limit", "pubsub 64kb 8kb 60"),
            "warn",
            ("client-output-buffer-limit pubsub is 65536", "use 32mb"),
        ),
        (("--replicaof", "127.0.0.1 1"), "fail", ("replica of 127.0.0.1:1", "name its primary")),
    ],
)
def test_what_is_wrong_with_a_redis_is_named(extra, level, words):
    """Each state that loses logs, or refuses them, with what it means and what to set."""
    with looked_at(*extra) as found:
        assert names(found, level, *words), found


def test_a_redis_that_takes_no_log_fails():
    """Full, without the right to run scripts, or unable to save: its own words, and no traceback."""
    with looked_at("--maxmemory", "1mb") as found:
        assert names(found, "fail", "does not take a log", "maxmemory")
    with looked_at(user=("~*", "&*", "+@all", "-@scripting")) as found:
        assert names(found, "fail", "does not take a log", "no permissions", "EVALSHA")
    with looked_at(user=("~*", "resetchannels", "+@all")) as found:
        assert names(found, "fail", "does not take a log", "channel")


def test_a_redis_that_cannot_save_fails(tmp_path):
    """The last snapshot went wrong: Redis may refuse all writes at any time."""
    with EmbeddedServer(data_dir=tmp_path) as server, connect(server.url) as connection:
        (tmp_path / "dump.rdb").mkdir()  # in the way
        connection.bgsave()
        wait_until(lambda: connection.info("persistence")["rdb_last_bgsave_status"] == "err")
        found = list(examine_redis("Redis", connection, logs=True))
    assert names(found, "fail", "could not save to its disk")


def test_a_redis_that_tells_little_is_asked_for_no_more():
    """Without INFO and CONFIG, as hosted ones may be, that is a skip each; writing is tried all the same."""
    with looked_at(user=("~*", "&*", "+@all", "-info", "-config")) as found:
        assert [text.split()[0] for text in texts(found, "skip")] == ["INFO", "CONFIG"]
        assert texts(found, "fail") == []
        assert names(found, "ok", "ms to append to a log")


def test_clocks_that_differ_are_named():
    """By how much, which way, and what it harms; not what cannot be known better."""
    assert clock("Redis", 0.4).level == "ok"
    assert clock("web side", -1.4, exact=0.5).level == "ok"
    behind = clock("Redis", -7.0)
    assert (behind.level, "7.0 s behind" in behind.text, "times of lines" in behind.text) == ("warn", True, True)


def test_a_redis_with_few_connections_left_is_named():
    """Before clients are refused, it is told how many there may be."""
    with looked_at("--maxclients", "10", clients=8) as found:
        assert names(found, "warn", "of maxclients 10", "raise maxclients")


# The web side, behind proxies.


def all_seen(asked):
    """What is found with each Redis, URL and token; at the same time, as each takes some seconds."""

    def look(how):
        stack, url, token = how
        return list(WebSide(url, token, stack.store.connection, idle=SILENCE).examine())

    with ThreadPoolExecutor(len(asked)) as pool:
        return list(pool.map(look, asked))


def seen_through(stack, urls):
    """What is found through each URL, with the token."""
    return all_seen([(stack, url, TOKEN) for url in urls])


def assert_all_well(stack, url, found):
    """Nothing is wrong. What is late on a busy machine is looked at once more, by itself."""
    if any(finding.level != "ok" for finding in found):
        (found,) = seen_through(stack, [url])
    assert {finding.level for finding in found} == {"ok"}, "\n".join(map(str, found))


@pytest.fixture(scope="module")
def guarded():
    """A web side with tokens that trusts one proxy."""
    with EmbeddedServer() as server, Stack.on(server.url, env=GUARDED) as stack:
        shared.update(leftovers(""))
        assert stack.get("/healthz").status == 200  # or some of the proxies would lose patience
        yield stack


def test_nginx_is_told_what_it_does_wrong(guarded):
    """The documented configuration is fine; of each other one it is said what it does, and what to set."""
    right = documented("nginx")
    ignores = right.replace("proxy_buffering off;", "proxy_ignore_headers X-Accel-Buffering;")
    compresses = "gzip on; gzip_types *; gzip_min_length 0; gzip_proxied any;"
    configurations = [
        right,
        ignores,
        ignores.replace("gzip off;", compresses),
        right.replace("gzip off;", compresses),
        right.replace("1h", "1500ms"),
        right.replace("proxy_http_version 1.1;", "proxy_http_version 1.0;"),
        "server { listen 80; location / { proxy_pass http://127.0.0.1:8000; } }",
    ]
    with proxied("nginx", guarded.web, configurations) as urls:
        good, late, held, packed, cut, old, bare = seen_through(guarded, urls)
        assert_all_well(guarded, urls[0], good)
    assert names(good, "ok", "between: nginx (docs/proxies.md#nginx)")
    assert names(late, "warn", "answers begin with the first output only (text", "proxy_buffering off")
    assert names(held, "fail", "lines are held back: SSE (13 lines at once", "proxy_buffering off", "gzip off")
    assert names(packed, "warn", "compressed on the way: SSE", "gzip off")
    assert names(cut, "fail", "cut after 1.", "heartbeat comes every 3 s", "SSE", "`proxy_read_timeout 1h;`")
    assert names(old, "warn", "speaks HTTP/1.0", "proxy_http_version 1.1")
    assert names(bare, "warn", "links", "proxy_set_header Host")
    assert names(bare, "fail", "believes the address that a client claims", "$proxy_add_x_forwarded_for")


def test_haproxy_is_told_what_it_does_wrong(guarded):
    """As for nginx."""
    right = documented("haproxy")
    configurations = [
        right,
        right.replace("option http-no-delay", ""),
        right.replace("timeout server 1h", "timeout server 1500ms"),
        right.replace("option forwardfor", "http-response wait-for-body time 20s"),
        right.replace("option forwardfor", "compression offload\n    compression algo gzip"),
    ]
    with proxied("haproxy", guarded.web, configurations) as urls:
        good, late, cut, held, unpacked = seen_through(guarded, urls)
        assert_all_well(guarded, urls[0], good)
    assert names(good, "ok", "between: HAProxy (docs/proxies.md#haproxy)")
    assert names(late, "warn", "each line comes late: text", "`option http-no-delay`")
    assert names(cut, "fail", "cut after 1.", "heartbeat comes every 3 s", "`timeout server 1h`")
    assert names(held, "fail", "lines are held back: text (13 lines at once", "NDJSON", "wait-for-body")
    assert names(held, "fail", "believes the address that a client claims", "option forwardfor")
    assert names(unpacked, "warn", "not compressed, though asked for: text in gzip", "no `compression`")


def test_caddy_is_told_what_it_does_wrong(guarded):
    """As for nginx."""
    right = documented("caddy")
    configurations = [
        right,
        right.replace("reverse_proxy", "encode zstd gzip\n    reverse_proxy"),
        right.replace("127.0.0.1:8000", "127.0.0.1:8000 {\n transport http {\n read_timeout 1500ms\n }\n }"),
    ]
    with proxied("caddy", guarded.web, configurations) as urls:
        good, late, cut = seen_through(guarded, urls)
        assert_all_well(guarded, urls[0], good)
    assert names(good, "ok", "between: Caddy (docs/proxies.md#caddy)")
    assert names(late, "warn", "answers begin with the first output only", "no `encode`")
    assert names(cut, "fail", "cut after 1.", "no `read_timeout`")


def test_who_may_read_through_a_proxy_is_looked_at(server, guarded):
    """A proxy that makes strangers look local, no token, one for some jobs only, and another Redis are told apart."""
    bare = "server { listen 80; location / { proxy_pass http://127.0.0.1:8000; } }"
    some = {"TAILER_TOKENS": f"ann:{TOKEN}:queue=web", "TAILER_HEARTBEAT": "2"}
    with (
        Stack.on(server.url) as open_to_all,
        Stack.on(server.url, env=some) as limited,
        proxied("nginx", open_to_all.web, [bare]) as (through,),
    ):
        asked = [
            (open_to_all, through, None),
            (limited, limited.web, TOKEN),
            (limited, guarded.web, TOKEN),
            (guarded, guarded.web, None),
            (open_to_all, f"{open_to_all.web}/elsewhere", None),
        ]
        exposed, restricted, elsewhere, stranger, nobody = all_seen(asked)
    assert names(exposed, "fail", "takes whoever comes through the proxy", "set TAILER_TOKENS")
    assert names(restricted, "skip", "TAILER_TOKEN reads some jobs only")
    assert names(elsewhere, "fail", "does not show a log that was just written", "TAILER_REDIS_URL")
    assert names(stranger, "fail", "set TAILER_TOKEN")
    assert names(nobody, "fail", "see that it runs, and that TAILER_URL is right")


def test_without_redis_a_finished_log_must_do(stack):
    """Who has a URL only is told what was not tried."""
    queue = stack.queue()
    job = queue.enqueue("tests.jobs.hello")
    stack.work(queue)
    wait_until(lambda: stack.status(job) == "finished")
    done = tailer("doctor", "--url", stack.web)
    assert done.returncode == 0
    skipped = [text for level, _, text in findings(done) if level == "skip"]
    assert skipped[0] == "not looked at, nor workers: REDIS_URL names none"
    assert "comes whole; how lines come while they are written was not tried" in skipped[1]


def test_without_redis_a_finished_log_that_is_cut_is_a_finding():
    """It is what is looked for there: no traceback."""
    listing = json.dumps({"jobs": [{"job_id": "a"}]}).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(listing)
    cut = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"
    with scripted(head + listing, cut) as (url, _):
        finding = WebSide(url, None, None)._finished_log()
    assert (finding.level, "does not come to its end" in finding.text) == ("fail", True)


@pytest.mark.parametrize("proxy", PROXIES, ids=lambda proxy: proxy.section)
def test_each_proxy_has_a_section(proxy):
    """What the doctor refers to is in docs/proxies.md, with each setting that it names for tried ones."""
    page = (ROOT / "docs" / "proxies.md").read_text()
    assert f"\n## {proxy.section.capitalize()}\n".lower() in page.lower()
