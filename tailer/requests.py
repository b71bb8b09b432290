"""What is told of each request: an id that all records about it have, and figures."""

from __future__ import annotations

import re
import time
import uuid

from flask import Response, g, request

from tailer.logs import CURRENT, NOTHING
from tailer.metrics import REQUEST_TIME, REQUESTS
from tailer.store import JOB_ID

HEADER = "X-Request-ID"
_SANE = re.compile(r"[A-Za-z0-9._:@+/=-]{1,200}")


def begin() -> None:
    """Have the records of this thread tell of the request. Its id is the one that a proxy has given it, if sane."""
    g.tailer_began = time.monotonic()
    told = {"request": request_id()}
    job_id = (request.view_args or {}).get("job_id", "")
    if JOB_ID.fullmatch(job_id):
        told["job"] = job_id
    CURRENT.set(told)


def request_id() -> str:
    """Return the id of this request; the same each time."""
    if "tailer_request" not in g:
        given = request.headers.get(HEADER, "")
        g.tailer_request = given if _SANE.fullmatch(given) else uuid.uuid4().hex
    return str(g.tailer_request)


def count(response: Response) -> Response:
    """Count the request, now that its answer's header is known."""
    route = (request.endpoint or "").removeprefix("tailer.")
    REQUESTS.labels(route, response.status_code).inc()
    if began := g.get("tailer_began"):  # The app itself may have answered before `begin`.
        REQUEST_TIME.labels(route).observe(time.monotonic() - began)
    return response


def end(_error: BaseException | None = None) -> None:
    """Have the records of this thread tell of it no longer."""
    CURRENT.set(NOTHING)
