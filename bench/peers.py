"""What others build: the generators of the tutorials, for gunicorn as ``bench.peers:polling()`` and so on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import redis
from flask import Flask, Response, send_from_directory

PAUSE_S = 0.5
PIECE = 1000
CONNECTIONS = 12_000


def polling() -> Flask:
    """Each follower's generator reads its list, yields line by line, and sleeps."""
    app = Flask("polling")
    # redis-py's default pool would fail all but a hundred of them.
    connection = redis.Redis.from_url(os.environ["REDIS_URL"], max_connections=CONNECTIONS)

    def lines(job_id: str) -> Iterator[bytes]:
        yield b""  # Sends the header.
        at = 0
        while True:
            new = connection.lrange(job_id, at, -1)
            for line in new:
                yield line + b"\n"
            at += len(new)
            time.sleep(PAUSE_S)

    @app.get("/<job_id>")
    def follow(job_id: str) -> Response:
        return Response(lines(job_id), content_type="text/plain")

    return app


def replaying() -> Flask:
    """The same for a job that is over. It reads in pieces: redis-py takes minutes for a long list in one answer."""
    app = Flask("replaying")
    connection = redis.Redis.from_url(os.environ["REDIS_URL"])

    def lines(job_id: str) -> Iterator[bytes]:
        at = 0
        while new := connection.lrange(job_id, at, at + PIECE - 1):
            for line in new:
                yield line + b"\n"
            at += len(new)

    @app.get("/<job_id>")
    def replay(job_id: str) -> Response:
        return Response(lines(job_id), content_type="text/plain")

    return app


def flask_sse() -> Flask:
    """The package of that name, as its documentation shows."""
    from flask_sse import sse  # noqa: PLC0415 (may not be installed)

    app = Flask("flask-sse")
    app.config["REDIS_URL"] = os.environ["REDIS_URL"]
    app.register_blueprint(sse, url_prefix="/stream")
    return app


def pages() -> Flask:
    """Tailer's own app, and on the same origin other pages that show a log: files of ``bench/pages``.

    ``XTERM`` in the environment is the folder of the package @xterm/xterm.
    """
    from bench.jobs import varied  # noqa: PLC0415 (the other peers are to be as small as they are)
    from tailer.web import create_app  # noqa: PLC0415

    app = create_app()

    @app.get("/bench/<path:name>")
    def page(name: str) -> Response:
        return send_from_directory(Path(__file__).parent / "pages", name)

    @app.get("/bench/xterm/<path:name>")
    def xterm(name: str) -> Response:
        return send_from_directory(os.environ["XTERM"], name)

    @app.get("/bench/events/<int:count>")
    def events(count: int) -> Response:
        thousand = "".join(f"data: {line}\n\n" for line in varied(PIECE)).encode()
        return Response((thousand for _ in range(count // PIECE)), content_type="text/event-stream")

    return app
