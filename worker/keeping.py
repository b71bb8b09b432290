"""How a job's log is kept: what its queue and its ``job.meta`` say instead of the worker's settings."""

from __future__ import annotations

import logging
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from rq.job import Job

from tailer.settings import Settings, keep_head, keep_tail, ttl

logger = logging.getLogger("tailer.worker")

META = "tailer"
"""The key in ``job.meta``."""
PARSERS = {"ttl": ttl, "ttl_finished": ttl, "ttl_failed": ttl, "keep_head": keep_head, "keep_tail": keep_tail}
"""What it may hold, each as in the environment, or as a number."""


def settings_for(job: Job, settings: Settings) -> Settings:
    """Return the settings for this job's log. What cannot be used in its ``meta`` is left out, with a warning."""
    try:
        return replace(settings, **{**_of_queue(job.origin, settings), **_of_meta(job.id, job.meta)})
    except Exception:
        logger.exception("job %s: its log is kept as any other", job.id)
        return settings


def _of_queue(queue: str, settings: Settings) -> dict[str, Any]:
    for pattern, seconds in settings.ttl_queues:
        if fnmatchcase(queue, pattern):
            return {"ttl": seconds, "ttl_finished": None, "ttl_failed": None}
    return {}


def _of_meta(job_id: str, meta: Any) -> dict[str, Any]:
    given = meta.get(META) if isinstance(meta, dict) else None
    if given is None:
        return {}
    if not isinstance(given, dict):
        logger.warning("job %s: meta[%r] is no dictionary: its log is kept as any other", job_id, META)
        return {}
    found: dict[str, Any] = {}
    for name, value in given.items():
        try:
            found[name] = _parsed(name, value)
        except ValueError as error:
            logger.warning("job %s: meta[%r][%.100r] is %.100r: %s", job_id, META, name, value, error)
    return {"ttl_finished": None, "ttl_failed": None, **found} if "ttl" in found else found


def _parsed(name: object, value: object) -> int:
    if name not in PARSERS:
        raise ValueError("use one of " + ", ".join(PARSERS))
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("use a number, or a text as in the environment")  # noqa: TRY004 (as its callers expect)
    return PARSERS[str(name)](str(value))
