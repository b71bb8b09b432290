"""Tokens: what TAILER_TOKENS may say, whom a token lets read what, and that none is ever shown."""

import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailer.errors import SettingsError
from tailer.settings import Settings
from tailer.tokens import find, parse

SECRET = "correct.horse-battery~staple"
OTHER = "another-token-of-enough-length"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", (False, (), ())),
        (":read", (False, (), ())),
        (":admin", (True, (), ())),
        (":queue=web", (False, ("web",), ())),
        (":queue=web,queue=mail-*", (False, ("web", "mail-*"), ())),
        (":function=tests.*,admin,queue=a:b", (True, ("a:b",), ("tests.*",))),
    ],
)
def test_a_pair_may_have_options(options, expected):
    """Behind the token stand whether it is an admin's, and patterns of queues and functions."""
    (token,) = parse(f"ann:{SECRET}{options}")
    assert (token.name, token.admin, token.queues, token.functions) == ("ann", *expected)


@pytest.mark.parametrize(
    ("options", "reads"),
    [
        ("", {("web", "tests.jobs.hello"), ("mail-1", None), (None, None)}),
        (":queue=web", {("web", "tests.jobs.hello")}),
        (":queue=mail-*", {("mail-1", None)}),
        (":queue=w?b,queue=mail-[0-9]", {("web", "tests.jobs.hello"), ("mail-1", None)}),
        (":queue=*", {("web", "tests.jobs.hello"), ("mail-1", None)}),
        (":function=tests.*", {("web", "tests.jobs.hello")}),
        (":queue=mail-*,function=tests.*", set()),
        (":queue=WEB", set()),
    ],
)
def test_patterns_limit_what_is_read(options, reads):
    """A job must be of one of the queues and of one of the functions; what nobody knows matches no pattern."""
    (token,) = parse(f"ann:{SECRET}{options}")
    every = {("web", "tests.jobs.hello"), ("mail-1", None), (None, None)}
    assert {job for job in every if token.reads(*job)} == reads


@pytest.mark.parametrize(
    "value",
    [
        " ",
        SECRET,
        f":{SECRET}",
        "ann:short",
        f"ann:{SECRET},admin",
        f"ann:{SECRET}:queues=web",
        f"ann:{SECRET}:queue=",
        f"ann:{SECRET}:admin,read",
        f"ann:{SECRET}:admin=1",
        f"ann:{SECRET}:queue=a,,",
        f"ann:{SECRET} ann:{OTHER}",
        f"ann:{SECRET} bob:{SECRET}",
        f"an n:{SECRET}",
        f"ann:{SECRET}é",
        f"ann:{SECRET}\x1b[2J",
    ],
)
def test_what_cannot_be_understood_is_refused_and_no_token_repeated(value):
    """A limit that is mistyped must not leave the token without one; the error is one line without any secret."""
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({"TAILER_TOKENS": value})
    told = "".join(traceback.format_exception(refused.value))
    assert str(refused.value).startswith("TAILER_TOKENS='…' cannot be used: use ")
    assert "\n" not in str(refused.value)
    for secret in (SECRET, OTHER, "short", "horse"):
        assert secret not in told


def test_tokens_without_which_nobody_reads_do_not_go_with_an_open_door():
    """TAILER_AUTH=none and TAILER_TOKENS contradict each other; which of them is meant is for the operator to say."""
    with pytest.raises(SettingsError, match="TAILER_AUTH='none' cannot be used"):
        Settings.from_env({"TAILER_AUTH": "none", "TAILER_TOKENS": f"ann:{SECRET}"})


def test_no_secret_is_shown_by_what_holds_it():
    """Neither the settings nor their parts show a token, its hash or a key when they are printed."""
    settings = Settings.from_env({"TAILER_TOKENS": f"ann:{SECRET}", "TAILER_SECRET_KEY": OTHER, "TAILER_TOKEN": SECRET})
    shown = repr(settings) + repr(vars(settings)["tokens"])
    assert "ann" in shown
    assert SECRET not in shown
    assert OTHER not in shown
    assert repr(settings.tokens[0].digest) not in shown
    assert SECRET.encode() not in settings.tokens[0].digest


@given(st.text(max_size=80))
def test_only_the_token_itself_is_found(presented):
    """Nothing else that can be sent is taken for a token, in whatever it resembles one."""
    tokens = parse(f"ann:{SECRET} bob:{OTHER}")
    assert find(tokens, presented) is (None if presented != SECRET else tokens[0])


def test_each_token_is_found():
    """Wherever it stands among the others."""
    tokens = parse(f"ann:{SECRET} bob:{OTHER}")
    assert [find(tokens, secret) for secret in (SECRET, OTHER)] == list(tokens)
    assert find(tokens, SECRET[:-1]) is None
    assert find(tokens, f"ann:{SECRET}") is None
