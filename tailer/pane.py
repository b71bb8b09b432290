"""The pane's files: a page that any browser gets as it is, and modules that are kept by browsers for ever."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from flask import Response, render_template, request, send_from_directory, url_for

STATIC = Path(__file__).parent / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; "
    "require-trusted-types-for 'script'; trusted-types tailer-worker"
)
"""What the page may do (W3C CSP 3, Trusted Types): run its own modules, and make nothing of strings but that worker."""


@cache
def digest() -> str:
    """Return a name for the files as they are: another one when any of them changes."""
    whole = hashlib.sha256()
    for path in sorted(STATIC.iterdir()):
        whole.update(path.name.encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()[:16]


def wants_page() -> bool:
    """Return whether the client would rather have a page than JSON: a browser's address bar, not ``*/*``."""
    accepted = request.accept_mimetypes
    return accepted["text/html"] > accepted["application/json"]


def page() -> Response:
    """Return the one page of the pane. What it shows is in its URL, which its modules read."""
    modules = sorted(path.name for path in STATIC.glob("*.js") if path.name != "search-worker.js")
    response = Response(render_template("tailer/page.html", digest=digest(), modules=modules))
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["Referrer-Policy"] = "no-referrer"
    response.vary.add("Accept")
    return response


def asset(version: str, name: str) -> Response:
    """Return a file of the pane; under its own digest it never changes."""
    response = send_from_directory(STATIC, name, max_age=0)
    if version == digest():
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    return _script(response)


def embedding() -> Response:
    """Return the module that other people's pages load under a name that stays: it defines ``<tailer-log>``."""
    module = url_for("tailer.asset", version=digest(), name="tailer-log.js", _external=False)
    response = Response(f'export * from "{module}";\n', content_type="text/javascript; charset=utf-8")
    response.headers["Cache-Control"] = "no-cache"
    return _script(response)


def _script(response: Response) -> Response:
    # A worker has the policy of its own script: it loads another module, and a log.
    response.headers["Content-Security-Policy"] = "default-src 'none'; script-src 'self'; connect-src 'self'"
    # Other sites' pages that embed a pane load its styles. Nothing in these files is anybody's.
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response
