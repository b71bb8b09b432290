"""What Prometheus is told of web processes and workers, by real ones, and what docs/ makes of it."""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tailer.embedded import EmbeddedServer
from tailer.figures import QUEUES, FigureStore
from tailer.store import list_key
from tests.processes import free_port, running
from tests.stack import ROOT, Stack, children, curl, web_process
from tests.waiting import wait_until
from tests.written import Written

DOCS = ROOT / "docs"
PAGE = (DOCS / "metrics.md").read_text()
DASHBOARD = json.loads((DOCS / "grafana.json").read_text())
ALERTS = (DOCS / "alerts.yaml").read_text()


@pytest.fixture
def web(server):
    """A web process of the test's own, whose figures nobody else changes."""
    with Stack.on(server.url) as stack:
        yield stack


@pytest.fixture
def server_with_limit():
    """A server that may not take all memory there is."""
    with EmbeddedServer(extra=("--maxmemory", "1gb")) as limited:
        yield limited


def figures(stack: Stack, *labels: str) -> dict[str, float]:
    """What it tells now, by name, of what has these values for labels."""
    families = text_string_to_metric_families(stack.get("/metrics").body.decode())
    samples = [sample for family in families for sample in family.samples]
    return {sample.name: sample.value for sample in samples if set(sample.labels.values()) == set(labels)}


def written(stack: Stack) -> Written:
    """A log that somebody writes."""
    log = Written(stack.store)
    log.rq_job(stack.connection, "started")
    return log


def test_followers_and_their_logs_are_counted(web):
    """All who follow, each log once; who leaves a quiet log without a word is gone from the count within 5 s."""
    logs = [written(web), written(web)]
    with web.follow(logs[0].job_id), web.follow(logs[1].job_id, formats=["text"]):
        wait_until(lambda: figures(web)["tailer_followers"] == 4)
        assert figures(web)["tailer_followed_logs"] == 2
    wait_until(lambda: figures(web)["tailer_followers"] == 0, 5)
    assert figures(web)["tailer_followed_logs"] == 0


def test_output_is_counted_once_and_what_is_sent_for_each(web):
    """And how long it took is measured."""
    log = written(web)
    with web.follow(log.job_id, formats=["text"]) as one, web.follow(log.job_id, formats=["text"]) as other:
        log.write(b"x" * 999 + b"\n")
        wait_until(lambda: len(one["text"].body) == len(other["text"].body) == 1000)
        log.write(b"second\n")
        wait_until(lambda: figures(web)["tailer_output_bytes_total"] == 1007)
        told = figures(web)
    assert told["tailer_sent_bytes_total"] >= 2014
    assert told["tailer_delay_seconds_count"] >= 1


def test_any_of_several_processes_tells_the_sum(server):
    """Whichever is asked; those of processes that were killed count no longer."""
    with (
        web_process(server.url, env={"WEB_CONCURRENCY": "2"}) as (url, process),
        Stack.without_web(server.url) as bare,
    ):
        stack = dataclasses.replace(bare, web=url)
        log = written(stack)
        with contextlib.ExitStack() as held:
            for _ in range(8):
                held.enter_context(curl(stack.path(log.job_id))).connected()
            wait_until(lambda: figures(stack)["tailer_followers"] == 8)
            for pid in children(process.pid):
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: figures(stack)["tailer_followers"] == 0)


def test_streams_are_counted_by_how_they_end_and_requests_by_their_answer(web):
    """One that was told all, one whose client left, one that breaks at a log that cannot be read."""
    ended, left, broken = written(web), written(web), written(web)
    ended.end("finished")
    with web.follow(ended.job_id) as clients:
        clients.wait()
    with web.follow(left.job_id, formats=["text"]):
        pass
    web.connection.delete(list_key(broken.job_id, 1))
    web.connection.set(list_key(broken.job_id, 1), "not a list")
    with web.follow(broken.job_id, formats=["text"]) as clients:
        clients.wait()

    def reasons():
        names = ("over", "left", "error", "stopping")
        return {name: figures(web, name)["tailer_streams_ended_total"] for name in names}

    wait_until(lambda: reasons() == {"over": 3, "left": 1, "error": 1, "stopping": 0}, 10, "counted")
    assert figures(web, "log", "200")["tailer_requests_total"] == 5
    assert figures(web, "log")["tailer_request_seconds_count"] == 5
    assert figures(web)["process_resident_memory_bytes"] > 10 << 20


def test_workers_are_told_of_by_queue_whichever_they_were(web):
    """Jobs by outcome, their output, and Redis's time for it, summed over workers that are gone."""
    queue = web.queue()
    for functions in (("hello", "fail"), ("hello",)):
        for function in functions:
            queue.enqueue(f"tests.jobs.{function}")
        web.work(queue)
    told = figures(web, queue.name)

    assert figures(web, queue.name, "finished")["tailer_worker_jobs_total"] == 2
    assert figures(web, queue.name, "failed")["tailer_worker_jobs_total"] == 1
    assert told["tailer_worker_output_bytes_total"] > 2 * len("hello\n")
    assert told["tailer_worker_append_seconds_count"] >= 3
    assert 0 < told["tailer_worker_append_seconds_sum"] < 10
    assert told["tailer_worker_stored_bytes_total"] > 0
    assert told["tailer_worker_errors_total"] == 0
    assert figures(web)["tailer_logs"] == 3
    assert figures(web)["tailer_logs_memory_bytes"] > 0


def test_figures_of_the_queues_that_last_had_jobs_are_kept(server):
    """However many queues an application makes."""
    with Stack.on(server.url) as web:
        store = FigureStore(web.connection)
        for number in range(QUEUES + 5):
            store.add(f"queue {number}", {"output": 1})
        store.add("queue 7", {"output": 2, "holes.redis_lost": 3})
        told = store.read()

        assert len(told) == QUEUES
        assert told["queue 7"] == {"output": 3, "holes.redis_lost": 3}
        assert "queue 1" not in told
        assert all(web.connection.ttl(key) > 0 for key in web.connection.keys("tailer:*"))
        assert figures(web, "queue 7", "redis_lost")["tailer_worker_holes_total"] == 3


# What the documents say, and what Prometheus makes of it.


def families(stack: Stack) -> set[str]:
    """The names of all that is told, as rows of the page have them."""
    body = stack.get("/metrics").body.decode()
    return {name for name in re.findall(r"^# TYPE (\w+) ", body, re.MULTILINE) if not name.endswith("_created")}


def expressions() -> list[str]:
    """The dashboard's, as Grafana sends them when all of everything is chosen."""
    targets = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    return [re.sub(r"\$(job|instance|queue)\b", ".*", text).replace("$__rate_interval", "30s") for text in targets]


def test_every_metric_is_documented_and_nothing_else_is_used(web):
    """Each figure has its row, and no other has one; dashboard and alerts name none that is not there."""
    told = families(web)
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", PAGE, re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`((?:tailer|process)_\w+)`", row)}
    used = set(re.findall(r"\b(?:tailer|process)_\w+", " ".join(expressions()) + ALERTS))

    assert documented == told
    assert {name.removesuffix("_bucket") for name in used} <= told
    assert told - {name.removesuffix("_bucket") for name in used} <= {
        "process_start_time_seconds",
        "process_virtual_memory_bytes",
        "tailer_build_info",
    }


def test_the_dashboard_is_whole():
    """Each panel says what it shows, asks whichever Prometheus was chosen, and lies on no other one."""
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    covered: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["title"]
        assert panel["description"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & covered, panel["title"]
        covered |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert [one["name"] for one in DASHBOARD["templating"]["list"]] == ["datasource", "job", "instance", "queue"]


def test_every_alert_has_its_runbook():
    """Under its name, to which the alert leads."""
    alerts = re.findall(r"- alert: (\w+)", ALERTS)

    assert re.findall(r"runbook: metrics.md#(\w+)", ALERTS) == [alert.lower() for alert in alerts]
    assert re.findall(r"^### (\w+)$", PAGE, re.MULTILINE) == alerts


@pytest.fixture
def promtool():
    """Prometheus' own tool."""
    if not (path := shutil.which("promtool")):
        pytest.skip("no promtool on PATH: run scripts/system-packages")
    return path


def test_alerts_fire_when_they_should_and_not_before(promtool):
    """Each, by Prometheus' own test of rules; and there is such a test of each."""
    tests = Path(__file__).with_name("alerts.yaml")
    done = subprocess.run([promtool, "test", "rules", tests], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(re.findall(r"alertname: (\w+)", tests.read_text())) == set(re.findall(r"- alert: (\w+)", ALERTS))


def ask(prometheus: str, path: str, **parameters: str):
    """What its API says."""
    url = f"{prometheus}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)["data"]


def test_a_real_prometheus_understands_it_all(server_with_limit, tmp_path, promtool):
    """It finds nothing wrong with the figures, takes the rules, and has an answer for each panel of the dashboard."""
    port = free_port()
    here = f"http://127.0.0.1:{port}"
    with Stack.on(server_with_limit.url) as web:
        queue = web.queue()
        job = queue.enqueue("tests.jobs.count_until", str(tmp_path / "go"), 0.01)
        queue.enqueue("tests.jobs.hello")
        config = {
            "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [str(DOCS / "alerts.yaml")],
            "scrape_configs": [
                {"job_name": "tailer", "static_configs": [{"targets": [web.web.removeprefix("http://")]}]}
            ],
        }
        (tmp_path / "prometheus.yaml").write_text(json.dumps(config))  # JSON is YAML
        command = [
            "prometheus",
            f"--config.file={tmp_path / 'prometheus.yaml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with running(command, ready="ready to receive"), web.worker(queue), web.follow(job.id, formats=["text"]):
            seen = "count_over_time(tailer_worker_output_bytes_total[1m]) > 1"
            wait_until(lambda: ask(here, "query", query=seen)["result"], 20, "two scrapes of a worker")
            (tmp_path / "go").touch()
            seen = "count_over_time(tailer_worker_jobs_total[1m]) > 1"
            wait_until(lambda: ask(here, "query", query=seen)["result"], 20, "two scrapes of a job's end")
            for text in expressions():
                assert ask(here, "query", query=text)["result"], text
            rules = [rule for group in ask(here, "rules")["groups"] for rule in group["rules"]]
            assert {rule["name"]: rule["lastError"] for rule in rules if rule.get("lastError")} == {}
            assert len(rules) == ALERTS.count("- alert:")
        body = web.get("/metrics").body
        done = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr.decode()
