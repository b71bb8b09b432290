"""The web side behind nginx as deploy/nginx.conf has it: TLS ends there, readers have tokens, nginx is reloaded."""

import re
import shutil
import signal
from pathlib import Path

import pytest

from tailer.store import LogStore, connect
from tests.certificates import Certificate
from tests.processes import free_port, running
from tests.proxies import documented
from tests.stack import BIN, ROOT, Stack, children, clean, curl, web_process
from tests.waiting import wait_until

TOKEN = "a-token-for-all-logs"
ENV = {"TAILER_TRUSTED_PROXIES": "1", "TAILER_TOKENS": f"all:{TOKEN}", "TAILER_SECRET_KEY": "a-key-to-sign-links-with"}
MAIN = """
pid {directory}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    {server}
}}
"""


def nginx(directory: Path, made: Certificate, port: int, web: str):
    """Run nginx with our configuration for the block, on another port and with other places for its files."""
    server = (ROOT / "deploy" / "nginx.conf").read_text()
    for ours, here in {
        "443": f"127.0.0.1:{port}",
        "logs.example.org": "localhost",
        "/etc/tailer/chain.pem": str(made.chain),
        "/etc/tailer/key.pem": str(made.key),
        "http://127.0.0.1:8000": web,
    }.items():
        assert ours in server
        server = server.replace(ours, here)
    (directory / "nginx.conf").write_text(MAIN.format(directory=directory, server=server))
    argv = ["nginx", "-p", str(directory), "-c", str(directory / "nginx.conf"), "-g", "daemon off;"]
    return running(argv, ready=lambda process: (directory / "nginx.pid").exists() or process.poll() is not None)


def location(text: str) -> list[str]:
    """The settings of the one location of a server block."""
    _, _, block = text.partition("location / {")
    return re.findall(r"^ +(\w+ [^;]*);", block, re.MULTILINE)


def test_it_is_what_the_page_about_proxies_has():
    """Whoever copies the file has the same settings as whoever copies the page's."""
    assert location((ROOT / "deploy" / "nginx.conf").read_text()) == location(documented("nginx"))


CUT_SHORT = {18, 56}
"""How curl ends that misses the last chunk; behind TLS, newer ones (8.22) complain that no farewell of it came."""


def test_streams_through_a_reload_and_a_restart_of_nginx(server, tmp_path):
    """Tokens, links and cookies are as they should be behind TLS; a reload cuts no stream, a restart loses no byte."""
    if not shutil.which("nginx"):
        pytest.skip("no nginx: run scripts/system-packages")
    made, port, go = Certificate.made(tmp_path, "localhost"), free_port(), tmp_path / "go"
    url = f"https://localhost:{port}"
    trust, credential = ("--cacert", str(made.ca)), ("-H", f"Authorization: Bearer {TOKEN}")
    follow = {"TAILER_URL": url, "TAILER_TOKEN": TOKEN, "SSL_CERT_FILE": str(made.ca)}
    with web_process(server.url, env=ENV) as (web, _), connect(server.url) as connection:
        stack = Stack(server.url, url, connection, LogStore(connection))
        queue = stack.queue()
        job = queue.enqueue("tests.jobs.wait_for", str(go))
        command = clean([str(BIN / "tailer"), "follow", job.id], follow)
        with stack.worker(queue), nginx(tmp_path, made, port, web) as proxy:
            assert stack.get(f"/jobs/{job.id}", *trust).status == 401
            link = stack.get(f"/jobs/{job.id}/link?for=1h", *trust, *credential, "-X", "POST").json["log_url"]
            assert link.startswith(f"{url}/jobs/{job.id}/log?")
            entered = stack.get("/login", *trust, "-d", f"token={TOKEN}")
            assert "; Secure" in entered.head
            with running(command, env=follow) as told, curl(link, *trust) as linked:
                wait_until(lambda: told.stdout() == linked.body == b"waiting\n", 20)

                before = len(children(proxy.pid))
                proxy.signal(signal.SIGHUP)
                wait_until(lambda: len(children(proxy.pid)) > before, 10, "new workers beside the old one")
                assert stack.get("/jobs", *trust, *credential).status == 200
                assert linked._process.poll() is told.poll() is None

                proxy.signal(signal.SIGTERM)
                assert linked.wait() in CUT_SHORT
                proxy.wait()
                (tmp_path / "nginx.pid").unlink(missing_ok=True)
                with nginx(tmp_path, made, port, web):
                    go.touch()
                    assert told.wait(20) == 0, told.text()
                assert told.stdout() == b"waiting\ndone\n"
