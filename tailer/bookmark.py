"""Where a client is in many logs at once, in one short text: the id of their events."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from tailer.formats import END_MARK
from tailer.reader import Cursor

MAX_BOOKMARK = 6000
"""Characters of one: it comes back in a header, and servers take some 8,000 of these (gunicorn: 8,190)."""
_LOG = re.compile(rf"([A-Za-z0-9_-]{{1,200}})@([0-9:]+)({END_MARK})?")
_QUEUES = re.compile(r"@([0-9]{1,15}):([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class Bookmark:
    """``places`` are those in the logs, with whether the log is over. Written ``JOB@1:29,OTHER@1:7:end,@TIME:COUNT``.

    Where queues are followed, all that their jobs wrote in the store's index before ``floor`` (ms) was seen, and
    ``waiting`` jobs were not begun yet.
    """

    places: Mapping[str, tuple[Cursor, bool]] = field(default_factory=dict)
    floor: int | None = None
    waiting: int = 0

    def __str__(self) -> str:
        parts = [f"{job_id}@{cursor}{END_MARK * over}" for job_id, (cursor, over) in self.places.items()]
        if self.floor is not None:
            parts.append(f"@{self.floor}:{self.waiting}")
        return ",".join(parts)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one; raises ``ValueError``."""
        places: dict[str, tuple[Cursor, bool]] = {}
        floor, waiting = None, 0
        for part in text.split(","):
            if found := _QUEUES.fullmatch(part):
                floor, waiting = int(found[1]), int(found[2])
            elif found := _LOG.fullmatch(part):
                places[found[1]] = Cursor.parse(found[2]), found[3] is not None
            else:
                raise ValueError("use the id of an event of this stream")
        return cls(places, floor, waiting)
