"""Who is let in: by a token, a session, a link, an app's own login, or for being on this machine; asked without Redis.

Whoever is let in gets a 503 here, for there is none.
"""

import base64
import hashlib
import re
from http import HTTPStatus

import pytest
from flask import Flask, redirect
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import TimestampSigner

from tailer.auth import COOKIE, FORWARDED, SESSION_S
from tailer.links import Links
from tailer.readers import Reader
from tailer.settings import Settings
from tailer.tokens import parse
from tailer.web import blueprint, create_app, init_app

NOBODY_HOME = "redis://127.0.0.1:1/0"
ANN, BOB = "ann-s-token-0123456789", "bob-s-token-0123456789"
KEY = "a key to sign links with"
IN, UNKNOWN, FORBIDDEN = HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN
PATHS = ["/jobs", "/jobs/x", "/jobs/x/log", "/logs?format=sse&job=x", "/jobs/healthz", "/jobs/login"]
BROWSER = {"Accept": "text/html", "User-Agent": "Mozilla/5.0"}


def app(**chosen):
    """The application with these settings, and no Redis."""
    return create_app(Settings(rq_url=NOBODY_HOME, **chosen))


@pytest.fixture(scope="module")
def locked():
    """A client of an application that wants tokens."""
    served = app(tokens=parse(f"ann:{ANN}:admin bob:{BOB}:queue=b"), secret_keys=(KEY,))
    return served.test_client(use_cookies=False)  # else it would not send those of a test


@pytest.fixture(scope="module")
def default():
    """A client of an application without any settings."""
    return app().test_client()


def bearer(token):
    """The header."""
    return {"Authorization": f"Bearer {token}"}


def basic(name, password):
    """The header."""
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


# Tokens.


@pytest.mark.parametrize("path", PATHS)
def test_without_a_token_nothing_is_told(locked, path):
    """Not to this machine either: behind a proxy everybody seems to come from here. The answer names both schemes."""
    answer = locked.get(path)
    assert answer.status_code == UNKNOWN
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="tailer", Basic realm="tailer", charset="UTF-8"'
    assert ANN not in answer.text
    assert locked.post("/jobs/x/link").status_code == UNKNOWN


@pytest.mark.parametrize("headers", [bearer(ANN), basic("", ANN), basic("ann", ANN), basic("anybody", ANN)])
def test_a_token_lets_in_as_bearer_and_as_the_password_of_basic(locked, headers):
    """What the user is called does not matter: the token says who it is."""
    assert locked.get("/jobs", headers=headers).status_code == IN


@pytest.mark.parametrize(
    "headers",
    [
        bearer(""),
        bearer(ANN[:-1]),
        bearer(ANN + "x"),
        bearer(f"ann:{ANN}"),
        bearer(hashlib.sha256(ANN.encode()).hexdigest()),
        basic(ANN, ""),
        basic("ann", "ann"),
        {"Authorization": ANN},
        {"Authorization": f"Token {ANN}"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode()},
        {"Authorization": f"Bearer {ANN}, Bearer {ANN}"},
        {"Cookie": f"{COOKIE}={ANN}"},
        {"X-Token": ANN},
    ],
)
def test_nothing_else_lets_in(locked, headers):
    """Neither a part of a token, nor its hash, nor a token in another place, nor what is malformed."""
    assert locked.get("/jobs", headers=headers).status_code == UNKNOWN
    assert locked.get(f"/jobs?token={ANN}&access_token={ANN}").status_code == UNKNOWN


@given(header=st.binary(max_size=60))
def test_no_authorization_header_breaks_anything(locked, header):
    """Whatever bytes it has: 401, and never a 500."""
    text = header.decode("latin-1").replace("\r", "").replace("\n", "").replace("\0", "")
    for value in (text, f"Basic {text}", f"Bearer {text}"):
        assert locked.get("/jobs", environ_base={"HTTP_AUTHORIZATION": value}).status_code == UNKNOWN


# Sessions.


def logged_in(client, token=ANN, **more):
    """The answer to a login."""
    return client.post("/login", data={"token": token, **more})


def cookie_of(answer):
    """Value and attributes of the cookie that it sets."""
    value, *attributes = answer.headers["Set-Cookie"].split("; ")
    return value.partition("=")[2], attributes


def test_a_login_gives_a_cookie_that_lets_in(locked):
    """It is not the token, cannot be read by a script, and is sent by our own pages only."""
    answer = logged_in(app(tokens=parse(f"ann:{ANN}")).test_client())
    session, attributes = cookie_of(answer)
    assert answer.status_code == HTTPStatus.SEE_OTHER
    assert ANN not in str(answer.headers)
    assert {"HttpOnly", "SameSite=Strict", "Path=/", f"Max-Age={SESSION_S}"} <= set(attributes)
    assert "Secure" not in attributes
    assert locked.get("/jobs", headers={"Cookie": f"{COOKIE}={session}"}).status_code == IN


@pytest.mark.parametrize(
    "how",
    [
        {"base_url": "https://localhost"},
        {"headers": {"X-Forwarded-Proto": "https"}},
        {"headers": {"X-Forwarded-Proto": "http, https"}},
    ],
)
def test_behind_tls_the_cookie_stays_there(how):
    """Whether the server ends TLS or a proxy in front of it, the browser is told to send it nowhere else."""
    client = app(tokens=parse(f"ann:{ANN}")).test_client()
    assert "Secure" in cookie_of(client.post("/login", data={"token": ANN}, **how))[1]


def test_a_session_ends_with_its_token_and_its_time(locked):
    """Another token under the same name, another name, and an old session are nobody."""
    session, _ = cookie_of(logged_in(app(tokens=parse(f"ann:{ANN}")).test_client()))
    replaced = app(tokens=parse(f"ann:{BOB}")).test_client(use_cookies=False)
    assert replaced.get("/jobs", headers={"Cookie": f"{COOKIE}={session}"}).status_code == UNKNOWN
    for forged in (session.replace("ann", "bob"), session[:-2], "ann", "", "ann:x:y", "\xff"):
        assert locked.get("/jobs", headers={"Cookie": f"{COOKIE}={forged}"}).status_code == UNKNOWN

    class Past(TimestampSigner):
        def get_timestamp(self):
            return super().get_timestamp() - SESSION_S - 2

    (token,) = parse(f"ann:{ANN}")
    old = Past(token.digest, "tailer.session", sep=":", digest_method=hashlib.sha256).sign("ann").decode()
    assert locked.get("/jobs", headers={"Cookie": f"{COOKIE}={old}"}).status_code == UNKNOWN


def test_who_gives_a_wrong_token_is_asked_again(caplog):
    """Without a cookie, with a word why; and the operator can see that somebody tries, but not what."""
    client = app(tokens=parse(f"ann:{ANN}")).test_client()
    answer = client.post("/login", data={"token": BOB}, environ_base={"REMOTE_ADDR": "fe80::1\nforged line"})
    assert answer.status_code == UNKNOWN
    assert "This token is not known." in answer.text
    assert "Set-Cookie" not in answer.headers
    assert BOB not in answer.text + caplog.text
    (record,) = [record for record in caplog.records if record.name == "tailer.login"]
    assert record.getMessage() == r"a login with an unknown token, from 'fe80::1\nforged line'"


@pytest.mark.parametrize("path", ["/", "/jobs", "/jobs/x", "/view?job=a&job=b", "/jobs/x?q=a%26b"])
def test_a_browser_is_led_to_the_login_and_back(path):
    """From whatever page it asks for; a program is not."""
    client = app(tokens=parse(f"ann:{ANN}")).test_client()
    led = client.get(path, headers=BROWSER)
    assert led.status_code == HTTPStatus.SEE_OTHER
    page = client.get(led.headers["Location"], headers=BROWSER)
    assert page.status_code == HTTPStatus.OK
    (target,) = re.findall('name="next" value="([^"]*)"', page.text)
    target = target.replace("&amp;", "&")
    back = logged_in(client, next=target)
    assert (back.status_code, back.headers["Location"]) == (HTTPStatus.SEE_OTHER, path)
    assert client.get(path, headers=BROWSER).status_code == HTTPStatus.OK
    assert client.get(led.headers["Location"], headers=BROWSER).headers["Location"] == path
    out = client.post("/logout")
    assert out.headers["Location"] == "/login"
    assert client.get(path, headers=BROWSER).status_code == HTTPStatus.SEE_OTHER


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/ /evil.example",
        "javascript:alert(1)",
        "/jobs\r\nSet-Cookie: a=b",
        "jobs",
        "",
    ],
)
def test_a_login_leads_nowhere_else(target):
    """What is not a path of ours is not gone to: a link to the login cannot lead to another site."""
    client = app(tokens=parse(f"ann:{ANN}")).test_client()
    assert logged_in(client, next=target).headers["Location"] == "/"
    assert (
        'value="/"' in app(tokens=parse(f"ann:{ANN}")).test_client().get("/login", query_string={"next": target}).text
    )


def test_what_is_said_on_the_login_page_is_ours(locked):
    """Nothing of the request becomes markup, and the page may run nothing and send its form to us only."""
    page = locked.get("/login", query_string={"next": '/"><script>x</script>', "why": "<b>"})
    assert "<script>" not in page.text
    assert "<b>" not in page.text
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "form-action 'self'" in policy
    assert "script-src" not in policy
    assert "frame-ancestors 'none'" in policy


def test_who_comes_from_another_site_is_asked_for_the_cookie_once_more(locked):
    """A strict cookie does not come along with a link on another page: our own page asks again, once."""
    first = locked.get("/login?next=/jobs/x", headers={**BROWSER, "Sec-Fetch-Site": "cross-site"})
    (url,) = re.findall('http-equiv="refresh" content="0; url=([^"]*)"', first.text)
    again = locked.get(url.replace("&amp;", "&"), headers={**BROWSER, "Sec-Fetch-Site": "cross-site"})
    assert 'value="/jobs/x"' in again.text
    assert "refresh" not in again.text


def test_without_tokens_there_is_nothing_to_log_in_with(default):
    """No page asks for what would not be used."""
    for answer in (default.get("/login"), default.post("/login", data={"token": ANN}), default.post("/logout")):
        assert answer.status_code == FORBIDDEN


def test_browsers_are_not_asked_with_a_window_of_their_own(locked):
    """It would open for whatever a script of the pane asks; so they are offered no Basic."""
    answer = locked.get("/jobs/x", headers={"Accept": "application/json", "User-Agent": "Mozilla/5.0 (X11)"})
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (UNKNOWN, 'Bearer realm="tailer"')
    assert answer.json["login"] == "/login"


# This machine.


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("client", ["192.0.2.1", "2001:db8::1", "10.0.0.1", "::ffff:192.0.2.1", "not an address"])
def test_by_default_strangers_are_told_nothing_but_health(default, path, client):
    """Whatever a job is called: logs are for this machine only, and the answer says what to set."""
    environ = {"REMOTE_ADDR": client}
    answer = default.get(path, environ_base=environ)
    assert answer.status_code == FORBIDDEN
    assert "TAILER_TOKENS" in answer.text
    for health in ("/healthz", "/readyz"):
        assert default.get(health, environ_base=environ).status_code in {HTTPStatus.OK, IN}


@pytest.mark.parametrize("client", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", ""])
def test_this_machine_is_let_in(default, client):
    """Loopback has many addresses, and a unix socket none."""
    assert default.get("/jobs", environ_base={"REMOTE_ADDR": client}).status_code == IN


@pytest.mark.parametrize("name", FORWARDED)
@pytest.mark.parametrize("proxies", [0, 1, 2])
@pytest.mark.parametrize("client", ["127.0.0.1", "192.0.2.1"])
def test_a_proxy_makes_nobody_local(name, proxies, client):
    """A proxy on this machine connects from here, and what a client claims of itself may say that it is here."""
    value = {"Forwarded": "for=127.0.0.1", "Via": "1.1 proxy"}.get(name, "127.0.0.1")
    for claimed in (value, f"{value}, {value}", f"{value}, {value}, {value}", ""):
        answer = (
            app(trusted_proxies=proxies)
            .test_client()
            .get("/jobs", headers={name: claimed}, environ_base={"REMOTE_ADDR": client})
        )
        assert answer.status_code == FORBIDDEN


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", IN),
        ("localhost:8000", IN),
        ("tailer.localhost", IN),
        ("127.0.0.1:8000", IN),
        ("127.9.9.9", IN),
        ("[::1]:8000", IN),
        ("LOCALHOST", IN),
        ("evil.example", FORBIDDEN),
        ("127.0.0.1.evil.example:8000", FORBIDDEN),
        ("localhost.evil.example", FORBIDDEN),
        ("evillocalhost", FORBIDDEN),
        ("192.0.2.1", FORBIDDEN),
        ("[2001:db8::1]", FORBIDDEN),
        ("[::1", FORBIDDEN),
        ("user@evil.example", FORBIDDEN),
        ("127.0.0.1@evil.example", FORBIDDEN),
    ],
)
def test_another_sites_page_cannot_pass_for_this_machine(default, host, status):
    """Its name may resolve to 127.0.0.1 (DNS rebinding), but it is that name that the browser asks for."""
    answer = default.get("/jobs", headers={"Host": host})
    assert answer.status_code == status
    if status == FORBIDDEN:
        assert "under its own name" in answer.text


def test_an_open_door_is_open_and_warned_of(caplog):
    """TAILER_AUTH=none serves everybody, whoever they claim to be, and says so when the process starts."""
    client = app(auth="none").test_client()
    assert "whoever reaches this server reads all logs" in caplog.text
    for headers in ({}, {"X-Forwarded-For": "192.0.2.1"}, {"Host": "logs.example.org"}):
        answer = client.get("/jobs", headers=headers, environ_base={"REMOTE_ADDR": "192.0.2.1"})
        assert answer.status_code == IN
    caplog.clear()
    app()
    app(tokens=parse(f"ann:{ANN}"))
    assert not caplog.records


@pytest.mark.parametrize(("proxies", "seen"), [(0, "10.0.0.1"), (1, "198.51.100.7"), (2, "192.0.2.1")])
def test_as_many_proxies_are_believed_as_are_trusted(proxies, seen):
    """What a client adds itself stands before that, and is not believed."""
    served = app(auth="none", trusted_proxies=proxies)
    asked = []
    served.before_request_funcs.setdefault(None, []).append(lambda: asked.append(_environ()))
    forwarded = {"X-Forwarded-For": "127.0.0.1, 192.0.2.1, 198.51.100.7", "X-Forwarded-Host": "evil.example"}
    served.test_client().get("/jobs", headers=forwarded, environ_base={"REMOTE_ADDR": "10.0.0.1"})
    assert asked == [(seen, "localhost")]


def _environ():
    from flask import request  # noqa: PLC0415

    return request.remote_addr, request.host


# Links.


def test_a_link_lets_in_to_one_job(locked, default):
    """In each form of its log, from anywhere; nothing else is told with it, and it cannot be handed on for longer."""
    link = Links([KEY]).sign("x", 60)
    for client, environ in ((locked, {}), (app(secret_keys=(KEY,)).test_client(), {"REMOTE_ADDR": "192.0.2.1"})):
        for path in ("/jobs/x", "/jobs/x/log", "/jobs/x/log?format=sse&tail=3", "/jobs/x/log?format=ndjson"):
            answer = client.get(f"{path}{'&' if '?' in path else '?'}link={link}", environ_base=environ)
            assert answer.status_code == IN or b"event: error" in answer.data
        assert client.get(f"/jobs/x?link={link}", headers=BROWSER, environ_base=environ).status_code == HTTPStatus.OK
        for path, status in (
            ("/jobs/y", 404),
            ("/jobs/y/log", 404),
            ("/jobs", 403),
            ("/logs?format=sse&list=1", 403),
        ):
            asked = f"{path}{'&' if '?' in path else '?'}link={link}"
            assert client.get(asked, environ_base=environ).status_code == status, path
        assert client.post(f"/jobs/x/link?link={link}", environ_base=environ).status_code == FORBIDDEN
        assert client.get(f"/jobs/x?link={link[:-3]}", environ_base=environ).status_code in {UNKNOWN, FORBIDDEN}
    assert default.get(f"/jobs/x?link={link}", environ_base={"REMOTE_ADDR": "192.0.2.1"}).status_code == UNKNOWN


def test_who_may_read_anyway_is_not_kept_out_by_an_old_link(locked):
    """Who has only that is told that it has expired, in a browser on the page where one logs in."""
    old = Links([KEY]).sign("x", 0)
    assert locked.get(f"/jobs/x?link={old}", headers=bearer(ANN)).status_code == IN
    answer = locked.get(f"/jobs/x?link={old}")
    assert answer.status_code == UNKNOWN
    assert "this link has expired" in answer.text
    client = app(tokens=parse(f"ann:{ANN}"), secret_keys=(KEY,)).test_client()
    led = client.get(f"/jobs/x?link={old}", headers=BROWSER)
    assert "This link is no longer valid." in client.get(led.headers["Location"]).text


@pytest.mark.parametrize(
    ("token", "asked", "status"),
    [
        (ANN, "30d", IN),
        (ANN, "721h", 400),
        (BOB, "24h", IN),
        (BOB, "25h", 400),
        (ANN, "", 400),
        (ANN, "0s", 400),
        (ANN, "1w", 400),
        (ANN, "-1h", 400),
    ],
)
def test_links_have_an_end(locked, token, asked, status):
    """A day at most for those who read, thirty for admins; the error says which parameter and what it takes."""
    answer = locked.post(f"/jobs/x/link?for={asked}", headers={**bearer(token), "Accept": "application/json"})
    assert answer.status_code == status
    if status == HTTPStatus.BAD_REQUEST:
        assert answer.json["parameter"] == "for"
        assert "use a duration such as 10m" in answer.json["allowed"]


def test_figures_are_for_admins(locked):
    """They are of all logs together, so that a reader of some must not have them; nor has a link."""
    for headers, status in ((bearer(ANN), HTTPStatus.OK), (bearer(BOB), FORBIDDEN), ({}, UNKNOWN)):
        assert locked.get("/metrics", headers=headers).status_code == status
    assert locked.get(f"/metrics?link={Links([KEY]).sign('x', 60)}").status_code == FORBIDDEN


# Other sites' pages.


@pytest.mark.parametrize("path", ["/jobs/x/link", "/login", "/logout"])
@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Origin": "http://localhost"}, True),
        ({"Origin": "https://localhost"}, True),
        ({"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": "https://logs.example.org", "Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "http://localhost.evil.example"}, False),
        ({"Origin": "http://localhost:8000"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://[::1"}, False),
        ({"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
    ],
)
def test_a_page_of_another_site_cannot_post(default, path, headers, allowed):
    """A browser says whose page asks; a program says nothing, and has no cookie that it does not know of."""
    answer = default.post(path, headers=headers)
    assert ("a page of another site" in answer.text) != allowed
    if not allowed:
        assert answer.status_code == FORBIDDEN


def test_other_sites_may_read_only_where_that_is_set():
    """CORS is off; TAILER_CORS_ORIGINS opens it for the sites that it names, with credentials of their own only."""
    site, other = "https://app.example.org", "https://evil.example"
    closed, opened = app().test_client(), app(cors_origins=(site,)).test_client()
    for client, origin, allowed in ((closed, site, None), (opened, site, site), (opened, other, None)):
        for method in ("GET", "OPTIONS"):
            answer = client.open("/jobs", method=method, headers={"Origin": origin})
            assert answer.headers.get("Access-Control-Allow-Origin") == allowed
            assert "Access-Control-Allow-Credentials" not in answer.headers
    preflight = opened.options("/jobs", headers={"Origin": site, "Access-Control-Request-Headers": "authorization"})
    assert (preflight.status_code, preflight.headers["Access-Control-Allow-Methods"]) == (HTTPStatus.OK, "GET, HEAD")
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    assert "Origin" in opened.get("/jobs").headers["Vary"]


# Sizes.


def test_what_is_too_large_is_not_looked_at(locked):
    """A query of more than 7 KiB, and a form of more than 16, are refused before anything is done with them."""
    assert locked.get(f"/jobs?queue={'x' * 7200}", headers=bearer(ANN)).status_code == HTTPStatus.REQUEST_URI_TOO_LONG
    large = {"token": "x" * 20_000}
    assert locked.post("/login", data=large).status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE


# An app's own login.


def test_below_a_prefix_the_login_is_there_too():
    """In an app that mounts the blueprint, tokens lead to its login page, and the cookie is for its paths only."""
    theirs = Flask("theirs")
    init_app(theirs, Settings(rq_url=NOBODY_HOME, tokens=parse(f"ann:{ANN}")))
    theirs.register_blueprint(blueprint, url_prefix="/tailer")
    client = theirs.test_client()
    where = {"environ_overrides": {"SCRIPT_NAME": "/app"}}
    led = client.get("/tailer/jobs/x", headers=BROWSER, **where)
    assert led.headers["Location"] == "/app/tailer/login?next=%2Fapp%2Ftailer%2Fjobs%2Fx"
    inside = client.post("/tailer/login", data={"token": ANN, "next": "/app/tailer/jobs/x"}, **where)
    assert inside.headers["Location"] == "/app/tailer/jobs/x"
    assert "Path=/app/tailer/" in cookie_of(inside)[1]
    outside = client.post("/tailer/login", data={"token": ANN, "next": "/app/admin"}, **where)
    assert outside.headers["Location"] == "/app/tailer/"


def test_an_app_decides_with_a_callable():
    """It is asked for each request, tokens count for nothing then, and strangers are led to the app's own page."""
    theirs = Flask("theirs")

    def identify(request):
        return Reader(name="ann") if request.headers.get("X-User") == "ann" else None

    chosen = Settings(rq_url=NOBODY_HOME, tokens=parse(f"ann:{ANN}"), secret_keys=(KEY,))
    init_app(theirs, chosen, identify=identify, login="/accounts/login")
    theirs.register_blueprint(blueprint, url_prefix="/tailer")
    client = theirs.test_client()
    assert client.get("/tailer/jobs", headers={"X-User": "ann"}).status_code == IN
    assert client.get("/tailer/jobs", headers=bearer(ANN)).status_code == UNKNOWN
    assert client.get("/tailer/login").status_code == FORBIDDEN
    led = client.get("/tailer/jobs/x?q=1", headers=BROWSER)
    assert led.headers["Location"] == "/accounts/login?next=%2Ftailer%2Fjobs%2Fx%3Fq%3D1"
    link = Links([KEY]).sign("x", 60)
    assert client.get(f"/tailer/jobs/x/log?link={link}").status_code == IN


def test_an_app_that_answers_first_is_let():
    """A login, a limit or a maintenance page of the app's own comes before all of ours, and is what is answered."""
    own = Flask(__name__)
    own.before_request(lambda: redirect("/its-own-login"))
    init_app(own, Settings(rq_url=NOBODY_HOME))
    own.register_blueprint(blueprint)
    answer = own.test_client().get("/jobs")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/its-own-login")


@pytest.mark.parametrize("path", PATHS)
def test_a_query_of_other_bytes_is_a_400(default, path):
    """Some servers let them through."""
    answer = default.get(path, environ_overrides={"QUERY_STRING": "a=\xff"}, headers={"Accept": "text/event-stream"})
    assert (answer.status_code, "percent-encoded" in answer.text) == (400, True)
