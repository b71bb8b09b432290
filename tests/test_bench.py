"""What the benchmarks do beside Tailer's own code still does what Tailer's does."""

import json
import subprocess
import sys

from bench import delay
from bench.designs import begin
from bench.publish import job_name, lines
from tailer.store import Cursor, LogStore, connect
from tests.log_model import read_all
from tests.stack import ROOT


def test_the_publisher_appends_as_workers_do(server):
    """Lines that it publishes are in the logs, whole and in order."""
    with connect(server.url) as connection:
        begin(connection, 2)
        argv = [sys.executable, "-m", "bench.publish", "tailer", server.url.rpartition(":")[2].partition("/")[0]]
        done = subprocess.run(
            [*argv, "2", "20", "0.3"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
        )
        count = json.loads(done.stdout.splitlines()[-1])["lines"]
        store = LogStore(connection)
        for number in range(2):
            records = read_all(store, Cursor(), job_name(number))
            assert store.summary(job_name(number)).last.lines == count > 0
            assert sum(len(record.data) for record in records[1:]) == len(lines(0, count))


def test_the_delay_of_each_line_is_measured(server, monkeypatch):
    """In every format and by the peer, so many lines as the job prints."""
    monkeypatch.setattr(delay, "JOBS", 1)
    monkeypatch.setattr(delay, "SECONDS", 1)
    with delay._processes(server) as port:
        delays = delay.follow(server, port, 5)
    assert {name: len(values) for name, values in delays.items()} == dict.fromkeys((*delay.FORMATS, delay.PEER), 5)
    assert all(0 < value < 10_000 for values in delays.values() for value in values)
