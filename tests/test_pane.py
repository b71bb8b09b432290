"""The pane's page and files over HTTP; what a browser makes of them is tested in `test_pane_*`."""

import contextlib
import re

import pytest

from tailer.embedded import EmbeddedServer
from tailer.pane import POLICY, STATIC
from tests.panes import PanePage, speaking
from tests.processes import free_port, running
from tests.stack import BIN, ROOT, Stack, clean, curl
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
        assert header(answer.head, "Cross-Origin-Resource-Policy") == "cross-origin"
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


def snippet(number: int) -> str:
    """The HTML of docs/embedding.md that shows how to put a log into a page: 0 with the element, 1 without."""
    return re.findall(r"```html\n(.*?)```", (ROOT / "docs" / "embedding.md").read_text(), re.DOTALL)[number]


@pytest.fixture
def their_page(stack: Stack, tmp_path):
    """Makes a page of somebody else's app in which Tailer is mounted, from a snippet; returns its URL."""
    with contextlib.ExitStack() as held:

        def serve(snippet: str) -> str:
            body = f"<!doctype html><link rel=icon href=data:,>{snippet}"
            page = f'\n\n@app.get("/page")\ndef page():\n    return {body!r}\n'
            (tmp_path / "theirs.py").write_text(MOUNTED + page)
            port = free_port()
            argv = [str(BIN / "gunicorn"), "-b", f"127.0.0.1:{port}", "-k", "gthread", "--threads", "8"]
            argv += ["--pythonpath", str(tmp_path), "theirs:app"]
            held.enter_context(running(clean(argv), cwd=ROOT, env={"REDIS_URL": stack.url}, ready="Booting worker"))
            return f"http://127.0.0.1:{port}/page"

        yield serve


@pytest.mark.engines
def test_the_pane_can_be_put_into_another_page(page, stack, their_page, tmp_path):
    """As docs/embedding.md shows: two lines, and a job is followed to its end; then another one, when it is named."""
    queue = stack.queue()
    other = queue.enqueue("tests.jobs.hello")
    stack.work(queue)
    with speaking(stack, tmp_path) as job:
        job.out("first\n")
        url = their_page("<style>tailer-log { height: 300px }</style>" + snippet(0).replace("JOB", job.job.id))
        page.goto(url)
        pane = PanePage(page, url).ready().shows("first")
        assert pane.pane.bounding_box()["height"] == 300
        job.out("second\n")
        pane.shows("second")
        job.end()
        pane.until("pane.element.querySelector('.foot .sentence')?.textContent.startsWith('finished after')")
    page.evaluate("(id) => document.querySelector('tailer-log').setAttribute('job', id)", other.id)
    pane.ready().shows("hello")
    assert page.url == url


def test_a_page_can_follow_a_log_without_the_pane(page, stack, their_page, tmp_path):
    """As docs/embedding.md shows: an `EventSource` and ten lines."""
    with speaking(stack, tmp_path) as job:
        page.goto(their_page(snippet(1).replace("JOB", job.job.id)))
        job.out("first\nsecond\n")
        page.wait_for_function("() => document.getElementById('log').textContent.includes('first\\nsecond')")
        job.end()
        page.wait_for_function("() => document.getElementById('log').textContent.endsWith('[finished]')")
