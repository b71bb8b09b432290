"""Real proxies before a web side, as docs/proxies.md sets them up or otherwise, each as a process of its own."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.processes import free_port, running
from tests.stack import ROOT
from tests.waiting import wait_until
from tests.web_servers import answers

_NGINX = """daemon off;
worker_processes 1;
pid {scratch}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {scratch}/body;
    proxy_temp_path {scratch}/proxy;
    fastcgi_temp_path {scratch}/fastcgi;
    uwsgi_temp_path {scratch}/uwsgi;
    scgi_temp_path {scratch}/scgi;
    {servers}
}}
"""
_ARGUMENTS = {
    "nginx": ["-p", "{scratch}", "-e", "stderr", "-c", "{file}"],
    "haproxy": ["-db", "-f", "{file}"],
    "caddy": ["run", "--adapter", "caddyfile", "--config", "{file}"],
}


def documented(kind: str) -> str:
    """The configuration that docs/proxies.md has for a proxy."""
    page = (ROOT / "docs" / "proxies.md").read_text()
    found = re.search(rf"^## {kind}\n\n```\w+\n(.*?)^```", page, re.MULTILINE | re.DOTALL | re.IGNORECASE)
    assert found, kind
    return found[1]


@contextlib.contextmanager
def proxied(kind: str, web: str, configurations: Sequence[str]) -> Iterator[list[str]]:
    """Run a proxy before the web side at `web` for the block; yields a URL for each of the configurations.

    They name port 80 for clients and 127.0.0.1:8000 for Tailer, as the documents do.
    """
    program = shutil.which(kind) or shutil.which(kind, path="/usr/sbin")
    if program is None:
        pytest.skip(f"no {kind}: run scripts/system-packages")
    ports = [free_port() for _ in configurations]
    parts = []
    for number, (text, port) in enumerate(zip(configurations, ports, strict=True)):
        placed = text.replace("127.0.0.1:8000", urlsplit(web).netloc)
        placed = placed.replace("listen 80;", f"listen 127.0.0.1:{port};").replace("bind :80", f"bind 127.0.0.1:{port}")
        placed = placed.replace("http://:80 ", f"http://127.0.0.1:{port} ")
        # HAProxy takes several configurations for one: each needs names of its own.
        placed = re.sub(r"^(frontend|backend) (\w+)", rf"\g<1> \g<2>{number}", placed, flags=re.MULTILINE)
        parts.append(re.sub(r"default_backend (\w+)", rf"default_backend \g<1>{number}", placed))
    with tempfile.TemporaryDirectory(prefix="tailer-proxy-") as scratch:
        file = Path(scratch) / "configuration"
        whole = "\n".join(parts)
        if kind == "nginx":
            whole = _NGINX.format(scratch=scratch, servers=whole)
        if kind == "caddy":
            whole = "{\n    admin off\n    auto_https off\n}\n" + whole
        file.write_text(whole)
        argv = [program, *(word.format(scratch=scratch, file=file) for word in _ARGUMENTS[kind])]
        home = {"HOME": scratch, "XDG_DATA_HOME": scratch, "XDG_CONFIG_HOME": scratch}
        with running(argv, cwd=scratch, env=home) as process:
            wait_until(lambda: all(map(answers, ports)) or process.poll() is not None, 20, f"{kind} listening")
            assert process.poll() is None, process.text()
            yield [f"http://127.0.0.1:{port}" for port in ports]
