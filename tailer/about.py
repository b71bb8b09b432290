"""What the web side tells of itself and of the request that asks: how it looks from behind all proxies."""

from __future__ import annotations

from typing import Any

from werkzeug.wrappers import Request

from tailer.settings import Settings
from tailer.store import now_ms
from tailer.versions import versions

ADDED = ("Forwarded", "Via", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Server", "X-Real-Ip", "X-Request-Id")
"""Headers by which a proxy can be told. Of these only the names are repeated."""


def about(request: Request, settings: Settings, *, auth: str) -> dict[str, Any]:
    """Return what ``GET /about`` answers: see ``docs/protocol.md``. ``auth`` is who decides who may read."""
    return {
        "versions": versions(),
        "time": now_ms(),
        "auth": auth,
        "heartbeat": settings.heartbeat,
        "trusted_proxies": settings.trusted_proxies,
        "request": {
            "protocol": request.environ.get("SERVER_PROTOCOL"),
            "host": request.environ.get("HTTP_HOST"),
            "address": request.remote_addr,
            "scheme": request.scheme,
            "forwarded_for": request.headers.get("X-Forwarded-For"),
            "forwarded_proto": request.headers.get("X-Forwarded-Proto"),
            "accept_encoding": request.headers.get("Accept-Encoding"),
            "headers": [name for name in ADDED if name in request.headers],
        },
    }
