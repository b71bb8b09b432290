"""RQ's worker classes, with their jobs' output captured. Each override wraps RQ's method and calls it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import rq.version
import rq.worker
from redis import RedisError
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.logutils import setup_loghandlers
from rq.timeouts import JobTimeoutException

from tailer import __version__
from tailer.errors import SettingsError
from tailer.logs import CURRENT, use_json
from tailer.records import Attempt, End
from tailer.settings import Settings
from tailer.store import LogStore
from tailer.workers import CAPTURE_FIELD, VERSION_FIELD
from worker import horse
from worker.aftercare import EXIT_PATIENCE_S, Aftercare
from worker.capture import Capture, State
from worker.console import Console
from worker.counts import COUNTS
from worker.drain import Drain
from worker.ending import Death, describe, oom_kills
from worker.keeping import settings_for
from worker.recorder import REASON, Recorder, about, let_go, log_store, record
from worker.redact import Masks, Redactor

if TYPE_CHECKING:
    from rq.executions import Execution
    from rq.job import Job
    from rq.queue import Queue

    _Base = rq.worker.BaseWorker
    _ForkingBase = rq.worker.Worker
else:
    _Base = _ForkingBase = object

logger = logging.getLogger("tailer.worker")

RQS_LOGGERS = ("rq.worker", "rq.job", "rq.scheduler")
"""Those to which RQ gives handlers."""
HANDED_OVER = "TAILER_CAPTURE_FDS"
"""How a spawned work horse learns which inherited fds are the capture's. Internal; not a setting."""

SPAWNS_OURS = 3
"""The first version of RQ that makes a spawned work horse of the worker's own class."""


class _Recording(_Base):
    """What all four classes share. No failure in here reaches the job: it then runs as under plain RQ."""

    _settings: Settings | None = None
    _masks: Masks | None = None
    _store: LogStore | None = None
    _console: Console | None = None
    _console_fds = (1, 2)
    _capture: Capture | None = None

    def bootstrap(self, *args: Any, **kwargs: Any) -> None:
        """Check the settings before any job is taken; a bad one ends the process with one line that names it."""
        try:
            self._settings = Settings.from_env()
            self._open_masks()
        except SettingsError as error:
            raise SystemExit(f"tailer: {error}") from None
        self._open_log()
        super().bootstrap(*args, **kwargs)
        with _harmless("saying that this worker captures"):
            fields = [CAPTURE_FIELD, self._settings.capture, VERSION_FIELD, __version__]
            self.connection.hset(self.key, items=fields)

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Tell with all that is logged meanwhile which job it is about."""
        self._at(job)
        try:
            super().execute_job(job, queue)
        finally:
            self._at()

    def _at(self, job: Job | None = None) -> None:
        about = {"job": job.id, "queue": job.origin} if job else {}
        CURRENT.set({"worker": self.name, **about})

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        """Put the job's traceback into its log; RQ's own report of it goes to the worker's console."""
        with _harmless("reporting an exception"):
            if self._capture and exc_info[0]:
                horse.print_traceback(*exc_info)
                timed_out = issubclass(exc_info[0], JobTimeoutException)
                self._capture.report.ended(State.TIMED_OUT if timed_out else State.RAISED, _one_line(*exc_info[:2]))
        super().handle_exception(job, *exc_info)

    def _configured(self) -> Settings:
        if self._settings is None:
            self._settings = Settings.from_env()
        return self._settings

    def _open_log(self) -> None:
        self._at()
        if self._configured().log_format == "json":
            for name in RQS_LOGGERS:
                setup_loghandlers(name=name)  # as RQ does later, unless there are handlers
                rqs = logging.getLogger(name)
                # As RQ 3 has it: with RQ 2, a job that sets up logging would have it told twice.
                rqs.propagate = rqs.propagate and not rqs.handlers
            use_json(*RQS_LOGGERS, own="tailer")

    def _open_masks(self) -> Masks:
        if self._masks is None:
            self._masks = Masks.of(self._configured().redact)
        return self._masks

    def _open_store(self) -> LogStore:
        if self._store is None:
            self._store = log_store(self._configured(), self.connection)
        return self._store

    def _open_console(self) -> Console | None:
        if self._console is None and self._configured().console:
            self._console = Console(*self._console_fds)
        return self._console

    def _about(self, job: Job, execution: Execution | None) -> Attempt:
        return about(job, execution.id if execution else "", self.name, self._configured().capture)

    def _ending(self, job: Job, capture: Capture, death: Death) -> End:
        try:
            status = str(job.get_status(refresh=True).value)
        except (InvalidJobOperation, NoSuchJobError):
            status = None
        except RedisError as error:  # The log may be in another Redis, so it gets its end all the same.
            logger.warning("job %s: its status is unknown at its end: %s", job.id, error)
            status = None
        return describe(capture.report, death, rq_status=status, worker=self.name)


class _ForkingRecording(_Recording, _ForkingBase):
    """For workers whose jobs run in a process of their own: the worker drains, so a dead job's last words are kept."""

    _recorder: Recorder | None = None
    _death: Death | None = None
    _aftercare: Aftercare | None = None

    # In the worker.

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        """Make the pipes, fork, and start draining."""
        self._death = Death()
        with _harmless("opening the pipes"):
            self._capture = Capture.open(self._configured().capture)
        horse.flush()  # What the worker itself has not written yet must not come out of the horse too.
        if self._aftercare:
            self._aftercare.rest()
        try:
            super().fork_work_horse(job, queue)
        except BaseException:
            if self._capture:
                self._capture.close()
                self._capture = None
            raise
        self._death.oom_kills = oom_kills()  # It takes 0.2 ms, for which the horse need not wait.
        # RQ would leave the horse that it has started: see that nothing gets out of here.
        with _harmless("looking after earlier logs"):
            if self._aftercare:
                self._aftercare.go_on()
        if self._capture:
            self._capture.close_write_ends()
            self._record(job, self._capture, self.execution)

    def _record(self, job: Job, capture: Capture, execution: Execution | None, *, taking_over: bool = False) -> None:
        with _harmless("starting to record"):
            self._recorder = record(
                capture,
                self._open_store,
                job.id,
                self._about(job, execution),
                settings_for(job, self._configured()),
                self._open_console(),
                self._open_masks,
                taking_over=taking_over,
            )

    def wait_for_horse(self) -> Any:
        """Remember how the horse went; only here is its wait status seen."""
        pid, status, usage = super().wait_for_horse()
        if pid and self._death:
            self._death.status, self._death.usage = status, usage
        return pid, status, usage

    def kill_horse(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """Remember why the horse was killed."""
        if self._death and sig == signal.SIGKILL:
            self._death.cause = self._kill_cause()
        super().kill_horse(sig)

    def _kill_cause(self) -> str:
        execution = self.execution
        if execution and self._stopped_job_id == execution.job_id:
            return "stopped"
        timeout = execution.job.timeout if execution else None
        # RQ gives a job a minute to notice its timeout (``monitor_work_horse``); a timeout of -1 means none.
        if self._death and timeout and timeout > 0 and self._death.age > timeout + 60:
            return "timeout"
        return "shutdown" if self._shutdown_requested_date else "command"

    def monitor_work_horse(self, job: Job, *args: Any, **kwargs: Any) -> None:
        """Let RQ watch the horse; then drain what is left and write the end record, also when the worker has to go.

        A horse that lives on, because the watching failed, is drained until this process ends; then it does it itself.
        """
        try:
            super().monitor_work_horse(job, *args, **kwargs)
        finally:
            if not self._horse_lives():
                self._end_log(job)

    def maintain_heartbeats(self, *args: Any, **kwargs: Any) -> None:
        """Let RQ do it; where Redis is away, the next one may come through, and the horse is watched until then.

        RQ's worker would leave its horse and quit.
        """
        with _heartbeat():
            super().maintain_heartbeats(*args, **kwargs)

    def set_current_job_working_time(self, *args: Any, **kwargs: Any) -> None:
        """Do the same for what RQ 2 tells Redis beside each heartbeat."""
        with _heartbeat():
            super().set_current_job_working_time(*args, **kwargs)  # type: ignore[misc]

    def _horse_lives(self) -> bool:
        """Whether the horse is there, and neither was seen to end nor was killed by this worker."""
        death = self._death
        if not self._horse_pid or not death or death.status is not None or death.cause:
            return False
        try:
            return os.waitid(os.P_PID, self._horse_pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False

    def _end_log(self, job: Job) -> None:
        recorder, capture, death = self._recorder, self._capture, self._death
        self._recorder = self._capture = self._death = None
        with _harmless("ending the log"):
            if recorder and capture and death:
                recorder.finish(self._ending(job, capture, death))
                self._aftercare = self._aftercare or Aftercare()
                self._aftercare.add(recorder.shipper)

    # In the horse.

    def main_work_horse(self, job: Job, queue: Queue) -> None:
        """Lead fds 1 and 2 into the pipes before RQ runs the job."""
        with _harmless("redirecting the job's output"):
            self._enter_horse(job)
        super().main_work_horse(job, queue)

    def _enter_horse(self, job: Job) -> None:
        if handed_over := os.environ.pop(HANDED_OVER, None):
            self._capture = Capture.from_env(handed_over)
            self._open_log()
            self._at(job)
        if not (capture := self._capture):
            return
        self._configured()  # Now, as long as the environment is the worker's: the job may change it.
        redirection = horse.Redirection(capture)
        capture.close_write_ends()
        horse.children_unbuffered()
        self._death = Death()
        self._store = self._console = None  # The worker's, with its threads and sockets.
        self._console_fds = redirection.stdout, redirection.stderr
        execution = self.execution  # Once the job is done, RQ forgets which one it was.
        horse.when_orphaned(capture.owner, lambda: self._record(job, capture, execution, taking_over=True))

    def perform_job(self, job: Job, *args: Any, **kwargs: Any) -> bool:
        """Report how the job's function ended, and leave nothing in any buffer."""
        try:
            returned = super().perform_job(job, *args, **kwargs)
            if returned and self._capture:
                self._capture.report.ended(State.RETURNED)
            return returned
        finally:
            horse.flush()
            with _harmless("ending the log"):
                if self._recorder and self._capture and self._death:
                    self._recorder.finish(self._ending(job, self._capture, self._death))
                    # RQ leaves the horse at once, and there is no worker any more that would go on trying.
                    self._recorder.wait(EXIT_PATIENCE_S)


class Worker(_ForkingRecording, rq.worker.Worker):
    """``rq.Worker`` whose jobs' output can be followed."""


class HerokuWorker(_ForkingRecording, rq.worker.HerokuWorker):
    """RQ's ``HerokuWorker``, which gives a job six seconds when its dyno stops, with output that can be followed."""


class _Spawning(rq.worker.SpawnWorker):
    """Hands the capture over to a spawned horse; a forked one has it."""

    _capture: Capture | None = None

    def bootstrap(self, *args: Any, **kwargs: Any) -> None:
        """Refuse RQ 2, whose spawned horses are always of RQ's own class: nothing of a job would be captured."""
        version = rq.version.VERSION
        if int(version.partition(".")[0]) < SPAWNS_OURS:
            raise SystemExit(f"tailer: worker.SpawnWorker needs RQ 3, and this is RQ {version}; use worker.Worker")
        super().bootstrap(*args, **kwargs)

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        if not (capture := self._capture):
            super().fork_work_horse(job, queue)
            return
        capture.set_inheritable(True)
        os.environ[HANDED_OVER] = capture.to_env()
        try:
            super().fork_work_horse(job, queue)
        finally:
            del os.environ[HANDED_OVER]
            capture.set_inheritable(False)


class SpawnWorker(_ForkingRecording, _Spawning):
    """RQ's ``SpawnWorker``, for where ``fork`` is unsafe, with output that can be followed."""


class SimpleWorker(_Recording, rq.worker.SimpleWorker):
    """RQ's ``SimpleWorker``, which runs jobs in its own process, with output that can be followed.

    Another process drains: a C extension that prints while it holds the interpreter's lock would otherwise wait
    for ever for a thread that waits for the lock.
    """

    def _open_console(self) -> Console | None:
        # Fds of its own: a daemon that a job has left may write while 1 and 2 lead into the next job's pipes.
        if self._console is None and self._configured().console:
            self._console_fds = horse.keep(1), horse.keep(2)
        return super()._open_console()

    def perform_job(self, job: Job, *args: Any, **kwargs: Any) -> bool:
        """Redirect this process's output while RQ runs the job."""
        drain = redirection = None
        death = Death()
        with _harmless("redirecting the job's output"):
            self._capture = Capture.open(self._configured().capture)
            settings = settings_for(job, self._configured())
            about = self._about(job, self.execution)
            drain = Drain.start(self._capture, job.id, about, settings, self.connection, self._open_masks())
            redirection = horse.Redirection(self._capture)
        try:
            returned = super().perform_job(job, *args, **kwargs)
            if returned and self._capture:
                self._capture.report.ended(State.RETURNED)
            return returned
        finally:
            self._end_log(job, drain, redirection, death)

    def _end_log(self, job: Job, drain: Drain | None, redirection: horse.Redirection | None, death: Death) -> None:
        # Not done in `perform_job`: the traceback of a job that failed holds on to that one's variables for a while.
        capture, self._capture = self._capture, None
        if redirection:
            with _harmless("restoring the worker's output"):
                redirection.restore()
        if capture:
            with _harmless("ending the log"):
                capture.close_write_ends()
                if drain:
                    drain.finish(self._ending(job, capture, death))
            with _harmless("closing the pipes"):
                let_go(capture, self._open_console(), Redactor(self._open_masks(), capture.report))


@contextlib.contextmanager
def _harmless(what: str) -> Iterator[None]:
    """Log whatever fails in here, to the worker's own log, and let the job go on."""
    try:
        yield
    except Exception:
        logger.exception("%s failed; the job goes on", what)
        COUNTS.fault()


@contextlib.contextmanager
def _heartbeat() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        logger.warning("Redis did not take the heartbeat of a job: %s", error)


def _one_line(kind: type[BaseException], value: BaseException) -> str:
    try:
        text = " ".join(str(value).split())
    except Exception:  # noqa: BLE001 (it is the job's own)
        text = ""
    return f"{kind.__name__}: {text}"[:REASON] if text else kind.__name__
