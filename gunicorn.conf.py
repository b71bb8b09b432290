"""gunicorn's settings, read by `gunicorn wsgi:app` from the directory it starts in; each with its reason."""

import os
import tempfile

# What is logged, garbage collection, file descriptors, and a clean end of all streams: see there.
from tailer.gunicorn_hooks import child_exit, logger_class, post_worker_init, worker_exit  # noqa: F401 (gunicorn's)

# A platform that sets PORT routes to it from outside; without one the logs stay on this machine.
bind = f"0.0.0.0:{port}" if (port := os.environ.get("PORT")) else "127.0.0.1:8000"

# Requests are short, for who follows a log is handed over to the hub. Its thread needs a third less time than gevent's
# greenlet for the same work (docs/performance.md).
worker_class = "gthread"
threads = 32

# One process reads each followed log once, however many follow it: more processes only buy more cores.
workers = int(os.environ.get("WEB_CONCURRENCY", "1"))

# With several, each answer of /metrics adds up the figures of all, which they keep here.
if workers > 1 and "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="tailer-metrics-")

# Connections with a request, or between two; those handed over do not count. gunicorn's own 1000 would leave clients
# waiting that come back all at once.
worker_connections = 10_000

# A burst of clients that come back after a reload must find room before they are accepted; the kernel may cap it.
backlog = 8192

# Of a request: gunicorn's most. Tailer takes 7 KiB of query, for many logs at once, and says so if it is more.
limit_request_line = 8190

# Longer than the pause between two requests of a browser, so that it needn't connect again; idle ones are cheap.
keepalive = 75

# The worker's main thread answers the arbiter beside all requests: only a process that is stuck is killed.
timeout = 30

# What a stop or reload gives requests to end by themselves. The hub ends all streams at once when it is told to, so
# that their clients know that the log goes on and resume from their cursor; more time would only delay that.
graceful_timeout = 5

# Nothing is recycled after so many requests (`max_requests`): it would cut all who follow, and memory does not grow.

# Nothing here is steered through gunicorn's control socket, and two instances of one user would share its path.
control_socket_disable = True

# One line per request that lasts hours says little; `--access-logfile -` turns it on.
accesslog = None
