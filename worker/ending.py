"""Works out how an execution ended: from the wait status, from what the horse reported, and from RQ."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tailer.records import End
from worker.capture import Report, State

WAITING = frozenset({"queued", "scheduled", "deferred", "rate_limited", "ready_to_enqueue"})
"""RQ's states of a job that will run (again)."""


def oom_kills() -> int:
    """How often the kernel has killed a process for memory: in this control group if that is told, else at all."""
    try:
        group = Path("/proc/self/cgroup").read_text().partition("0::")[2].splitlines()[0]
        return _counter(Path("/sys/fs/cgroup", group.lstrip("/"), "memory.events"))
    except (OSError, IndexError, ValueError):
        pass
    try:
        return _counter(Path("/proc/vmstat"))
    except (OSError, ValueError):
        return 0


def _counter(file: Path) -> int:
    for line in file.read_text().splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill":
            return int(value)
    raise ValueError(f"{file} has no oom_kill")


@dataclass(slots=True)
class Death:
    """How the work horse went, and who wanted that, as its worker knows it.

    ``cause`` is ``stopped``, ``timeout``, ``shutdown`` or ``command`` where the worker killed it itself;
    ``oom_kills`` is what the function of that name said when the execution began.
    """

    status: int | None = None
    usage: resource.struct_rusage | None = None
    cause: str | None = None
    oom_kills: int = 0
    began: float = field(default_factory=time.time)

    @property
    def age(self) -> float:
        """Seconds since the execution began."""
        return time.time() - self.began


def describe(report: Report, death: Death, *, rq_status: str | None, worker: str) -> End:
    """Return the end record of an execution; the counts of bytes and lines are left for the shipper."""
    outcome, reason = _outcome(report, death, rq_status)
    signalled = death.status is not None and os.WIFSIGNALED(death.status)
    exited = death.status is not None and os.WIFEXITED(death.status)
    ended = time.time()
    return End(
        outcome=outcome,
        attempt=0,
        final=rq_status not in WAITING,
        status=rq_status,
        exit=os.WEXITSTATUS(death.status) if exited and death.status is not None else None,
        signal=os.WTERMSIG(death.status) if signalled and death.status is not None else None,
        reason=reason,
        duration=round(ended - death.began, 3),
        max_rss=_max_rss(death.usage),
        worker=worker,
        ended_at=round(ended, 3),
    )


def _outcome(report: Report, death: Death, rq_status: str | None) -> tuple[str, str | None]:
    if death.status is not None and os.WIFSIGNALED(death.status):
        return _killed(death)
    if report.state is State.RETURNED and rq_status == "failed":
        return "failed", "the job asked for a retry, but has had all it may"
    if report.state is State.RETURNED:
        return "finished", report.reason
    if report.state is State.TIMED_OUT:
        return "timeout", report.reason
    if report.state is State.RAISED:
        return "failed", report.reason
    code = os.WEXITSTATUS(death.status) if death.status is not None else None
    if code is None:
        return "failed", "the work horse vanished"
    return "failed", f"the process exited with status {code} before the job returned"


def _killed(death: Death) -> tuple[str, str | None]:
    """Who killed it, and why. A cause without the signal came too late: the job had ended by itself."""
    if death.cause == "stopped":
        return "stopped", "stopped on request"
    if death.cause == "timeout":
        return "timeout", "the job ignored its timeout and was killed a minute later"
    if death.cause == "shutdown":
        return "killed", "the worker was shut down"
    if death.cause == "command":
        return "killed", "on command"
    if death.status is not None and os.WTERMSIG(death.status) == signal.SIGKILL and oom_kills() > death.oom_kills:
        size = _max_rss(death.usage)
        return "killed", f"out of memory ({size / (1 << 30):.1f} GiB)" if size else "out of memory"
    return "killed", None


def _max_rss(usage: resource.struct_rusage | None) -> int | None:
    """Peak memory in bytes; Linux counts KiB, macOS bytes (getrusage(2) of each)."""
    if usage is None:
        return None
    return usage.ru_maxrss if sys.platform == "darwin" else usage.ru_maxrss * 1024
