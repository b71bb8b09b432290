"""The jobs of `tailer demo`: ordinary functions that know nothing of Tailer and print in all the ways there are."""

# ruff: noqa: T201 -- jobs print

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

BOLD, GREEN, YELLOW, CYAN, PLAIN = "\033[1m", "\033[32m", "\033[33m", "\033[36m", "\033[0m"
_EXPORT = 'for table in customers orders invoices products; do echo "  exported $table"; sleep 0.6; done'


def nightly_report() -> str:
    """Take about 15 seconds, and end well."""
    print(f"{BOLD}Nightly report{PLAIN}")
    _heading(1, "a subprocess")
    subprocess.run(["sh", "-c", _EXPORT], check=True)

    _heading(2, "stderr and logging")
    time.sleep(0.5)
    print(f"{YELLOW}warning: 3 invoices have no customer{PLAIN}", file=sys.stderr)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    logging.getLogger("report").info("rates of yesterday are used")
    time.sleep(1)

    _heading(3, "a progress bar")
    for _ in _bar(100):
        time.sleep(0.05)
    time.sleep(0.5)

    _heading(4, "C code, a shell, a thread")
    libc = ctypes.CDLL(None)
    libc.puts(b"  printed by C's puts()")
    libc.fflush(None)
    time.sleep(0.7)
    os.system("echo '  printed by os.system()'")  # noqa: S605 -- there to show that it is captured
    time.sleep(0.7)
    thread = threading.Thread(target=print, args=["  printed by a thread"])
    thread.start()
    thread.join()

    _heading(5, "line by line")
    for region in ("north", "east", "south", "west"):
        time.sleep(0.8)
        print(f"  {region:<6} {GREEN}ok{PLAIN}")
    print(f"{GREEN}Report sent.{PLAIN}")
    return "sent"


def import_prices() -> None:
    """Fail, after some lines of output, in a function further down."""
    print("reading prices.csv")
    for number, row in enumerate([f"{price / 7:.2f}" for price in range(200)] + ["n/a"], 1):
        print(f"row {number}: {row}")
        _price(row)


def _price(text: str) -> float:
    return float(text)


def _heading(number: int, text: str) -> None:
    print(f"{CYAN}[{number}/5] {text}{PLAIN}")


def _bar(total: int) -> Iterator[int]:
    """Count to ``total`` behind tqdm's bar, or one made by hand where tqdm is not installed."""
    try:
        from tqdm import tqdm  # type: ignore[import-untyped]  # noqa: PLC0415 -- Tailer does not need it
    except ImportError:
        for done in range(total):
            yield done
            print(f"\r  {(done + 1) * 100 // total:3}% {'#' * ((done + 1) * 40 // total):<40}", end="", flush=True)
        print()
    else:
        yield from tqdm(range(total), desc="  totals", ncols=80)
