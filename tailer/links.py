"""Links that are credentials: who has one reads one job's log, for a while, and nothing else."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

from itsdangerous import BadData, URLSafeTimedSerializer

from tailer.errors import LinksOff, Unauthorized
from tailer.store import check_job_id

PARAMETER = "link"
"""The query parameter that holds a link's credential."""
DEFAULT_S = 3600
LONGEST_BY_READER_S = 86_400
LONGEST_S = 30 * 86_400
"""The longest for which an admin's link is valid."""


@dataclass(frozen=True, slots=True)
class Link:
    """What a link is for. ``expires_at`` is in seconds since 1970."""

    job_id: str
    expires_at: float


class Links:
    """Signs and reads links. The first of ``keys`` signs, and all of them are taken: a key that is left out revokes.

    ::

        links = Links(Settings.from_env().secret_keys)
        url = links.url("https://logs.example.org", job.id, seconds=3600)
    """

    def __init__(self, keys: Sequence[str]) -> None:
        # itsdangerous signs with the last of its keys.
        self._serializer = (
            URLSafeTimedSerializer(list(reversed(keys)), "tailer.link", signer_kwargs={"digest_method": hashlib.sha256})
            if keys
            else None
        )

    def sign(self, job_id: str, seconds: int) -> str:
        """Return the credential for a job's log, for so many seconds from now.

        Raises:
            LinksOff: there is no key.
            UnknownJob: RQ would not accept the id.
        """
        if self._serializer is None:
            raise LinksOff("links are signed with TAILER_SECRET_KEY, which is not set")
        return str(self._serializer.dumps([check_job_id(job_id), seconds]))

    def url(self, base: str, job_id: str, *, seconds: int = DEFAULT_S) -> str:
        """Return a URL of the job's page below ``base``, Tailer's root; ``/log`` behind the id makes it the log's.

        Raises as ``sign``.
        """
        return f"{base.rstrip('/')}/jobs/{check_job_id(job_id)}?{PARAMETER}={self.sign(job_id, seconds)}"

    def read(self, credential: str) -> Link:
        """Return what a credential is for; raises ``Unauthorized`` if it is none, or no longer one."""
        if self._serializer is None:
            raise Unauthorized("this link is not valid")
        try:
            (job_id, seconds), signed_at = self._serializer.loads(credential, return_timestamp=True)
        except (BadData, ValueError, TypeError):
            raise Unauthorized("this link is not valid") from None
        expires_at = signed_at.timestamp() + seconds
        if time.time() >= expires_at:
            raise Unauthorized("this link has expired")
        return Link(job_id, expires_at)
