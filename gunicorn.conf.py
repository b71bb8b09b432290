"""gunicorn's settings, read by `gunicorn wsgi:app` from the directory it starts in; each with its reason."""

import os

# A platform that sets PORT routes to it from outside; without one the logs stay on this machine.
bind = f"0.0.0.0:{port}" if (port := os.environ.get("PORT")) else "127.0.0.1:8000"

# A follower is a greenlet of a few kB, not a thread, and it does nothing but wait.
worker_class = "gevent"

# One process reads each followed log once, however many follow it: more processes only buy more cores.
workers = int(os.environ.get("WEB_CONCURRENCY", "1"))

# Each follower holds a connection for as long as it looks; gunicorn's own 1000 would leave the next one waiting.
worker_connections = 10_000

# A burst of clients that come back after a reload must find room before they are accepted; the kernel may cap it.
backlog = 2048

# Longer than the pause between two requests of a browser, so that it needn't connect again; idle ones are cheap.
keepalive = 75

# gevent workers answer the arbiter beside their requests: only a process that is stuck is killed, never a long stream.
timeout = 30

# What a stop or reload gives requests to end by themselves. Streams are cut then, without the last HTTP chunk, so
# their clients know that the log goes on and resume from their cursor; more time would only delay that.
graceful_timeout = 5

# Nothing here is steered through gunicorn's control socket, and two instances of one user would share its path.
control_socket_disable = True

# One line per request that lasts hours says little; `--access-logfile -` turns it on.
accesslog = None
