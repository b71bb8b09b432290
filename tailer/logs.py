"""How Tailer's processes tell of themselves: lines for people, or, with ``TAILER_LOG_FORMAT=json``, a JSON object each.

Imported by gunicorn's own process before gevent has patched Python's modules, and by every job's: it needs nothing.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

NOTHING: Mapping[str, str] = MappingProxyType({})
CURRENT: ContextVar[Mapping[str, str]] = ContextVar("tailer_current", default=NOTHING)
"""What is told with every record of this thread or greenlet: ``request``, ``job``, ``queue``, ``worker``."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class JsonFormatter(logging.Formatter):
    """Makes one line of a record: ``time``, ``level``, ``logger``, ``message``, what is ``CURRENT``, ``exception``.

    A record's own ``fields``, a mapping, stand beside them.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, in ASCII, without what a terminal would obey."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        told: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _COLOURS.sub("", record.getMessage()),
            **CURRENT.get(),
            **getattr(record, "fields", NOTHING),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


def use_json(*loggers: str, own: str = "") -> None:
    """Have the handlers of these loggers, and of the logger ``own``, write JSON.

    ``own`` (the root of all, by default) gets one that writes to stderr if it has none, and then no other sees its
    records.
    """
    formatter = JsonFormatter()
    main = logging.getLogger(own)
    if not main.handlers:
        main.addHandler(logging.StreamHandler())
        main.propagate = False
    for logger in (main, *map(logging.getLogger, loggers)):
        for handler in logger.handlers:
            handler.setFormatter(formatter)
