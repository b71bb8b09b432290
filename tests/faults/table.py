"""The suite's rows, and the table of them in docs/guarantees.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from bench import report
from tailer.embedded import EmbeddedServer
from tests.stack import ROOT

PAGE = ROOT / "docs" / "guarantees.md"
GROUPS = ("client", "web", "redis", "worker", "host")
HEAD = (
    "fault",
    "written",
    "received",
    "in holes",
    "lost or doubled",
    "followers, verified",
    "result, without Tailer",
    "seconds, without Tailer",
    "back after",
    "worker, web MiB",
)
_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one fault came to. Sizes are bytes, times seconds; `plain_…` is the job without capture and followers.

    `verified` of the `followers` have compared what they got with the end record's checksum: all, or none where the
    checksum is unknown because nobody saw all bytes. `recovery` is None for a fault that no one recovers from.
    """

    group: str
    fault: str
    written: int
    received: int
    holes: list[tuple[int, str]] = field(default_factory=list)
    lost: int
    doubled: int
    followers: int
    verified: int
    result: str
    plain_result: str
    duration: float | None
    plain_duration: float | None
    recovery: float | None
    worker_peak: int
    web_peak: int

    def as_dict(self) -> dict[str, Any]:
        """As it is passed on between processes."""
        return asdict(self)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """The row that `as_dict` was called of."""
        return cls(**values)

    @property
    def cells(self) -> tuple[str, ...]:
        """As the table has it."""
        causes = sorted({cause for _, cause in self.holes})
        missing = sum(length for length, _ in self.holes)
        return (
            self.fault,
            f"{self.written:,}",
            f"{self.received:,}",
            f"{missing:,}: {'; '.join(causes)}" if self.holes else "0",
            str(self.lost + self.doubled),
            f"{self.followers}, {self.verified}",
            f"{self.result}, {self.plain_result}",
            f"{_seconds(self.duration)}, {_seconds(self.plain_duration)}",
            "-" if self.recovery is None else f"{self.recovery:.1f} s",
            f"{self.worker_peak / _MIB:.0f}, {self.web_peak / _MIB:.0f}",
        )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def publish(rows: Sequence[Row]) -> None:
    """Write the rows into docs/guarantees.md, a table for each group, and what they were made on."""
    with EmbeddedServer() as server:
        report.write("faults equipment", f"{report.equipment(server)}.\n", PAGE)
    for group in GROUPS:
        own = sorted((row for row in rows if row.group == group), key=lambda row: row.fault)
        if own:
            report.write(f"faults {group}", report.table(HEAD, [row.cells for row in own]), PAGE)


def published(group: str) -> list[str]:
    """The faults of a group that the page has."""
    section = PAGE.read_text().partition(f"<!-- bench:faults {group} -->")[2].partition("<!-- /bench")[0]
    rows = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")]
    return [row for row in rows if row not in {"---", HEAD[0]}]
