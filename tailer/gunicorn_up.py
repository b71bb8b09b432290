"""gunicorn's settings for `tailer up` where there is no gunicorn.conf.py of Tailer's; each with its reason."""

from tailer.gunicorn_hooks import logger_class, post_worker_init, worker_exit  # noqa: F401 (gunicorn's)

# Requests are short: who follows a log is handed over to the hub.
worker_class = "gthread"
threads = 32

# What open streams get at a stop: their clients are this machine's, and resume.
graceful_timeout = 1

# All gunicorns of a user share its path by default: ours would take it from one that is running.
control_socket_disable = True
