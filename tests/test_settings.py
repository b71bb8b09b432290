"""The settings: what the environment may say, and that everything else is refused by name."""

import dataclasses
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tailer
from tailer.embedded import EmbeddedServer
from tailer.errors import SettingsError
from tailer.settings import (
    CAPTURE_MODES,
    Settings,
    cluster_url,
    environment,
    redis_url,
    sentinel_url,
    size,
    switch,
    web_url,
    whole_number,
)
from tailer.store import connect

NAMES = {
    "TAILER_REDIS_URL",
    "RQ_REDIS_URL",
    "REDIS_URL",
    "TAILER_CAPTURE",
    "TAILER_CONSOLE",
    "TAILER_TTL",
    "TAILER_TTL_FINISHED",
    "TAILER_TTL_FAILED",
    "TAILER_TTL_QUEUES",
    "TAILER_MAX_MEMORY",
    "TAILER_KEEP_HEAD",
    "TAILER_KEEP_TAIL",
    "TAILER_BUFFER",
    "TAILER_SPILL",
    "TAILER_HEARTBEAT",
    "TAILER_STALL_TIMEOUT",
    "TAILER_AUTH",
    "TAILER_TOKENS",
    "TAILER_SECRET_KEY",
    "TAILER_TRUSTED_PROXIES",
    "TAILER_CORS_ORIGINS",
    "TAILER_MAX_FOLLOWERS",
    "TAILER_MAX_FOLLOWERS_EACH",
    "TAILER_URL",
    "TAILER_REDACT",
    "TAILER_ARCHIVE",
    "TAILER_ARCHIVE_AFTER",
    "TAILER_ARCHIVE_RELEASE",
    "TAILER_ARCHIVE_REMEMBER",
    "TAILER_TOKEN",
    "DYNO",
    "DEMO_KEEP",
}


def test_with_nothing_set_there_are_defaults():
    """An empty environment gives a worker and a web side for a Redis on this machine, closed to others."""
    settings = Settings.from_env({})
    assert settings == Settings()
    assert (settings.log_url, settings.rq_url, settings.rq_url_given) == (None, "redis://127.0.0.1:6379/0", False)
    assert (settings.capture, settings.console, settings.auth) == ("separate", True, "loopback")
    assert (settings.ttl, settings.buffer, settings.spill) == (604_800, 8_388_608, 268_435_456)
    assert (settings.archive, settings.archive_after, settings.archive_release) == (None, 60, 86_400)
    assert settings.archive_remember == 7_776_000
    assert (settings.heartbeat, settings.url, settings.dyno) == (15.0, None, False)
    assert (settings.tokens, settings.secret_keys, settings.trusted_proxies) == ((), (), 0)
    assert (settings.cors_origins, settings.max_followers, settings.max_followers_each) == ((), 20_000, 500)


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("REDIS_URL", "redis://h:1/2", "rq_url", "redis://h:1/2"),
        ("REDIS_URL", "rediss://:pass@h:1", "rq_url", "rediss://:pass@h:1"),
        ("REDIS_URL", "rediss://h/0?ssl_cert_reqs=none", "rq_url", "rediss://h/0?ssl_cert_reqs=none"),
        ("TAILER_REDIS_URL", "redis+sentinel://h:1,i/logs/3", "log_url", "redis+sentinel://h:1,i/logs/3"),
        ("TAILER_REDIS_URL", "redis+cluster://h:1,i", "log_url", "redis+cluster://h:1,i"),
        ("REDIS_URL", "unix:///run/redis.sock?db=1", "rq_url", "unix:///run/redis.sock?db=1"),
        ("REDIS_URL", "redis://[::1]:6379/", "rq_url", "redis://[::1]:6379/"),
        ("REDIS_URL", "redis://h", "rq_url_given", True),
        ("RQ_REDIS_URL", "redis://h", "rq_url", "redis://h"),
        ("TAILER_REDIS_URL", "redis://h", "log_url", "redis://h"),
        *[("TAILER_CAPTURE", mode, "capture", mode) for mode in CAPTURE_MODES],
        ("TAILER_CONSOLE", "0", "console", False),
        ("TAILER_CONSOLE", "Yes", "console", True),
        ("TAILER_TTL", "60", "ttl", 60),
        ("TAILER_TTL", "3153600000", "ttl", 3_153_600_000),
        ("TAILER_TTL", "12h", "ttl", 43_200),
        ("TAILER_TTL_FINISHED", "1d12h", "ttl_finished", 129_600),
        ("TAILER_TTL_FAILED", "90", "ttl_failed", 90),
        (
            "TAILER_TTL_QUEUES",
            " mail=1h\nlow-*=10m a=b=60 ",
            "ttl_queues",
            (("mail", 3600), ("low-*", 600), ("a=b", 60)),
        ),
        ("TAILER_MAX_MEMORY", "2GiB", "max_memory", 2 << 30),
        ("TAILER_MAX_MEMORY", "0", "max_memory", 0),
        ("TAILER_KEEP_HEAD", "0", "keep_head", 0),
        ("TAILER_KEEP_TAIL", "64KiB", "keep_tail", 65_536),
        ("TAILER_BUFFER", "64KiB", "buffer", 65_536),
        ("TAILER_BUFFER", "100000", "buffer", 100_000),
        ("TAILER_SPILL", "0", "spill", 0),
        ("TAILER_SPILL", "2 GiB", "spill", 2 << 30),
        ("TAILER_STALL_TIMEOUT", "2.5", "stall_timeout", 2.5),
        ("TAILER_HEARTBEAT", "1", "heartbeat", 1.0),
        ("TAILER_HEARTBEAT", "2.5", "heartbeat", 2.5),
        ("TAILER_AUTH", "none", "auth", "none"),
        ("TAILER_SECRET_KEY", "k" * 16, "secret_keys", ("k" * 16,)),
        ("TAILER_SECRET_KEY", f" {'n' * 20}\n{'o' * 20} ", "secret_keys", ("n" * 20, "o" * 20)),
        ("TAILER_TRUSTED_PROXIES", "2", "trusted_proxies", 2),
        (
            "TAILER_CORS_ORIGINS",
            "https://a.example http://b:3000",
            "cors_origins",
            ("https://a.example", "http://b:3000"),
        ),
        ("TAILER_MAX_FOLLOWERS", "1", "max_followers", 1),
        ("TAILER_MAX_FOLLOWERS_EACH", "100", "max_followers_each", 100),
        ("TAILER_TOKEN", "abc.DEF~123+/-_==", "token", "abc.DEF~123+/-_=="),
        ("TAILER_URL", "https://logs.example.org/", "url", "https://logs.example.org"),
        ("TAILER_URL", "http://127.0.0.1:8000", "url", "http://127.0.0.1:8000"),
        ("DYNO", "web.1", "dyno", True),
        ("DEMO_KEEP", "1", "demo_keep", True),
    ],
)
def test_a_good_value_is_taken(variable, value, field, expected):
    """Each variable sets its field."""
    assert getattr(Settings.from_env({variable: value}), field) == expected


@pytest.mark.parametrize("name", sorted(NAMES))
def test_an_empty_variable_is_one_that_is_not_set(name):
    """`NAME= command` is how a shell unsets a variable for a command."""
    assert Settings.from_env({name: ""}) == Settings()


def test_rqs_own_variable_is_asked_first():
    """RQ_REDIS_URL is what `rq worker` reads first; the log's URL is neither."""
    both = {"RQ_REDIS_URL": "redis://first", "REDIS_URL": "redis://second"}
    assert Settings.from_env(both).rq_url == "redis://first"
    assert Settings.from_env({**both, "RQ_REDIS_URL": ""}).rq_url == "redis://second"
    assert Settings.from_env({**both, "TAILER_REDIS_URL": "redis://third"}).log_url == "redis://third"


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("TAILER_CAPTURE", "both", "use one of separate, merged, pty"),
        ("TAILER_CAPTURE", "PTY", "use one of separate, merged, pty"),
        ("TAILER_CONSOLE", "maybe", "use 1 or 0"),
        ("TAILER_KEEP_HEAD", "some", "use 0 for none, or such as 8MiB"),
        ("TAILER_KEEP_TAIL", "1KiB", "use at least 64KiB"),
        ("TAILER_TTL", "59", "use seconds, or such as 12h or 7d; at least 60 s and no more than a century"),
        ("TAILER_TTL", "-60", "use seconds, or such as 12h or 7d; at least 60 s and no more than a century"),
        ("TAILER_TTL", "1 h", "use seconds, or such as 12h or 7d; at least 60 s and no more than a century"),
        ("TAILER_TTL_FINISHED", "59s", "use seconds, or such as 12h or 7d; at least 60 s and no more than a century"),
        ("TAILER_TTL_QUEUES", "mail", "use QUEUE=TIME pairs with spaces between them, such as mail=1h low-*=10m"),
        ("TAILER_TTL_QUEUES", "=1h", "use QUEUE=TIME pairs with spaces between them, such as mail=1h low-*=10m"),
        ("TAILER_TTL_QUEUES", "mail=1", "use seconds, or such as 12h or 7d; at least 60 s and no more than a century"),
        ("TAILER_MAX_MEMORY", "1KiB", "use 0 for no limit, or at least 1MiB, such as 2GiB"),
        ("TAILER_TTL", "1_000", "use seconds, or such as 12h or 7d; at least 60 s and no more than a century"),
        ("TAILER_TTL", "٦٠٠", "use seconds, or such as 12h or 7d; at least 60 s and no more than a century"),
        ("TAILER_TTL", "3153600001", "use seconds, or such as 12h or 7d; at least 60 s and no more than a century"),
        ("TAILER_TTL", "9" * 30, "use seconds, or such as 12h or 7d; at least 60 s and no more than a century"),
        ("TAILER_BUFFER", "64KB", "use at least 64KiB"),
        ("TAILER_BUFFER", "1024", "use at least 64KiB"),
        ("TAILER_BUFFER", "-1", "use at least 64KiB"),
        ("TAILER_SPILL", "lots", "use 0 for none, or such as 256MiB"),
        ("TAILER_SPILL", "1e9", "use 0 for none, or such as 256MiB"),
        ("TAILER_STALL_TIMEOUT", "0.5", "use seconds, from 1 to 86400"),
        ("TAILER_STALL_TIMEOUT", "86401", "use seconds, from 1 to 86400"),
        ("TAILER_HEARTBEAT", "0.5", "use seconds, at least 1"),
        ("TAILER_HEARTBEAT", "nan", "use seconds, at least 1"),
        ("TAILER_HEARTBEAT", "inf", "use seconds, at least 1"),
        ("TAILER_HEARTBEAT", "1e999", "use seconds, at least 1"),
        ("TAILER_HEARTBEAT", "soon", "use seconds, at least 1"),
        ("TAILER_AUTH", "off", "use one of loopback, none"),
        ("TAILER_TRUSTED_PROXIES", "-1", "use the number of proxies in front, 0 to 10"),
        ("TAILER_TRUSTED_PROXIES", "11", "use the number of proxies in front, 0 to 10"),
        ("TAILER_TRUSTED_PROXIES", "10.0.0.1", "use the number of proxies in front, 0 to 10"),
        ("TAILER_CORS_ORIGINS", "*", "use origins such as https://app.example.org, with spaces between them"),
        ("TAILER_CORS_ORIGINS", "https://a/", "use origins such as https://app.example.org, with spaces between them"),
        ("TAILER_CORS_ORIGINS", "null", "use origins such as https://app.example.org, with spaces between them"),
        ("TAILER_MAX_FOLLOWERS", "0", "use a whole number from 1"),
        ("TAILER_MAX_FOLLOWERS_EACH", "many", "use a whole number from 1"),
        ("TAILER_URL", "logs.example.org", "use http://HOST:PORT or https://HOST"),
        ("TAILER_URL", "http://", "use http://HOST:PORT or https://HOST"),
        ("TAILER_URL", "http://h:port", "use http://HOST:PORT or https://HOST"),
        ("DEMO_KEEP", "2", "use 1 or 0"),
    ],
)
def test_a_bad_value_is_refused_by_name(variable, value, allowed):
    """The error is one line that names the variable, its value and what is allowed."""
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({variable: value})
    assert str(refused.value) == f"{variable}={value!r} cannot be used: {allowed}"


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("TAILER_SECRET_KEY", "too-short", "use keys of 16 characters or more"),
        ("TAILER_SECRET_KEY", "a-key-that-is-long-enough too-short", "use keys of 16 characters or more"),
        ("TAILER_TOKEN", "ann:not-the-token-alone", "use the token alone, without its name"),
        ("TAILER_TOKEN", "a token\nX-Header: x", "use the token alone, without its name"),
    ],
)
def test_a_bad_secret_is_refused_without_being_shown(variable, value, allowed):
    """The error names the variable and what is allowed, and nothing of the value."""
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({variable: value})
    assert str(refused.value).startswith(f"{variable}='…' cannot be used: {allowed}")


@pytest.mark.parametrize("variable", ["TAILER_REDIS_URL", "RQ_REDIS_URL", "REDIS_URL"])
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("http://h:1", "http://…"),
        ("redis://", "redis://…"),
        ("redis://:secret@/0", "redis://…"),
        ("redis://:secret@h:port/0", "redis://…"),
        ("redis://:secret@h:99999/0", "redis://…"),
        ("redis://:secret@h/database", "redis://…"),
        ("redis://:secret@h/0?no_such_option=1", "redis://…"),
        ("redis://:secret@h/0?socket_timeout=soon", "redis://…"),
        ("rediss://:secret@h/0?ssl_cert_reqs=perhaps", "rediss://…"),
        ("redis+sentinel://:secret@h:1", "redis+sentinel://…"),
        ("redis+sentinel://:secret@h:x/logs", "redis+sentinel://…"),
        ("redis+sentinel://:secret@h:1,/logs", "redis+sentinel://…"),
        ("redis+cluster://", "redis+cluster://…"),
        ("redis+cluster://:secret@h:x", "redis+cluster://…"),
        ("redis+cluster://:secret@h:1,", "redis+cluster://…"),
        ("redis+cluster://:secret@h:1/3", "redis+cluster://…"),
        ("redis+cluster://:secret@h:1?ssl=1", "redis+cluster://…"),
        ("unix://", "unix://…"),
        (":secret@h:6379", "…"),
        ("user:secret@h://x", "…"),
        ("h:6379", "…"),
        ("redis", "…"),
        ("redis://[::1", "redis://…"),
    ],
)
def test_a_bad_redis_url_is_refused_without_its_password(variable, value, shown):
    """What redis-py could not use is refused at once, and no more than the URL's scheme is repeated."""
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({variable: value})
    assert str(refused.value).startswith(f"{variable}={shown!r} cannot be used: use redis://HOST:PORT/DB, rediss://")
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_urls_that_are_taken_can_be_connected_to(tmp_path):
    """A server is reached by each kind of URL that the settings take, whatever options it has."""
    with EmbeddedServer(extra=("--unixsocket", str(tmp_path / "socket"))) as server:
        port = server.url.rpartition(":")[2].partition("/")[0]
        for url in (
            server.url,
            f"redis://127.0.0.1:{port}",
            f"redis://localhost:{port}/3?socket_timeout=2&health_check_interval=5",
            f"unix://{tmp_path}/socket",
            f"unix://{tmp_path}/socket?db=2",
        ):
            with connect(redis_url("REDIS_URL", url)) as connection:
                assert connection.ping()


@pytest.mark.parametrize(
    ("url", "used"),
    [
        ("rediss://host", "rediss://host?ssl_cert_reqs=none"),
        ("rediss://host/1?socket_timeout=9", "rediss://host/1?socket_timeout=9&ssl_cert_reqs=none"),
        ("rediss://host?ssl_cert_reqs=required", "rediss://host?ssl_cert_reqs=required"),
        ("redis://host", "redis://host"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_certificates_are_not_verified_if_so_told(url, used):
    """With TAILER_REDIS_VERIFY=0 a URL with TLS that says nothing of certificates takes any; others stay."""
    environ = {"REDIS_URL": url, "TAILER_REDIS_URL": url, "TAILER_REDIS_VERIFY": "0"}
    settings = Settings.from_env(environ)
    assert (settings.rq_url, settings.log_url) == (used, used)
    assert Settings.from_env({**environ, "TAILER_REDIS_VERIFY": ""}).rq_url == url


@given(st.dictionaries(st.sampled_from(sorted(NAMES)), st.text(max_size=20) | st.sampled_from(["redis://h", "1", "0"])))
def test_whatever_is_set_there_are_settings_or_a_settings_error(environ):
    """No value ends in anything else than usable settings or one line that names a variable."""
    try:
        settings = Settings.from_env(environ)
    except SettingsError as error:
        named = str(error).partition("=")[0]
    else:
        named = ""
    if named:
        assert named in environ
        return
    assert settings.capture in CAPTURE_MODES
    assert 60 <= settings.ttl < 2**40
    assert settings.buffer >= 1 << 16
    assert settings.spill >= 0
    assert 1 <= settings.heartbeat < float("inf")


def test_nothing_else_reads_the_environment():
    """Only the settings' module looks at environment variables, so that all of them are in one place."""
    package = Path(tailer.__file__).parent
    readers = {path.name for path in package.glob("*.py") if re.search(r"\bos\.(environ|getenv)", path.read_text())}
    assert readers == {"settings.py"}


def test_settings_cannot_be_changed():
    """They are read once; what changes afterwards would be seen by a part of the program only."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().ttl = 1


def test_the_environment_of_a_process_of_ours(monkeypatch):
    """A child gets this process's variables, with those that are given changed."""
    monkeypatch.setenv("KEPT", "1")
    monkeypatch.setenv("CHANGED", "1")
    child = environment(CHANGED="2", ADDED="3")
    assert (child["KEPT"], child["CHANGED"], child["ADDED"]) == ("1", "2", "3")


@pytest.mark.parametrize(
    ("value", "expected"),
    [("1", True), ("true", True), (" ON ", True), ("yes", True), ("0", False), ("False", False), ("off", False)],
)
def test_switches(value, expected):
    """The usual words for yes and no, in any case."""
    assert switch(value) is expected


@pytest.mark.parametrize("value", ["", "2", "y", "10", "tru", "\uff11"])
def test_no_switch(value):
    """Anything else is refused."""
    with pytest.raises(ValueError, match="use 1 or 0"):
        switch(value)


@pytest.mark.parametrize(
    ("value", "expected"), [("0", 0), ("1B", 1), ("1KiB", 1024), ("8 MiB", 8 << 20), ("1GiB", 1 << 30)]
)
def test_sizes(value, expected):
    """Bytes, or binary multiples of them."""
    assert size(value) == expected


@given(st.text(max_size=6))
def test_numbers_are_ascii_digits(value):
    """`whole_number` takes what a shell user would call a number, and nothing that `int()` takes besides."""
    try:
        number = whole_number(value)
    except ValueError:
        assert not re.fullmatch("[0-9]+", value)
    else:
        assert re.fullmatch("[0-9]+", value)
        assert number == int(value)


@pytest.mark.parametrize("value", ["https://h", "https://h/", "http://h:80/logs/"])
def test_web_urls_end_without_a_slash(value):
    """So that paths can be put behind them."""
    assert web_url(value) == value.rstrip("/")


def test_a_url_of_sentinels_is_read_in_its_parts():
    """Sentinels with their ports, the master's name, and what that one wants to be told."""
    where = [("a", 1), ("b", 26379)]
    told = {"db": 2, "username": "u", "password": "p@:"}
    assert sentinel_url("redis+sentinel://u:p%40%3A@a:1,b/the%20logs/2") == (where, "the logs", told)
    nothing = {"db": 0, "username": None, "password": None}
    assert sentinel_url("redis+sentinel://a:1,b/logs") == (where, "logs", nothing)


def test_a_url_of_a_cluster_is_read_in_its_parts():
    """Some of its nodes with their ports, and what all nodes want to be told."""
    where = [("a", 1), ("b", 6379)]
    assert cluster_url("redis+cluster://u:p%40%3A@a:1,b/") == (where, {"username": "u", "password": "p@:"})
    assert cluster_url("redis+cluster://a:1,b") == (where, {"username": None, "password": None})
