"""Past one machine: Redis, two web processes, a worker and followers, each on a host of its own."""

import contextlib
import hashlib
import threading
import urllib.request

import rq

from tailer.client import RemoteLog, Web
from tailer.embedded import _find_binary
from tailer.query import LogQuery
from tailer.records import Chunk
from tailer.store import LogStore, connect
from tests.faults.account import SHAPES, Account
from tests.faults.followers import FORMS, Crowd
from tests.hosts import NETWORK, Host, hosts
from tests.processes import running
from tests.stack import BIN, ROOT, clean, read_log, worker_process
from tests.waiting import wait_until

RATE = 200
SHAPE = SHAPES["lines"]
SHARED = (f"{NETWORK}.100", f"{NETWORK}.101")
"""Addresses that move to another web host when theirs is lost, as keepalived and load balancers have them do."""


@contextlib.contextmanager
def web_on(host: Host, redis_url: str):
    """Run the web side on a host, for all in its network."""
    env = {"REDIS_URL": redis_url, "TAILER_AUTH": "none", "TAILER_HEARTBEAT": "1"}
    argv = host.command([str(BIN / "gunicorn"), "-b", "0.0.0.0:8000", "wsgi:app"])
    with running(clean(argv, env), cwd=ROOT, env=env, ready="Booting worker"):
        yield


class Roaming(threading.Thread):
    """`tailer follow` as a thread: to it, 2 s of silence mean a lost host."""

    def __init__(self, url: str, job_id: str) -> None:
        super().__init__(daemon=True)
        self.digest, self.at = hashlib.sha256(), 0
        self.notices: list[str] = []
        self._log = RemoteLog(Web(url, silence=2), job_id, LogQuery.parse({}), patience=30, notice=self.notices.append)
        self.start()

    def run(self) -> None:
        """Follow to the end."""
        for event, _ in self._log.events():
            if isinstance(event, Chunk):
                self.digest.update(event.data)
                self.at += len(event.data)


def test_followers_move_between_hosts_and_get_every_byte_once(tmp_path):
    """Each of two web hosts drops off the network in turn, mid-stream; its followers go on at the other one."""
    account = Account.made(tmp_path / "account")
    with contextlib.ExitStack() as held:
        data, *webs, working, clients = held.enter_context(hosts("redis", "web1", "web2", "worker", "clients"))
        url = f"redis://{data.address}:6379/0"
        server = [_find_binary(None), "--bind", data.address, "--protected-mode", "no", "--save", ""]
        held.enter_context(running(data.command(server), cwd=tmp_path, ready="Ready to accept connections"))
        held.enter_context(worker_process(url, wrapper=working.command([])))
        for host, address in zip(webs, SHARED, strict=True):
            host.take(address)
            held.enter_context(web_on(host, url))
        held.enter_context(clients.here())
        connection = held.enter_context(connect(url))
        for address in SHARED:
            urllib.request.urlopen(f"http://{address}:8000/readyz", timeout=30).close()
        arguments = (str(tmp_path / "account"), "lines", RATE)
        job = rq.Queue(connection=connection).enqueue("tests.faults.jobs.numbered", *arguments)
        crowds = {address: held.enter_context(Crowd(f"http://{address}:8000")) for address in SHARED}
        followers = [crowd.follow(job.id, form, SHAPE) for crowd in crowds.values() for form in FORMS]
        roaming = [Roaming(f"http://{address}:8000", job.id) for address in SHARED]
        account.go = 1
        wait_until(lambda: all(one.at for one in (*followers, *roaming)), 30, "all follow")

        moving = SHARED[:1]
        for lost, other in (webs, reversed(webs)):
            lost.pull()
            for address in moving:
                lost.give(address)
                other.take(address)
            clients.forget_neighbours()
            for address in moving:
                for follower in crowds[address].followers:
                    follower.leave()  # as a client does that has heard no heartbeat for long
            written = SHAPE.total(account.done)
            wait_until(
                lambda written=written: all(one.at >= written for one in (*followers, *roaming)), 30, "all moved"
            )
            lost.plug()
            moving = SHARED

        account.until = account.done
        end = read_log(LogStore(connection), job.id).end
        wait_until(lambda: all(one.over for one in followers), 20, "all have the end")
        for thread in roaming:
            thread.join(20)
    assert (end.outcome, end.dropped) == ("finished", 0)
    for follower in followers:
        got = follower.received
        assert (follower.refused, got.wrong, got.lost, got.doubled) == (None, [], 0, 0)
        assert (got.length, got.sha256) == (end.bytes, end.sha256)
    for thread in roaming:
        assert (thread.at, thread.digest.hexdigest()) == (end.bytes, end.sha256)
    assert [len(thread.notices) for thread in roaming] == [2, 1]
