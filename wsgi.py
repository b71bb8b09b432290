"""The web application for a WSGI server, with its settings from the environment: `gunicorn wsgi:app`."""

import sys

from tailer.errors import SettingsError
from tailer.logs import use_json
from tailer.settings import Settings
from tailer.web import create_app

try:
    settings = Settings.from_env()
    if settings.log_format == "json":
        use_json()
    app = create_app(settings)
except SettingsError as error:
    sys.stderr.write(f"tailer: {error}\n")
    sys.exit(4)  # to gunicorn: the application can't be loaded; after any other code it would try for ever
