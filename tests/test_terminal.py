"""What the command line writes to a terminal: nothing that a job prints, or a server says, does anything to it."""

import itertools
import os
import pty
import re
import select
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailer.records import SYSTEM
from tailer.terminal import Tame, jobs_table, printable
from tests.stack import BIN, ROOT, clean
from tests.written import Written

LINK = b"\x1b]8;;https://example.org/?a=b;c\x1b\\text\x1b]8;;\x1b\\"
HARMLESS = re.compile(
    rb"[^\x00-\x1f\x7f]|[\t\r\n]|\x1b\[[0-9;:]*m|\x1b\]8;[^;\x07\x1b]*;(?:(?:https?://|mailto:)[!-~]+)?(?:\x07|\x1b\\)"
)
ATTACKS = [
    b"\x1b]0;a title\x07",  # sets the window's title
    b"\x1b[21t",  # has the terminal type it
    b"\x1b]52;c;cm0gLXJmIH4K\x07",  # fills the clipboard
    b"\x1bP$q q\x1b\\",  # asks for a setting, and the terminal types the answer
    b"\x1b[6n",
    b"\x1b[c",
    b"\x05",
    b"\x1b[2J\x1b[H",  # wipes the screen
    b"\x1b[1A\x1b[2K",  # overwrites the line above
    b"\x1b[8;1;1t",
    b"\x1b[?1049h",
    b"\x1b]50;#\x07",
    b"\x1b]7;file:///etc\x07",
    b"\x1b]8;;file:///etc/passwd\x1b\\",
    b"\x1b]8;;javascript:alert(1)\x07",
    b"\x1b]8;;https://host/ \x1b[6n\x07",
    b"\x1b]133;C\x07",
    b"\x1b_Gi=1;AAAA\x1b\\",  # draws
    b"\x1bc",
    b"\x1b(0",  # other characters from now on
    b"\x0e",
    b"\x08\x08\x08",
    b"\x07",
    b"\x0b\x0c",
    b"\x7f",
    "\x9b2J".encode(),
    "\x9d0;a title\x9c".encode(),
    b"\x9b2J",
    b"\xc2\x1b[0m\x9b2J",
    b"\x1b[\x082J",
    b"\x1b\x1b[2J",
]


def tamed(*pieces):
    """What the terminal gets of these, but for the end."""
    tame = Tame()
    return b"".join(map(tame.tame, pieces))


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_what_steers_a_terminal_is_taken_out(attack):
    """Wherever it is cut, only harmless text of it is left, and what is around it stays."""
    for place in range(len(attack) + 1):
        shown = tamed(b"before " + attack[:place], attack[place:] + b" after\n")
        assert shown.startswith(b"before ")
        assert shown.endswith(b" after\n")
        assert re.sub(HARMLESS, b"", shown) == b""


@pytest.mark.parametrize(
    "data",
    [
        b"a bar \r 50% \t\n",
        b"\x1b[1;31mred\x1b[0m \x1b[38;2;1;2;3mtrue\x1b[m \x1b[4:3mcurly",
        LINK,
        LINK.replace(b"https://example.org/", b"mailto:a@b"),
        LINK.replace(b"8;;https", b"8;id=1:x=y;https"),
        "é😀\xa0 \u2028\n".encode(),
    ],
)
def test_colours_links_and_text_pass(data):
    """As they are, wherever they are cut."""
    for place in range(len(data) + 1):
        assert tamed(data[:place], data[place:]) == data


def test_links_end_as_they_should():
    """With ST: BEL, which ends them as well, is what a terminal would ring."""
    assert tamed(LINK.replace(b"\x1b\\", b"\x07")) == LINK


@given(
    st.lists(st.sampled_from([*ATTACKS, LINK, b"\x1b[1m", b"\x1b", b"\xc2", b"\x9b", b"x"]) | st.binary(max_size=4)),
    st.lists(st.integers(0, 300), max_size=6),
)
def test_no_bytes_at_all_steer_a_terminal(parts, places):
    """Whatever is printed, in whatever pieces: colours, links, text and line ends are all that is left; valid UTF-8."""
    data = b"".join(parts)
    stops = sorted({min(place, len(data)) for place in places} | {0, len(data)})
    shown = tamed(*[data[start:stop] for start, stop in itertools.pairwise(stops)])
    assert re.sub(HARMLESS, b"", shown) == b""
    assert not re.search("[\x80-\x9f]", shown.decode())


def test_the_terminal_is_given_back_as_it_was():
    """Colours and links that a job has left open end with it; where there were none nothing is written."""
    tame = Tame()
    tame.tame(b"plain\n")
    assert tame.end() == b""
    tame.tame(b"\x1b[31mred")
    assert tame.end() == b"\x1b[0m"
    tame.tame(LINK)
    assert tame.end() == b"\x1b[0m\x1b]8;;\x1b\\"


def test_what_a_server_says_of_jobs_does_not_steer_a_terminal():
    """The table of jobs has printable characters only, whatever the server sends for any of its cells."""
    job = dict.fromkeys(("status", "outcome", "description", "position", "bytes", "lines"), "\x1b[2J\x9b\n")
    table = jobs_table([{"job_id": "\x1b]0;x\x07", "created_at": None, "attempts": [], **job}])
    assert all(line.isprintable() for line in table.splitlines())
    assert len(table.splitlines()) == 2
    assert printable("\x1b[2J\x9b\r\nx\x00") == "\ufffd[2J\ufffd x\ufffd"


def on_terminal(argv, timeout=30):
    """What a command writes to a terminal of its own, stdout and stderr together."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, cwd=ROOT) as process:
        os.close(theirs)
        shown, deadline = b"", time.monotonic() + timeout
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 0.1)[0]:
                continue
            try:
                shown += os.read(ours, 65536)
            except OSError:  # EIO: nobody has it open any more
                break
        os.close(ours)
        process.wait(timeout)
    return shown.replace(b"\r\n", b"\n")


@pytest.mark.parametrize("mode", ["web", "redis"])
def test_follow_keeps_a_terminal_safe_unless_it_is_told_not_to(stack, mode):
    """Of a hostile log a terminal gets colours and links; with --raw, and where stdout is no terminal, all of it."""
    log = Written(stack.store)
    log.rq_job(stack.connection, "failed")
    hostile = b"".join(b"line " + attack + b"\n" for attack in ATTACKS) + b"\x1b[31mred " + LINK + b"\n"
    log.write(hostile)
    log.end("failed", reason="ValueError: \x1b[2J\x9b2J\x1b]0;x\x07")
    places = [f"TAILER_URL={stack.web}"] if mode == "web" else []
    argv = clean(["env", f"REDIS_URL={stack.url}", *places, str(BIN / "tailer"), "follow", log.job_id])
    shown = on_terminal(argv)
    assert re.sub(HARMLESS, b"", shown) == b""
    assert b"\x1b[31mred " + LINK + b"\n\x1b[0m" in shown
    assert b"[tailer] failed after 1.0 s: ValueError: " in shown
    raw = on_terminal([*argv, "--raw"])
    assert hostile.replace(b"\r\n", b"\n") in raw
    piped = subprocess.run(argv, capture_output=True, timeout=30, check=False, cwd=ROOT)
    assert (piped.stdout, piped.returncode) == (hostile, 1)
    assert re.sub(HARMLESS, b"", piped.stderr) == b""


@pytest.mark.parametrize("mode", ["web", "redis"])
def test_a_terminal_is_shown_what_tailer_says_in_a_log(stack, mode):
    """A line about masks is neither stdout nor stderr; what is behind it comes too."""
    log = Written(stack.store)
    log.rq_job(stack.connection, "finished")
    log.write(b"before\n")
    log.write(b"[tailer] a value is masked from here on\n", SYSTEM)
    log.write(b"behind\n")
    log.end("finished")
    places = [f"TAILER_URL={stack.web}"] if mode == "web" else []
    argv = clean(["env", f"REDIS_URL={stack.url}", *places, str(BIN / "tailer"), "follow", log.job_id])
    assert on_terminal(argv) == b"before\n[tailer] a value is masked from here on\nbehind\n"
