"""The web application for a WSGI server, with its settings from the environment: `gunicorn wsgi:app`."""

from tailer.settings import Settings
from tailer.web import create_app

app = create_app(Settings.from_env())
