"""Which versions of what Tailer stands on are installed here."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = {"tailer": "rq-tailer", "rq": "rq", "redis-py": "redis", "flask": "flask", "gunicorn": "gunicorn"}
UNKNOWN = "unknown"


def installed(name: str) -> str:
    """Return the version of one of PACKAGES, ``UNKNOWN`` if it is not installed as a package."""
    try:
        return version(PACKAGES[name])
    except PackageNotFoundError:
        return UNKNOWN


def versions() -> dict[str, str]:
    """Return the version of each of PACKAGES, and of Python."""
    return {**{name: installed(name) for name in PACKAGES}, "python": platform.python_version()}
