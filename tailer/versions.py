"""Which versions of what Tailer stands on are installed here."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from tailer import __version__

PACKAGES = {"rq": "rq", "redis-py": "redis", "flask": "flask", "gunicorn": "gunicorn"}
UNKNOWN = "unknown"


def installed(name: str) -> str:
    """Return the version of one of PACKAGES, ``UNKNOWN`` if it is not installed as a package."""
    try:
        return version(PACKAGES[name])
    except PackageNotFoundError:
        return UNKNOWN


def versions() -> dict[str, str]:
    """Return the versions of Tailer, of each of PACKAGES, and of Python."""
    found = {name: installed(name) for name in PACKAGES}
    return {"tailer": __version__, **found, "python": platform.python_version()}
