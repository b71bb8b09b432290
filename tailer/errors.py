"""Every error Tailer raises, each with the HTTP status and the exit code it stands for."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the command ``tailer`` leaves with; 128 + N for a job that was killed by signal N."""

    FINISHED = 0
    FAILED = 1
    TROUBLE = 2
    """Wrong usage, a bad setting, no connection, no such job."""
    STOPPED = 3
    SIGNALLED = 128


class TailerError(Exception):
    """Base of all errors that Tailer raises on purpose.

    ``status`` is what an HTTP client is told, ``exit_code`` what ``tailer`` leaves with. ``str(error)`` is one
    line for a person, without a traceback.
    """

    status = 500
    exit_code = ExitCode.TROUBLE
    title = "Internal error"


class SettingsError(TailerError):
    """An environment variable has a value that cannot be used; names the variable, the value and what is allowed."""

    title = "Bad settings"

    def __init__(self, variable: str, value: str, allowed: str) -> None:
        super().__init__(f"{variable}={value!r} cannot be used: {allowed}")


class InvalidParameter(TailerError):
    """A request parameter has a value that cannot be used."""

    status = 400
    title = "Bad parameter"

    def __init__(self, parameter: str, value: str, allowed: str) -> None:
        super().__init__(f"{parameter}={value!r} cannot be used: {allowed}")
        self.parameter = parameter
        self.value = value
        self.allowed = allowed


class Unauthorized(TailerError):
    """The request has no credential, or none that is known or still valid."""

    status = 401
    title = "Not authorized"


class Forbidden(TailerError):
    """The client may not do this: from where it is, or with the credential that it has."""

    status = 403
    title = "Forbidden"


class UnknownJob(TailerError):
    """Neither RQ nor the log store knows this job, as far as this reader may know: ``restricted`` may not read all."""

    status = 404
    title = "No such job"

    def __init__(self, job_id: str, *, restricted: bool = False) -> None:
        why = (
            "there is none, or it is not for you to read"
            if restricted
            else "RQ does not know it and it has left no log"
        )
        super().__init__(f"no job {job_id[:80]!r}: {why}")


class BodyTooLarge(TailerError):
    """The request's body is larger than any that Tailer takes."""

    status = 413
    title = "Body too large"


class UrlTooLong(TailerError):
    """The request's URL is longer than any that Tailer takes."""

    status = 414
    title = "URL too long"


class UnknownAttempt(TailerError):
    """The job is known, but has no attempt of that number."""

    status = 404
    title = "No such attempt"

    def __init__(self, job_id: str, attempt: int, attempts: int) -> None:
        super().__init__(f"job {job_id!r} has no attempt {attempt}: it has {attempts}")


class LogExpired(TailerError):
    """The log was there once; its time in the store is over."""

    status = 410
    title = "Log expired"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"the log of job {job_id!r} has expired")


class StoreUnavailable(TailerError):
    """Redis cannot be reached, or refuses to serve."""

    status = 503
    title = "Redis is not reachable"


class ArchiveUnavailable(StoreUnavailable):
    """The archive cannot be reached, or refuses; a log that only it has can be read when it is back."""

    title = "The archive is not reachable"


class UntrustedRedis(StoreUnavailable):
    """Redis presents a certificate that this machine has no reason to trust; ``words`` are OpenSSL's."""

    def __init__(self, words: str) -> None:
        super().__init__(
            f"Redis: {words.rstrip('.')}: name its CA by ?ssl_ca_certs=FILE at the end of its URL, or, in a network"
            " that you trust, set TAILER_REDIS_VERIFY=0"
        )


class TooManyFollowers(TailerError):
    """This web process may not open more files, and each follower's connection is one."""

    status = 503
    title = "Too many followers"


class TooManyForReader(TailerError):
    """This credential, or this process, has as many followers as the settings allow."""

    status = 429
    title = "Follower limit reached"


class TooManySearches(TooManyForReader):
    """As many searches run as may run at once."""

    title = "Search limit reached"


class LinksOff(TailerError):
    """No key is set to sign links with."""

    status = 501
    title = "Links are off"


class ServerStopping(TailerError):
    """This web process is told to stop; another one goes on from the client's cursor."""

    status = 503
    title = "The server is stopping"


class WebUnavailable(TailerError):
    """Tailer's web side cannot be reached, or cannot serve just now."""

    status = 502
    title = "The web side is not reachable"


class CorruptRecord(TailerError):
    """An element of a log's list is not a record that Tailer wrote."""

    title = "Unreadable record"


class LogClosed(TailerError):
    """The attempt has its end record; nothing can be added to it."""

    status = 409
    title = "Log closed"


class AttemptMissing(TailerError):
    """The store does not hold the attempt that is written to, for instance after Redis lost its data."""

    status = 409
    title = "Attempt missing"


class EmbeddedServerError(TailerError):
    """No Redis-compatible server could be started on this machine."""

    title = "Embedded server"
