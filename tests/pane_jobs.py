"""Jobs that a test leads word by word, for what is shown while they run."""

import json
import os
import sys


def repeat_after(path: str) -> None:
    """Write what a named pipe says, a JSON object a line: `out`, `err` are written, `fail` is raised."""
    with open(path) as script:  # noqa: PTH123 -- a pipe: it blocks until the test opens it too
        for line in script:
            said = json.loads(line)
            for stream, text in ((sys.stdout, said.get("out")), (sys.stderr, said.get("err"))):
                if text:
                    stream.write(text)
                    stream.flush()
            if "fail" in said:
                raise RuntimeError(said["fail"])


def count_to(last: int, width: int = 60) -> None:
    """Print numbered lines."""
    for number in range(1, last + 1):
        print(f"line {number}".ljust(width, "."))


def steadily(lines: int, rate: float, path: str) -> None:
    """Write numbered lines at so many a second, and keep what was written in a file."""
    import time  # noqa: PLC0415

    with open(path, "w") as kept:  # noqa: PTH123
        for number in range(lines):
            line = f"{number} \x1b[3{number % 8}mcolour\x1b[0m é {'x' * (number % 50)}\n"
            kept.write(line)
            kept.flush()
            sys.stdout.write(line)
            sys.stdout.flush()
            time.sleep(1 / rate)


def attempts(path: str) -> None:
    """Fail at the first attempt, and end well at the second."""
    if os.path.exists(path):  # noqa: PTH110
        print("second attempt")
        return
    open(path, "w").close()  # noqa: PTH123
    print("first attempt")
    raise RuntimeError("not yet")


def random_bytes(seed: int, size: int) -> None:
    """Write bytes of all kinds, with pieces of markup and of escape sequences in them."""
    import random  # noqa: PLC0415

    chance = random.Random(seed)
    pieces = [
        b"<script>window.hit=1</script>",
        b"<img src=x onerror=window.hit=1>",
        b"\x1b]8;;javascript:window.hit=1\x1b\\click\x1b]8;;\x1b\\",
        b'\x1b]8;;https://example.com/"onmouseover="window.hit=1\x1b\\click\x1b]8;;\x1b\\',
        b"\x1b]0;title\x07",
        b"http://example.com/?<b>&quot;'",
        b"\x1b[31;1;4mred\x1b[0m",
        b"::group::<b>group</b>\n",
        b"::endgroup::\n",
        b"Traceback (most recent call last):\n",
        b'  File "<b>.py", line 1, in <module>\n',
        b'{"a": "<b>"}\n',
        b"\r",
        b"\n",
        b"\x1b[2A\x1b[K",
        "\u202e\u2066é漢😀\u200d".encode(),
        b"</span></div></template><style>*{display:none}</style>",
        b"--><svg onload=window.hit=1>",
    ]
    written = 0
    while written < size:
        piece = chance.choice(pieces) if chance.random() < 0.5 else chance.randbytes(chance.randrange(1, 40))
        written += os.write(1, piece)


def bars(path: str) -> None:
    """Show a bar of tqdm's and two of rich's, half full until there is such a file."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415
    from tqdm import tqdm  # noqa: PLC0415

    from tests.jobs import _wait_for  # noqa: PLC0415

    print("before")
    for number in tqdm(range(100), desc="import", mininterval=0, file=sys.stdout, ncols=80):
        if number == 50:
            _wait_for(path)
    console = Console(file=sys.stdout, force_terminal=True, width=80, color_system="truecolor")
    with Progress(console=console, refresh_per_second=20) as progress:
        tasks = [progress.add_task(f"[cyan]load {n}", total=100) for n in range(2)]
        for _ in range(100):
            for task in tasks:
                progress.update(task, advance=1)
        progress.refresh()
    print("after")
