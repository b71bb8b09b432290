"""Links that are credentials: what is signed, by which key, and for how long."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import URLSafeTimedSerializer

from tailer.errors import LinksOff, Unauthorized, UnknownJob
from tailer.links import Links

OLD, NEW = "the old key " * 3, "the new key " * 3


def test_a_link_is_read_as_it_was_signed():
    """It names its job and the time at which it ends."""
    began = time.time()
    link = Links([NEW]).read(Links([NEW]).sign("job", 60))
    assert link.job_id == "job"
    assert began + 58 < link.expires_at < began + 61


def test_the_url_is_the_page_of_the_job():
    """Below any root, with or without a slash at its end; the credential is fit for a URL as it is."""
    links = Links([NEW])
    for base in ("https://logs.example.org", "https://logs.example.org/"):
        url = links.url(base, "job", seconds=60)
        assert url.startswith("https://logs.example.org/jobs/job?link=")
        assert links.read(url.partition("link=")[2]).job_id == "job"


def test_the_first_key_signs_and_all_are_taken():
    """A new key is put in front of the old ones; taking an old one away ends what it has signed."""
    old = Links([OLD]).sign("job", 60)
    both = Links([NEW, OLD])
    assert both.read(old).job_id == "job"
    new = both.sign("job", 60)
    assert Links([NEW]).read(new).job_id == "job"
    for keys, link in (([NEW], old), ([OLD], new), ([], new)):
        with pytest.raises(Unauthorized, match="this link is not valid"):
            Links(keys).read(link)


def test_a_link_ends():
    """Behind its time it says so."""
    with pytest.raises(Unauthorized, match="this link has expired"):
        Links([NEW]).read(Links([NEW]).sign("job", 0))


@given(st.data())
def test_a_changed_link_is_none_or_the_same(data):
    """Whatever is changed in it, added or taken away, it never becomes one for another job or another time."""
    links = Links([NEW])
    whole = links.sign("job", 60)
    at = data.draw(st.integers(0, len(whole)))
    changed = whole[:at] + data.draw(st.text(max_size=3)) + whole[at + data.draw(st.integers(0, 3)) :]
    try:
        # base64 is read with characters in it that are none, and its last one has bits that mean nothing.
        assert links.read(changed) == links.read(whole)
    except Unauthorized:
        assert changed != whole


@pytest.mark.parametrize("payload", [["job", "60"], ["job"], {"job": 60}, None, ["job", 60, 60], 60])
def test_what_a_key_has_signed_for_something_else_is_no_link(payload):
    """Also where another program signs with the same key and the same salt."""
    signed = URLSafeTimedSerializer(NEW, "tailer.link").dumps(payload)
    with pytest.raises(Unauthorized):
        Links([NEW]).read(signed)
    salted = URLSafeTimedSerializer(NEW, "another").dumps(["job", 60])
    with pytest.raises(Unauthorized):
        Links([NEW]).read(salted)


def test_nothing_is_signed_without_a_key_or_for_what_is_no_job():
    """The error says which setting is missing."""
    with pytest.raises(LinksOff, match="TAILER_SECRET_KEY"):
        Links([]).sign("job", 60)
    with pytest.raises(UnknownJob):
        Links([NEW]).url("https://host", "../x")
