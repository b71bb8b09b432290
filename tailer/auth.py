"""Who may read what: finds out whom a request comes from, by its credential or by where it comes from."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable
from http import HTTPMethod
from urllib.parse import urlsplit

from itsdangerous import BadSignature, TimestampSigner
from werkzeug.wrappers import Request

from tailer import tokens
from tailer.errors import Forbidden, Unauthorized
from tailer.links import PARAMETER, Links
from tailer.readers import Reader, Subject
from tailer.settings import Settings
from tailer.tokens import Token

COOKIE = "tailer"
SESSION_S = 30 * 86_400
"""How long a browser that has logged in stays so."""
FORWARDED = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP")
"""What proxies add. A request that has any of these comes from elsewhere, wherever its connection comes from."""

Identify = Callable[[Request], Reader | None]
"""An app's own answer to who is asking: ``None`` is a stranger."""


class Access:
    """Decides for each request. ``identify`` is an app's own login, and ``login`` the URL of its page, if any.

    Without the one, tokens decide; without tokens, this machine may read, or everybody if ``auth`` is ``none``.
    """

    def __init__(self, settings: Settings, identify: Identify | None = None, login: str | None = None) -> None:
        self.links = Links(settings.secret_keys)
        self.login = login
        self._settings = settings
        self._identify = identify
        self._names = {token.name: token for token in settings.tokens}

    @property
    def by_token(self) -> bool:
        """Whether people log in with a token: Tailer's own login page is for them."""
        return bool(self._names) and self._identify is None

    @property
    def kind(self) -> str:
        """Who decides who may read: ``app``, ``tokens``, or ``TAILER_AUTH``'s ``loopback`` and ``none``."""
        if self._identify:
            return "app"
        return "tokens" if self._names else self._settings.auth

    def reader(self, request: Request) -> Reader:
        """Return whom the request comes from.

        Raises:
            Unauthorized: it needs a credential, and has none, or none that is valid.
            Forbidden: logs are for this machine only, and it comes from elsewhere.
        """
        refused = None
        if credential := request.args.get(PARAMETER):
            try:
                return self._by_link(credential)
            except Unauthorized as error:
                # Who may read anyway is not kept from it by a link that is too old.
                refused = error
        try:
            return self._by_itself(request)
        except (Unauthorized, Forbidden):
            if refused:
                raise refused from None
            raise

    def _by_link(self, credential: str) -> Reader:
        link = self.links.read(credential)
        return Reader(
            name=f"link to {link.job_id} until {link.expires_at:.0f}",
            only=link.job_id,
            expires_at=link.expires_at,
        )

    def _by_itself(self, request: Request) -> Reader:
        if self._identify:
            if reader := self._identify(request):
                return reader
            raise Unauthorized("log in first")
        if self._names:
            return self._by_token(request)
        if self._settings.auth == "none":
            return Reader(name=f"anybody at {request.remote_addr or 'a socket'}", admin=True)
        check_local(request)
        return Reader(name="this machine", admin=True, limited=False)

    def _by_token(self, request: Request) -> Reader:
        secret = presented(request)
        if secret is not None:
            if token := tokens.find(self._settings.tokens, secret):
                return _reader(token)
            raise Unauthorized("the token is not known")
        if session := request.cookies.get(COOKIE):
            return self._by_session(session)
        raise Unauthorized("logs are read with a token: as a bearer token, as the password of Basic, or by logging in")

    # Sessions: what a browser has instead of the token, signed with the token's hash, so that they end with it.

    def log_in(self, secret: str) -> str | None:
        """Return what is to be kept in the cookie, ``None`` if that is no token."""
        token = tokens.find(self._settings.tokens, secret)
        return _signer(token).sign(token.name).decode() if token else None

    def _by_session(self, session: str) -> Reader:
        token = self._names.get(session.partition(":")[0])
        if token is None:
            raise Unauthorized("log in again")
        try:
            _, signed_at = _signer(token).unsign(session, max_age=SESSION_S, return_timestamp=True)
        except BadSignature:
            raise Unauthorized("log in again") from None
        return _reader(token, signed_at.timestamp() + SESSION_S)


def _reader(token: Token, expires_at: float | None = None) -> Reader:
    def may_read(job: Subject) -> bool:
        return token.reads(job.queue, job.function)

    limited = token.queues or token.functions
    return Reader(name=token.name, may_read=may_read if limited else None, admin=token.admin, expires_at=expires_at)


def _signer(token: Token) -> TimestampSigner:
    return TimestampSigner(token.digest, "tailer.session", sep=":", digest_method=hashlib.sha256)


def presented(request: Request) -> str | None:
    """Return the token in the Authorization header, as Bearer or as Basic's password; ``None`` if there is none."""
    try:
        given = request.authorization
    except ValueError:  # werkzeug's, for a Basic that is not ASCII
        return ""
    if given is None:
        return None if "Authorization" not in request.headers else ""
    return (given.token if given.type == "bearer" else given.password) or ""


def check_local(request: Request) -> None:
    """Raise ``Forbidden`` unless the request comes from a program on this machine.

    Neither one that a proxy passes on nor one that another site's page makes, having had its name resolved to this
    machine's address, passes for that.
    """
    how = "; set TAILER_TOKENS, or TAILER_AUTH=none to serve them to everybody"
    if found := [name for name in FORWARDED if name in request.headers]:
        raise Forbidden(f"logs are served to this machine only, and this comes through a proxy ({found[0]}){how}")
    if not _is_loopback(request.remote_addr or ""):
        raise Forbidden(f"logs are served to this machine only{how}")
    host: str = request.environ.get("HTTP_HOST", "")
    if not _names_loopback(host):
        raise Forbidden(f"logs are served to this machine only, under its own name, not {host[:80]!r}{how}")


def _names_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name in {"", "localhost"} or name.endswith(".localhost") or _is_loopback(name)


def _is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return not address  # A unix socket has no address: whoever may open it is local.
    # A socket for both versions of IP shows IPv4 clients as ::ffff:127.0.0.1.
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def check_origin(request: Request) -> None:
    """Raise ``Forbidden`` for a POST that another site's page makes (Fetch, section 3.2; Fetch Metadata)."""
    if request.method != HTTPMethod.POST:
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site in {None, "none", "same-origin"} and (site == "same-origin" or origin is None or _is_own(request, origin)):
        return
    raise Forbidden(f"this was asked for by a page of another site ({(origin or site or '')[:80]!r})")


def _is_own(request: Request, origin: str) -> bool:
    # Behind a proxy that ends TLS the scheme may differ.
    try:
        return urlsplit(origin).netloc == request.host
    except ValueError:
        return False


def scheme(request: Request) -> str:
    """Return the scheme by which the client came. A proxy's word is enough: who forges it deceives itself alone."""
    told = request.headers.get("X-Forwarded-Proto", "").rpartition(",")[2].strip()
    return "https" if request.is_secure or told == "https" else "http"
