"""Tokens of TAILER_TOKENS: what each may read. Of the tokens themselves only hashes are kept."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

SHORTEST = 16
"""Characters of a token, and of a key: what is shorter can be guessed."""
NAME = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
SECRET = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""What a bearer token may consist of (RFC 6750, section 2.1): no colon, by which a pair is split."""
ALLOWED = (
    f"use NAME:TOKEN pairs with spaces between them, each TOKEN of {SHORTEST} or more of the characters "
    "A-Z a-z 0-9 . _ ~ + / -, and behind it nothing or a colon and, with commas between them, admin, read, "
    "queue=PATTERN, function=PATTERN"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A credential by name. ``queues`` and ``functions`` are patterns as shells have them; none is no limit.

    ``admin`` may read figures, and make links that are valid for longer. ``digest`` is the SHA-256 of the token: tokens
    are too long to be found by trying, so that it needs no salt.
    """

    name: str
    digest: bytes = field(repr=False)
    admin: bool = False
    queues: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()

    def reads(self, queue: str | None, function: str | None) -> bool:
        """Return whether it is for jobs of that queue and function; ``None`` is one that nobody knows."""
        return _any(self.queues, queue) and _any(self.functions, function)


def _any(patterns: Sequence[str], value: str | None) -> bool:
    return not patterns or (value is not None and any(fnmatchcase(value, pattern) for pattern in patterns))


def digest(secret: str) -> bytes:
    """Return what is kept of a token."""
    return hashlib.sha256(secret.encode()).digest()


def find(tokens: Sequence[Token], secret: str) -> Token | None:
    """Return the token with that secret. Takes as long for a wrong one as for a right one."""
    wanted, found = digest(secret), None
    for token in tokens:
        if hmac.compare_digest(token.digest, wanted):
            found = token
    return found


def parse(value: str) -> tuple[Token, ...]:
    """Read TAILER_TOKENS; raises ``ValueError``, which tells names at most."""
    tokens = tuple(map(_token, value.split()))
    for what in ("name", "digest"):
        if len({getattr(token, what) for token in tokens}) < len(tokens):
            raise ValueError("use each name, and each token, once")
    if not tokens:
        raise ValueError(ALLOWED)
    return tokens


def _token(pair: str) -> Token:
    name, _, rest = pair.partition(":")
    secret, _, options = rest.partition(":")
    if not NAME.fullmatch(name) or not SECRET.fullmatch(secret) or len(secret) < SHORTEST:
        raise ValueError(ALLOWED)
    words = [option.partition("=") for option in options.split(",")] if options else []
    # An option that was not understood must not leave the token without the limit that was meant.
    if not all(
        (key in {"queue", "function"} and pattern) or (key in {"admin", "read"} and not sign)
        for key, sign, pattern in words
    ):
        raise ValueError(ALLOWED)
    keys = {key for key, _, _ in words}
    if {"admin", "read"} <= keys:
        raise ValueError("use one of admin and read for a token")
    return Token(
        name=name,
        digest=digest(secret),
        admin="admin" in keys,
        queues=tuple(pattern for key, _, pattern in words if key == "queue"),
        functions=tuple(pattern for key, _, pattern in words if key == "function"),
    )
