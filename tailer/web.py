"""The HTTP side: a Flask blueprint to mount anywhere, and an app around it."""

from __future__ import annotations

import logging
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple, cast

from flask import Blueprint, Flask, Response, current_app, g, jsonify, redirect, request, url_for
from werkzeug.exceptions import BadRequest, HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.wrappers import Response as BaseResponse

from tailer import links, login, metrics, pane, requests
from tailer.about import about
from tailer.arrivals import Arrivals
from tailer.auth import Access, Identify, check_origin, scheme
from tailer.board import Board, View
from tailer.compression import negotiate
from tailer.errors import (
    BodyTooLarge,
    Forbidden,
    InvalidParameter,
    ServerStopping,
    StoreUnavailable,
    TailerError,
    TooManyFollowers,
    Unauthorized,
    UrlTooLong,
)
from tailer.follow import follow, snapshot
from tailer.formats import ENCODERS, SSE, rfc3339
from tailer.gathered import Processes, Servers, Workers
from tailer.health import Health
from tailer.hub import Hub
from tailer.jobs import JobState
from tailer.lending import Body, Items
from tailer.limits import Limits
from tailer.listing import ListQuery, describe, look_up, page
from tailer.many import Many
from tailer.many_formats import body, switch_to
from tailer.many_logs import Problem
from tailer.many_query import ManyQuery
from tailer.query import LogQuery, preferred
from tailer.reader import PIECE
from tailer.readers import Reader
from tailer.search import PLACES, READ, search, total_of
from tailer.search_formats import FINDERS
from tailer.settings import Settings, duration
from tailer.store import LogSummary
from tailer.streaming import stream

logger = logging.getLogger(__name__)

HOLD_S = 1.0
"""How long a finished event stream stays open for its client to close it, which spares a needless reconnect."""
RETRY_AFTER_S = 2
COME_BACK = {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}
"""What is over after a while."""
MAX_QUERY = 7 << 10
"""Bytes of a query string."""
MAX_BODY = 16_384
"""Bytes of a form."""
PUBLIC = {f"tailer.{name}" for name in ("asset", "embedding", "healthz", "log_in", "log_out", "readyz")}
"""What has nothing of any job in it."""

blueprint = Blueprint("tailer", __name__, template_folder="templates")
"""All routes. The app that it is registered with must have been given to ``init_app``."""


hubs: list[Hub] = []
"""Those of this process, for the hooks of its server."""


def create_app(settings: Settings | None = None) -> Flask:
    """Return an app that serves nothing but Tailer. ``settings`` are read from the environment if not given.

    Raises:
        SettingsError: naming the variable that cannot be used.
    """
    app = Flask("tailer")
    settings = settings or Settings.from_env()
    init_app(app, settings, take_over=True)
    app.register_blueprint(blueprint)
    app.register_error_handler(HTTPException, _http_problem)
    if settings.trusted_proxies:
        # Only what every proxy sets: with what it leaves alone, a client's own word would be taken for a proxy's.
        count = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=count, x_proto=count, x_host=0)  # type: ignore[method-assign]
    return app


def init_app(
    app: Flask,
    settings: Settings,
    *,
    take_over: bool = False,
    identify: Identify | None = None,
    login: str | None = None,
) -> None:
    """Give ``app`` what the blueprint needs: the settings and a ``Hub``. Connects to nothing yet.

    ``take_over`` lets the hub write to the connections of followers itself where the server lends them, which serves
    thousands of them. Only for an app whose responses no middleware changes: it would not see what the hub writes.

    ``identify`` is the app's own login: it is called with each request, and returns a ``Reader``, or ``None`` for a
    stranger; tokens and ``TAILER_AUTH`` are without effect then. ``login`` is the URL to which browsers of strangers
    are led, with the one to come back to as ``next``.
    """
    hub = Hub.open(settings)
    hub.takes_over = take_over
    hubs.append(hub)
    if settings.auth == "none" and identify is None:
        logger.warning("TAILER_AUTH=none: whoever reaches this server reads all logs")
    limits = Limits(each=settings.max_followers_each, total=settings.max_followers)
    access = Access(settings, identify, login)
    told = Board(hub), Arrivals(hub)
    app.extensions["tailer"] = Extension(settings, hub, *told, access, limits, Health.open(settings))


class Extension(NamedTuple):
    """What the blueprint has in an app: see ``init_app``."""

    settings: Settings
    hub: Hub
    board: Board
    arrivals: Arrivals
    access: Access
    limits: Limits
    health: Health


def _tailer() -> Extension:
    return cast("Extension", current_app.extensions["tailer"])


def _reader() -> Reader:
    return cast("Reader", g.tailer_reader)


# Routes.


@blueprint.get("/jobs/<job_id>/log")
def log(job_id: str) -> Response:
    """Stream a job's log. Parameters and formats: ``docs/protocol.md``."""
    query = LogQuery.parse(
        _args(),
        accept=request.headers.get("Accept", ""),
        last_event_id=request.headers.get("Last-Event-ID"),
    )
    settings, hub, *_ = _tailer()
    reader = _reader()
    _check_room(hub)
    state, summary = look_up(hub.store, hub.jobs, job_id, reader)
    if query.saw_end and _is_over(state, summary, query.attempt):
        # The one answer that keeps an EventSource from coming back (WHATWG HTML, section 9.2.3).
        return Response(status=HTTPStatus.NO_CONTENT)
    selection = query.select(hub.store, state, summary)
    encoder = ENCODERS[query.format](query.options)
    response = _streaming(encoder.content_type)
    # Where to resume from if the stream breaks before its first record.
    response.headers["Tailer-Cursor"] = str(selection.start)
    packer = None
    if query.format != "sse":
        response.vary.add("Accept-Encoding")
        if packer := negotiate(request.accept_encodings):
            response.content_encoding = packer.encoding
    if request.method == "HEAD":
        response.automatically_set_content_length = False  # A GET's length is not known either.
    else:
        piece = READ if query.wanted else PIECE
        events = follow(hub, selection, settings.heartbeat) if query.wait else snapshot(hub, selection, piece)
        events, problem, hold = reader.bounded(events), _problem_here(), HOLD_S if query.wait else 0
        if query.wanted:
            found = search(events, query.wanted, query.options.streams, selection.start, total_of(selection, summary))
            items = stream(FINDERS[query.format](query.options), found, problem, packer=packer, hold=hold)
            # One that waits for output is a follower like others.
            items = items if query.wait else PLACES.hold(items, reader)
        else:
            items = stream(encoder, events, problem, packer=packer, hold=hold)
        response.response = _body(items)
    return response


def _body(items: Items, weight: int = 1) -> Body:
    """Return the body of a response that counts as so many followers. Raises ``TooManyForReader``."""
    settings, hub = _tailer().settings, _tailer().hub
    held = _tailer().limits.hold(items, _reader(), weight)
    return Body(held, hub, request.environ, settings.stall_timeout)


@blueprint.get("/logs")
def logs() -> Response:
    """Stream many jobs' logs, those of queues, and the list of jobs. Parameters and formats: ``docs/protocol.md``."""
    query = ManyQuery.parse(
        {name: request.args.getlist(name) for name in _args()},
        accept=request.headers.get("Accept", ""),
        last_event_id=request.headers.get("Last-Event-ID"),
    )
    settings, hub, board, arrivals, *_ = _tailer()
    reader, problem = _reader(), _problem_here()
    _check_room(hub)
    if query.list or query.queues:
        _check_list(reader)
    if query.saw_end:
        return Response(status=HTTPStatus.NO_CONTENT)
    response = _streaming(ENCODERS[query.each.format].content_type)
    response.headers["Tailer-Heartbeat"] = f"{settings.heartbeat:g}"
    view = View(board, hub, reader) if query.list else None
    many = Many(hub, arrivals, reader, query, heartbeat=settings.heartbeat, view=view)
    many.begin()
    if alone := many.alone:
        # One log alone is sent by the hub itself, as ``log`` is.
        items = stream(SSE(query.each.options), alone.events, problem, prefix=switch_to(alone))
    else:
        items = body(many, query.each, problem)
    response.response = _body(items, query.weight)
    return response


def _args() -> dict[str, str]:
    """Return the query's parameters, but for the credential."""
    return {name: value for name, value in request.args.items() if name != links.PARAMETER}


def _check_list(reader: Reader) -> None:
    if reader.only:
        raise Forbidden("a link reads one log, and no list")


def _check_room(hub: Hub) -> None:
    if hub.stopping():
        raise ServerStopping("ask again")
    if hub.is_full():
        raise TooManyFollowers("this process may not open more files")


def _streaming(content_type: str) -> Response:
    response = Response(content_type=content_type)
    response.headers["Cache-Control"] = "no-cache, no-transform, private"
    response.headers["X-Accel-Buffering"] = "no"
    return response


@blueprint.get("/jobs")
def jobs() -> Response:
    """List jobs, newest first, with their states and the figures of their logs; to a browser, in the pane."""
    if pane.wants_page():
        return pane.page()
    query = ListQuery.parse(_args())
    _, hub, *_ = _tailer()
    _check_list(_reader())
    return _varying(jsonify(page(hub.store, hub.jobs, query, _reader())))


@blueprint.get("/jobs/<job_id>")
def job(job_id: str) -> Response:
    """Tell all that is known of one job; to a browser, show its log in the pane."""
    if pane.wants_page():
        return pane.page()
    _, hub, *_ = _tailer()
    return _varying(jsonify(describe(*look_up(hub.store, hub.jobs, job_id, _reader()))))


@blueprint.post("/jobs/<job_id>/link")
def link(job_id: str) -> tuple[Response, HTTPStatus]:
    """Make a URL that reads this job's log, and nothing else, for a while."""
    reader = _reader()
    if reader.only:
        raise Forbidden("a link cannot make another one")
    longest = links.LONGEST_S if reader.admin else links.LONGEST_BY_READER_S
    text = request.values.get("for", f"{links.DEFAULT_S}s")
    seconds = duration(text)
    if seconds is None or not 0 < seconds <= longest:
        raise InvalidParameter("for", text[:80], f"use a duration such as 10m or 1h30m, of {longest // 3600} h at most")
    hub, access = _tailer().hub, _tailer().access
    look_up(hub.store, hub.jobs, job_id, reader)
    credential = access.links.sign(job_id, seconds)

    def url(endpoint: str) -> str:
        return url_for(endpoint, job_id=job_id, link=credential, _external=True, _scheme=scheme(request))

    expires_at = rfc3339(round(access.links.read(credential).expires_at * 1000))
    told = {"url": url("tailer.job"), "log_url": url("tailer.log"), "expires_at": expires_at}
    return jsonify(told), HTTPStatus.CREATED


def _varying(response: Response) -> Response:
    response.vary.add("Accept")
    return response


# The pane.


@blueprint.get("/")
def index() -> BaseResponse:
    """Show the list of jobs; lead programs to it."""
    return pane.page() if pane.wants_page() else redirect(url_for("tailer.jobs"))


@blueprint.get("/view")
def view() -> Response:
    """Show several jobs side by side, or merged."""
    return pane.page()


@blueprint.get("/assets/<version>/<name>")
def asset(version: str, name: str) -> Response:
    """Return a file of the pane."""
    return pane.asset(version, name)


@blueprint.get("/tail.js")
def embedding() -> Response:
    """Return the module for other people's pages."""
    return pane.embedding()


@blueprint.route("/login", methods=["GET", "POST"])
def log_in() -> BaseResponse:
    """Show the page where people log in with a token, and take it."""
    return login.page(_tailer().access)


@blueprint.post("/logout")
def log_out() -> BaseResponse:
    """Forget who is logged in."""
    return login.leave(_tailer().access)


@blueprint.get("/healthz")
def healthz() -> Response:
    """Say that the process answers."""
    return Response("ok\n", content_type="text/plain; charset=utf-8")


@blueprint.get("/readyz")
def readyz() -> Response:
    """Say whether requests are welcome: both Redis answer, and the process is not told to stop."""
    if _tailer().hub.stopping():
        raise ServerStopping("ask another one")
    try:
        _tailer().health.check()
    except StoreUnavailable as error:
        # Everybody may ask, and where Redis is, is not for everybody.
        logger.warning("not ready: %s", error)
        raise StoreUnavailable("see the server's log") from None
    return Response("ok\n", content_type="text/plain; charset=utf-8")


@blueprint.get("/about")
def describe_server() -> Response:
    """Tell of this server, and how the request looks from here, behind all proxies."""
    tailer = _tailer()
    _check_list(_reader())
    return jsonify(about(request, tailer.settings, auth=tailer.access.kind))


@blueprint.get("/metrics")
def figures() -> Response:
    """Tell Prometheus how this process does, or all of this server."""
    if not _reader().admin:
        raise Forbidden("figures are of all logs together, and for an admin's token")
    health = _tailer().health
    told = metrics.exposition(Servers(health), Workers(health), Processes())
    return Response(told, content_type=metrics.CONTENT_TYPE)


def _is_over(state: JobState, summary: LogSummary | None, only: int | None) -> bool:
    """Return whether nothing comes behind an end that was seen: of the job, or of the one attempt that is wanted."""
    if summary is None:
        return state.over
    if only is not None:
        attempt = summary.attempt(only)
        return attempt is not None and attempt.end is not None
    end = summary.last.end
    return not state.waiting and end is not None and end.final


# Errors and access.

blueprint.before_request(requests.begin)
blueprint.after_request(requests.count)
blueprint.teardown_request(requests.end)


@blueprint.before_request
def _admit() -> None:
    """Find out who asks, and refuse whom nothing may be told, and what is too large to be looked at."""
    request.max_content_length = MAX_BODY
    if (request.content_length or 0) > MAX_BODY:
        raise BodyTooLarge(f"{request.content_length} bytes: at most {MAX_BODY} are taken")
    if len(request.query_string) > MAX_QUERY:
        raise UrlTooLong(f"a query of {len(request.query_string)} bytes: at most {MAX_QUERY} are taken")
    if not request.query_string.isascii():
        raise BadRequest("a query is percent-encoded (RFC 3986, section 2.1); this one has other bytes")
    check_origin(request)
    # What OPTIONS answers is the same for all, and a browser asks it without credentials (Fetch, section 3.3.5).
    if request.endpoint not in PUBLIC and request.method != "OPTIONS":
        g.tailer_reader = _tailer().access.reader(request)


@blueprint.after_request
def _headers(response: Response) -> Response:
    response.headers[requests.HEADER] = requests.request_id()
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
    response.headers.setdefault("Cache-Control", "no-cache, private")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    if origins := _tailer().settings.cors_origins:
        response.vary.add("Origin")
        if (origin := request.headers.get("Origin", "")) in origins:
            # Without Allow-Credentials: another site's page must bring a credential of its own.
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Methods"] = "GET, HEAD"
            response.headers["Access-Control-Allow-Headers"] = "Authorization, Last-Event-ID"
            response.headers["Access-Control-Expose-Headers"] = "Retry-After, Tailer-Cursor, Tailer-Heartbeat"
            response.headers["Access-Control-Max-Age"] = "600"
    return response


@blueprint.errorhandler(TailerError)
def _tailer_problem(error: TailerError) -> BaseResponse:
    # A browser is led to where one logs in; who has shown a token is told that it was wrong.
    is_browser = pane.wants_page() and request.method in {"GET", "HEAD"} and "Authorization" not in request.headers
    if isinstance(error, Unauthorized) and is_browser and (where := _login_url()):
        return login.lead(where)
    wants_events = preferred(request.headers.get("Accept", "")) == "sse" or request.args.get("format") == "sse"
    if wants_events and error.status in COME_BACK:
        # An EventSource never comes back after a status other than 200; so it is told inside the stream.
        encoder = ENCODERS["sse"]
        body = b"retry: %d\n\n" % (RETRY_AFTER_S * 1000) + SSE.error(_problem(error))
        return Response(body, content_type=encoder.content_type)
    if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("%r cannot be served", request.path, exc_info=error)
    return _respond(_problem_here()(error))


def _http_problem(error: HTTPException) -> Response:
    response = _respond({"title": error.name, "status": error.code or 500, "detail": error.description or error.name})
    if allowed := getattr(error, "valid_methods", None):
        response.headers["Allow"] = ", ".join(allowed)
    return response


def _login_url() -> str | None:
    """Return where a person logs in, if there is such a page."""
    access = _tailer().access
    return access.login or (url_for("tailer.log_in") if access.by_token else None)


def _problem_here() -> Problem:
    """Return what tells of errors in answers to this request, also behind its end."""
    return partial(_problem, login=_login_url())


def _problem(error: Exception, login: str | None = None) -> dict[str, Any]:
    """Return the members of an RFC 9457 problem; of an unexpected error only that it is one.

    ``login`` is told to those who need it.
    """
    if not isinstance(error, TailerError):
        return {"title": TailerError.title, "status": TailerError.status, "detail": "see the server's log"}
    named = {name: getattr(error, name) for name in ("parameter", "value", "allowed") if hasattr(error, name)}
    if isinstance(error, Unauthorized) and login:
        named["login"] = login
    return {"title": error.title, "status": error.status, "detail": str(error), **named}


def _respond(problem: dict[str, Any]) -> Response:
    """Return a problem as JSON to programs that ask for some, as one plain line to all others."""
    status = int(problem["status"])
    if any(json in request.headers.get("Accept", "") for json in ("json", "+json")):
        response = jsonify(problem)
        response.content_type = "application/problem+json"
    else:
        line = f"tailer: {problem['title']}: {problem['detail']}\n"
        response = Response(line, content_type="text/plain; charset=utf-8")
    response.status_code = status
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = login.challenge()
    if status in COME_BACK:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return _headers(response)
