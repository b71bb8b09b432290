"""Runs the benchmarks named on the command line, or those of `make bench`.

Prints their tables and puts them into the documentation.
"""

from __future__ import annotations

import importlib
import sys

from bench.report import PAGE, write

NAMES = ("capture", "orphaned", "redact", "memory", "archive", "delay", "fanout", "search", "pane", "sizing")


def main(wanted: list[str]) -> None:
    """Run them one after the other: each needs the machine for itself."""
    if unknown := set(wanted) - set(NAMES):
        sys.exit(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    for name in wanted or NAMES:
        bench = importlib.import_module(f"bench.{name}")
        text = bench.measure()
        print(f"## {name}\n\n{text}", flush=True)
        write(name, text, getattr(bench, "PAGE", PAGE))


main(sys.argv[1:])
