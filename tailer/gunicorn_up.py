"""gunicorn's settings for `tailer up` where there is no gunicorn.conf.py of Tailer's; each with its reason."""

# A follower is a greenlet, which does nothing but wait.
worker_class = "gevent"

# What open streams get at a stop: their clients are this machine's, and resume.
graceful_timeout = 1

# All gunicorns of a user share its path by default: ours would take it from one that is running.
control_socket_disable = True
