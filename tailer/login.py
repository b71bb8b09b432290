"""Tailer's own login: a page that takes a token, and a cookie that stands for it from then on."""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from urllib.parse import urlencode

from flask import Response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from tailer import pane
from tailer.auth import COOKIE, SESSION_S, Access, scheme
from tailer.errors import Forbidden, Unauthorized
from tailer.links import PARAMETER

logger = logging.getLogger(__name__)

POLICY = (
    "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""What the page may do: show itself, and send its form here."""
_LOCAL = re.compile(r"/(?![/\\])[!-\[\]-~]*")
"""A path of this server (WHATWG URL): browsers take ``//`` and ``/\\`` for the beginning of another host's."""


def lead(where: str) -> BaseResponse:
    """Lead a browser to the page ``where`` one logs in, and from there back to what it asked for."""
    here = request.full_path.rstrip("?") if request.query_string else request.path
    base = request.root_path
    told = {"next": base + here}
    if PARAMETER in request.args:
        told["why"] = PARAMETER
    return redirect(f"{where}{'&' if '?' in where else '?'}{urlencode(told)}", HTTPStatus.SEE_OTHER)


def page(access: Access) -> BaseResponse:
    """Answer GET and POST of the login page.

    Raises:
        Forbidden: nobody logs in here with a token.
    """
    if not access.by_token:
        raise Forbidden("there are no tokens to log in with")
    target = _target()
    if request.method == "POST":
        session = access.log_in(request.form.get("token", "").strip())
        if session is None:
            # As a literal: a proxy's client may call itself anything.
            logger.warning("a login with an unknown token, from %r", request.remote_addr)
            return _shown(target, "This token is not known.", HTTPStatus.UNAUTHORIZED)
        return _with_cookie(redirect(target, HTTPStatus.SEE_OTHER), session)
    try:
        name = access.reader(request).name
    except Unauthorized:
        if request.headers.get("Sec-Fetch-Site") == "cross-site" and "again" not in request.args:
            # A strict cookie does not come along with a link on another site's page. So let our own page ask again.
            again = url_for("tailer.log_in", next=target, why=request.args.get("why"), again=1)
            return _rendered("again.html", url=again)
        return _shown(target, "This link is no longer valid." if request.args.get("why") == PARAMETER else "")
    return redirect(target, HTTPStatus.SEE_OTHER) if "next" in request.args else _rendered("login.html", name=name)


def leave(access: Access) -> BaseResponse:
    """Forget the session, and show the login page. Raises as ``page``."""
    if not access.by_token:
        raise Forbidden("there are no tokens to log in with")
    return _with_cookie(redirect(url_for("tailer.log_in"), HTTPStatus.SEE_OTHER), "")


def challenge() -> str:
    """Return what ``WWW-Authenticate`` says.

    Browsers are not offered Basic: they would ask with a window of their own, also for what a script of the pane asks.
    """
    basic = 'Basic realm="tailer", charset="UTF-8"'
    is_browser = "Mozilla/" in request.headers.get("User-Agent", "")
    return 'Bearer realm="tailer"' + ("" if is_browser else f", {basic}")


def _target() -> str:
    """Return where to go from here: a path of ours, never another site's."""
    home, wanted = url_for("tailer.index"), request.values.get("next", "")
    return wanted if _LOCAL.fullmatch(wanted) and wanted.startswith(home) else home


def _shown(target: str, problem: str, status: HTTPStatus = HTTPStatus.OK) -> Response:
    response = _rendered("login.html", target=target, problem=problem)
    response.status_code = status
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = challenge()
    return response


def _rendered(template: str, **values: str) -> Response:
    response = Response(render_template(f"tailer/{template}", digest=pane.digest(), **values))
    response.headers["Content-Security-Policy"] = POLICY
    # By "no-referrer" the form's own POST would come from the origin "null", as that of another site's page may.
    response.headers["Referrer-Policy"] = "same-origin"
    return response


def _with_cookie(response: BaseResponse, session: str) -> BaseResponse:
    response.set_cookie(
        COOKIE,
        session,
        max_age=SESSION_S if session else 0,
        path=url_for("tailer.index"),
        secure=scheme(request) == "https",
        httponly=True,
        samesite="Strict",
    )
    return response
