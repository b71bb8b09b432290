"""The pane's page and files over HTTP; what a browser makes of them is tested in `test_pane_*`."""

import re

import pytest

from tailer.embedded import EmbeddedServer
from tailer.pane import POLICY, STATIC
from tests.processes import free_port, running
from tests.stack import BIN, ROOT, clean, curl
from tests.test_web import header

BROWSER = ("-H", "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")


@pytest.mark.parametrize("path", ["/", "/jobs", "/jobs/some-job", "/view?job=a&job=b"])
def test_a_browser_gets_the_page_under_a_strict_policy(stack, path):
    """Wherever it comes in; it may run nothing but its own modules, and programs in between know that answers vary."""
    answer = stack.get(path, *BROWSER)
    assert answer.status == 200
    assert header(answer.head, "Content-Type") == "text/html; charset=utf-8"
    assert header(answer.head, "Content-Security-Policy") == POLICY
    assert b"<script>" not in answer.body
    assert b"style=" not in answer.body
    assert "Accept" in (header(answer.head, "Vary") or "")


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/json, text/html;q=0.5"])
def test_programs_get_json(stack, accept):
    """As before there was a page: for whoever does not prefer HTML."""
    answer = stack.get("/jobs", "-H", f"Accept: {accept}")
    assert (answer.status, list(answer.json)) == (200, ["jobs", "next"])


def test_every_file_of_the_page_is_there_and_never_asked_for_again(stack):
    """Its URL names the version: under it browsers may keep it for ever, and under another one not at all."""
    names = re.findall(rb'(?:href|src)="(/assets/[^"]+)"', stack.get("/", *BROWSER).body)
    assert len(names) > 20
    for name in {name.decode() for name in names}:
        answer = stack.get(name)
        assert (answer.status, answer.body) == (200, (STATIC / name.rsplit("/", 1)[1]).read_bytes())
        assert header(answer.head, "Cache-Control") == "public, max-age=31536000, immutable"
        assert header(answer.head, "X-Content-Type-Options") == "nosniff"
    old = stack.get("/assets/0123456789abcdef/app.js")
    assert (old.status, header(old.head, "Cache-Control")) == (200, "no-cache, max-age=0")


@pytest.mark.parametrize("name", ["..%2fweb.py", "%2e%2e/web.py", "nothing.js", "..%5cweb.py"])
def test_nothing_but_the_pane_s_files_is_given(stack, name):
    """Names that lead elsewhere are not found."""
    with curl(f"{stack.web}/assets/x/{name}", "--path-as-is") as client:
        client.wait()
        assert client.status == 404


def test_other_pages_load_one_module_under_a_name_that_stays(stack):
    """`/tail.js` leads to the version of today."""
    answer = stack.get("/tail.js")
    assert header(answer.head, "Content-Type") == "text/javascript; charset=utf-8"
    (module,) = re.findall(rb'export \* from "([^"]+)";', answer.body)
    assert stack.get(module.decode()).status == 200


MOUNTED = """
from flask import Flask
from tailer.settings import Settings
from tailer.web import blueprint, init_app

app = Flask("theirs")
init_app(app, Settings.from_env())
app.register_blueprint(blueprint, url_prefix="/tailer")
"""


def test_a_mounted_pane_finds_its_files(server: EmbeddedServer, tmp_path):
    """In somebody else's app all URLs begin with the prefix."""
    (tmp_path / "theirs.py").write_text(MOUNTED)
    port = free_port()
    argv = [str(BIN / "gunicorn"), "-b", f"127.0.0.1:{port}", "--pythonpath", str(tmp_path), "theirs:app"]
    with running(clean(argv), cwd=ROOT, env={"REDIS_URL": server.url}, ready="Booting worker"):
        url = f"http://127.0.0.1:{port}"
        with curl(f"{url}/tailer/jobs", *BROWSER) as client:
            assert client.wait() == 0
            assert b'data-base="/tailer/"' in client.body
            (module,) = re.findall(rb'<script type="module" src="([^"]+)"', client.body)
        with curl(url + module.decode()) as client:
            assert (client.wait(), client.status) == (0, 200)
        with curl(f"{url}/tailer/tail.js") as client:
            assert client.wait() == 0
            assert b'from "/tailer/assets/' in client.body
