"""Which proxies there are between a client and the web side, and what to set in each of them.

What is said here of nginx, HAProxy and Caddy is tried in the tests; of the others, it is what their makers document.
Whole configurations are in ``docs/proxies.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum


class Topic(Enum):
    """What a proxy can get wrong, with what to see to in one that is not known here."""

    BUFFERING = "turn off its buffering and its compression of responses, for Tailer"
    COMPRESSION = "turn off its compression for Tailer, which compresses what is worth it, and pass on Accept-Encoding"
    DELAY = "see whether the machine or the network is busy"
    SILENCE = "let it keep a silent response for an hour"
    PROTOCOL = "have it speak HTTP/1.1 to Tailer"
    FORWARDED = "have it append the client's address to X-Forwarded-For, and set X-Forwarded-Proto"
    HOST = "have it pass on the client's Host"
    HEADERS = "have it pass requests' and responses' headers on as they are"


@dataclass(frozen=True, slots=True)
class Signs:
    """What a proxy can be told by. ``response`` and ``request`` are headers, those of the request as Tailer got them.

    Names in ``response`` are as they came.
    """

    response: Mapping[str, str]
    request: Collection[str] = ()

    def header(self, name: str) -> str:
        """Return the value of a header of the response, in lower case."""
        return next((value for key, value in self.response.items() if key.lower() == name), "").lower()


@dataclass(frozen=True, slots=True)
class Proxy:
    """A kind of proxy. ``advice`` is what to set, by topic; ``section`` is its heading in ``docs/proxies.md``."""

    name: str
    section: str
    recognised: Callable[[Signs], bool]
    advice: Mapping[Topic, str]


def _heroku(signs: Signs) -> bool:
    return "heroku" in signs.header("via") or "vegur" in signs.header("via") or signs.header("server") == "heroku"


def _haproxy(signs: Signs) -> bool:
    """HAProxy sends header names in lower case (``h1-case-adjust`` in its manual), which none of our servers does."""
    speaks_http1 = any(name in signs.header("server") for name in ("gunicorn", "werkzeug", "waitress"))
    return speaks_http1 and all(name == name.lower() for name in signs.response)


PROXIES = (
    Proxy(
        "Cloudflare",
        "cloudflare",
        lambda signs: bool(signs.header("cf-ray")) or signs.header("server") == "cloudflare",
        {
            Topic.BUFFERING: "turn off its Response Buffering and anything that rewrites pages, for this host name",
            Topic.SILENCE: "it cuts what is silent for 100 s: keep TAILER_HEARTBEAT below that, and text needs "
            "heartbeat=1",
            Topic.FORWARDED: "it sets both headers: count it in TAILER_TRUSTED_PROXIES",
        },
    ),
    Proxy(
        "Heroku's router",
        "heroku",
        _heroku,
        {
            Topic.SILENCE: "it cuts what is silent for 55 s: keep TAILER_HEARTBEAT below that, and text needs "
            "heartbeat=1",
            Topic.FORWARDED: "it sets both headers: TAILER_TRUSTED_PROXIES=1",
        },
    ),
    Proxy(
        "nginx",
        "nginx",
        lambda signs: signs.header("server").startswith(("nginx", "openresty")),
        {
            Topic.BUFFERING: "`proxy_buffering off;` and `gzip off;`, and no `proxy_ignore_headers X-Accel-Buffering`",
            Topic.COMPRESSION: "`gzip off;` for Tailer, and no `proxy_set_header Accept-Encoding`",
            Topic.SILENCE: "`proxy_read_timeout 1h;`",
            Topic.PROTOCOL: '`proxy_http_version 1.1;` and `proxy_set_header Connection "";`',
            Topic.FORWARDED: "`proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;` and "
            "`proxy_set_header X-Forwarded-Proto $scheme;`",
            Topic.HOST: "`proxy_set_header Host $http_host;`",
        },
    ),
    Proxy(
        "Caddy",
        "caddy",
        lambda signs: "caddy" in signs.header("server") or "caddy" in signs.header("via"),
        {
            Topic.BUFFERING: "no `encode` for Tailer",
            Topic.COMPRESSION: "no `encode` for Tailer",
            Topic.SILENCE: "no `read_timeout` in `transport http`, and no `timeouts` `write` in the server's options",
            Topic.FORWARDED: "it sets both headers: TAILER_TRUSTED_PROXIES=1; with a proxy before it, name that one in "
            "`trusted_proxies`",
        },
    ),
    Proxy(
        "Traefik",
        "traefik",
        lambda signs: {"X-Forwarded-Server", "X-Real-Ip"} <= set(signs.request),
        {
            Topic.BUFFERING: "no `buffering` or `compress` middleware for Tailer, and "
            "`responseForwarding.flushInterval: 1ms` for its service",
            Topic.SILENCE: "`transport.respondingTimeouts.writeTimeout: 0` for its entry point",
            Topic.FORWARDED: "it sets both headers: TAILER_TRUSTED_PROXIES=1; with a proxy before it, name that one in "
            "`forwardedHeaders.trustedIPs`",
        },
    ),
    Proxy(
        "HAProxy",
        "haproxy",
        _haproxy,
        {
            Topic.BUFFERING: "no `http-response wait-for-body` for Tailer",
            Topic.COMPRESSION: "no `compression` for Tailer",
            Topic.DELAY: "`option http-no-delay`",
            Topic.SILENCE: "`timeout server 1h`",
            Topic.FORWARDED: "`option forwardfor` and "
            "`http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]`",
        },
    ),
)


def recognise(signs: Signs) -> list[Proxy]:
    """Return the proxies that are known by what they leave in headers, in no order. Some leave nothing."""
    return [proxy for proxy in PROXIES if proxy.recognised(signs)]


def what_to_set(found: Iterable[Proxy], topic: Topic) -> str:
    """Return what to do about ``topic``, in those of the proxies that can be told so."""
    told = [f"{proxy.name}: {proxy.advice[topic]}" for proxy in found if topic in proxy.advice]
    return "; ".join(told) or f"{topic.value} (docs/proxies.md)"
