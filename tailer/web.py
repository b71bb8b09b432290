"""The HTTP side: a Flask blueprint to mount anywhere, and an app around it."""

from __future__ import annotations

import errno
import ipaddress
import logging
from collections.abc import Generator
from contextlib import closing
from http import HTTPStatus
from typing import NamedTuple, cast

from flask import Blueprint, Flask, Response, current_app, jsonify, redirect, request, url_for
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

from tailer import metrics, pane
from tailer.board import Board
from tailer.channel import Pause
from tailer.compression import Packer, negotiate
from tailer.errors import Forbidden, ServerStopping, TailerError, TooManyFollowers
from tailer.follow import Final, Placed, Selection, follow, snapshot
from tailer.formats import ENCODERS, SSE, Encoder
from tailer.hub import Hub
from tailer.jobs import JobState
from tailer.lending import Body, Items
from tailer.listing import ListQuery, describe, look_up, page
from tailer.many import WHOLE_CHUNKS, StreamQuery, switch_to, together
from tailer.query import LogQuery, preferred
from tailer.settings import Settings
from tailer.store import Cursor, LogSummary, redis_errors

logger = logging.getLogger(__name__)

HOLD_S = 1.0
"""How long a finished event stream stays open for its client to close it, which spares a needless reconnect."""
RETRY_AFTER_S = 2

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
    init_app(app, settings or Settings.from_env(), take_over=True)
    app.register_blueprint(blueprint)
    app.register_error_handler(HTTPException, _http_problem)
    return app


def init_app(app: Flask, settings: Settings, *, take_over: bool = False) -> None:
    """Give ``app`` what the blueprint needs: the settings and a ``Hub``. Connects to nothing yet.

    ``take_over`` lets the hub write to the connections of followers itself where the server lends them, which serves
    thousands of them. Only for an app whose responses no middleware changes: it would not see what the hub writes.
    """
    hub = Hub.open(settings)
    hub.takes_over = take_over
    hubs.append(hub)
    app.extensions["tailer"] = Extension(settings, hub, Board(hub))


class Extension(NamedTuple):
    """What the blueprint has in an app: see ``init_app``."""

    settings: Settings
    hub: Hub
    board: Board


def _tailer() -> Extension:
    return cast("Extension", current_app.extensions["tailer"])


# Routes.


@blueprint.get("/jobs/<job_id>/log")
def log(job_id: str) -> Response:
    """Stream a job's log. Parameters and formats: ``docs/protocol.md``."""
    query = LogQuery.parse(
        request.args.to_dict(),
        accept=request.headers.get("Accept", ""),
        last_event_id=request.headers.get("Last-Event-ID"),
    )
    settings, hub, _ = _tailer()
    _check_room(hub)
    state, summary = look_up(hub.store, hub.jobs, job_id)
    if query.saw_end and _is_over(state, summary):
        # The one answer that keeps an EventSource from coming back (WHATWG HTML, section 9.2.3).
        return Response(status=HTTPStatus.NO_CONTENT)
    selection = query.select(job_id, hub.store, summary)
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
        events = follow(hub, selection, settings.heartbeat) if query.wait else snapshot(hub, selection)
        items = stream(encoder, events, packer=packer, hold=HOLD_S if query.wait else 0)
        response.response = Body(items, hub, request.environ, settings.stall_timeout)
    return response


@blueprint.get("/stream")
def many() -> Response:
    """Stream several jobs' logs, and the list of jobs. Events: ``docs/protocol.md``."""
    query = StreamQuery.parse(request.args.to_dict(flat=False))
    settings, hub, board = _tailer()
    _check_room(hub)

    def begin(job_id: str, cursor: Cursor) -> Generator[Placed | Pause]:
        look_up(hub.store, hub.jobs, job_id)
        selection = Selection(job_id=job_id, start=cursor)
        return follow(hub, selection, settings.heartbeat) if query.wait else snapshot(hub, selection)

    encoder = SSE(WHOLE_CHUNKS)
    items: Items
    if len(query.logs) == 1 and not query.list and query.wait:
        # One log alone is sent by the hub itself, as ``log`` is.
        ((job_id, cursor),) = query.logs
        items = stream(encoder, begin(job_id, cursor), prefix=switch_to(job_id))
    else:
        items = together(query, begin, board, settings.heartbeat, _problem)
    response = _streaming(encoder.content_type)
    response.headers["Tailer-Heartbeat"] = f"{settings.heartbeat:g}"
    response.response = Body(items, hub, request.environ, settings.stall_timeout)
    return response


def _check_room(hub: Hub) -> None:
    if hub.stopping():
        raise ServerStopping("ask again")
    if hub.is_full():
        raise TooManyFollowers("this process may not open more files")


def _streaming(content_type: str) -> Response:
    response = Response(content_type=content_type)
    response.headers["Cache-Control"] = "no-cache, no-transform"
    response.headers["X-Accel-Buffering"] = "no"
    return response


@blueprint.get("/jobs")
def jobs() -> Response:
    """List jobs, newest first, with their states and the figures of their logs; to a browser, in the pane."""
    if pane.wants_page():
        return pane.page()
    query = ListQuery.parse(request.args.to_dict())
    _, hub, _ = _tailer()
    return _varying(jsonify(page(hub.store, hub.jobs, query)))


@blueprint.get("/jobs/<job_id>")
def job(job_id: str) -> Response:
    """Tell all that is known of one job; to a browser, show its log in the pane."""
    if pane.wants_page():
        return pane.page()
    _, hub, _ = _tailer()
    return _varying(jsonify(describe(*look_up(hub.store, hub.jobs, job_id))))


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


@blueprint.get("/healthz")
def healthz() -> Response:
    """Say that the process answers."""
    return Response("ok\n", content_type="text/plain; charset=utf-8")


@blueprint.get("/readyz")
def readyz() -> Response:
    """Say whether Redis answers, that of the logs and that of RQ."""
    _, hub, _ = _tailer()
    with redis_errors():
        hub.store.connection.ping()
        hub.jobs.connection.ping()
    return Response("ok\n", content_type="text/plain; charset=utf-8")


@blueprint.get("/metrics")
def figures() -> Response:
    """Tell Prometheus how this process does, or all of this server."""
    return Response(metrics.exposition(), content_type=metrics.CONTENT_TYPE)


def _is_over(state: JobState, summary: LogSummary | None) -> bool:
    end = summary.last.end if summary else None
    return not state.waiting and ((end is not None and end.final) or (summary is None and state.status != "started"))


# Bodies.


def stream(
    encoder: Encoder,
    events: Generator[Placed | Pause],
    *,
    packer: Packer | None = None,
    hold: float = 0,
    prefix: bytes = b"",
) -> Items:
    """Yield a response's body, with the pauses of ``events``. Touches no request: all it needs is passed in.

    ``packer`` compresses it; ``hold`` is for how many seconds a finished event stream stays open; ``prefix`` is what
    it begins with.

    An error behind the first byte becomes an ``error`` event for SSE. Every other format can only be cut short: the
    error goes on to the server, which closes the connection without the last HTTP chunk.
    """
    yield encoder.begin() + prefix  # Headers leave with the first item, be it empty.
    over = False
    try:
        with closing(events):
            for item in events:
                if isinstance(item, Pause):
                    # What is compressed for one client is of no use to another.
                    item.encoder = None if packer else encoder
                    yield item
                    continue
                event, cursor = item
                over = isinstance(event, Final)
                if data := encoder.encode(event, cursor):
                    yield packer.pack(data, event) if packer else data
        if packer:
            yield packer.end()
        if over and isinstance(encoder, SSE) and hold:
            yield Pause(hold)
    except Exception as error:
        if isinstance(encoder, SSE):
            if not isinstance(error, ServerStopping):
                logger.exception("a stream of server-sent events ends early")
            yield encoder.error(_problem(error))
        elif isinstance(error, ServerStopping):
            # As if the client had broken the connection: servers then close it quietly.
            raise ConnectionResetError(errno.ECONNRESET, str(error)) from None
        else:
            raise


# Errors and access.


@blueprint.before_request
def _closed_by_default() -> None:
    """Serve loopback clients only, unless ``TAILER_AUTH=none`` opens it on purpose."""
    settings, _, _ = _tailer()
    if settings.auth == "none" or request.endpoint in {"tailer.healthz", "tailer.readyz"}:
        return
    try:
        address = ipaddress.ip_address(request.remote_addr or "")
        # A socket for both versions of IP shows IPv4 clients as ::ffff:127.0.0.1.
        local = (getattr(address, "ipv4_mapped", None) or address).is_loopback
    except ValueError:
        local = not request.remote_addr  # A unix socket has no address: whoever may open it is local.
    if not local:
        raise Forbidden("logs are served to this machine only; TAILER_AUTH=none serves them to everybody")


@blueprint.after_request
def _headers(response: Response) -> Response:
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
    response.headers.setdefault("Cache-Control", "no-cache")
    return response


@blueprint.errorhandler(TailerError)
def _tailer_problem(error: TailerError) -> Response:
    wants_events = preferred(request.headers.get("Accept", "")) == "sse" or request.args.get("format") == "sse"
    if wants_events and error.status == HTTPStatus.SERVICE_UNAVAILABLE:
        # An EventSource never comes back after a status other than 200; so it is told inside the stream.
        encoder = ENCODERS["sse"]
        body = b"retry: %d\n\n" % (RETRY_AFTER_S * 1000) + SSE.error(_problem(error))
        return Response(body, content_type=encoder.content_type)
    if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("%s cannot be served", request.path, exc_info=error)
    return _respond(_problem(error))


def _http_problem(error: HTTPException) -> Response:
    response = _respond({"title": error.name, "status": error.code or 500, "detail": error.description or error.name})
    if allowed := getattr(error, "valid_methods", None):
        response.headers["Allow"] = ", ".join(allowed)
    return response


def _problem(error: Exception) -> dict[str, object]:
    """Return the members of an RFC 9457 problem; of an unexpected error only that it is one."""
    if not isinstance(error, TailerError):
        return {"title": TailerError.title, "status": TailerError.status, "detail": "see the server's log"}
    named = {name: getattr(error, name) for name in ("parameter", "value", "allowed") if hasattr(error, name)}
    return {"title": error.title, "status": error.status, "detail": str(error), **named}


def _respond(problem: dict[str, object]) -> Response:
    """Return a problem as JSON to programs that ask for some, as one plain line to all others."""
    status = int(cast("int", problem["status"]))
    if any(json in request.headers.get("Accept", "") for json in ("json", "+json")):
        response = jsonify(problem)
        response.content_type = "application/problem+json"
    else:
        line = f"tailer: {problem['title']}: {problem['detail']}\n"
        response = Response(line, content_type="text/plain; charset=utf-8")
    response.status_code = status
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return _headers(response)
