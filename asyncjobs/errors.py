"""Every error asyncjobs raises, and the exit code each one ends a command with.

AsyncJobsError                 1  unexpected
├── UsageError                 2  the command line is wrong
├── ConfigError                3  asyncjobs.toml or the project is wrong
├── CredentialsError           4  no credentials, or not enough permissions
├── NotFoundError              5  no such stack or job
├── JobFailedError             6  the job failed or was cancelled
├── TimedOutError              7  gave up waiting
├── DockerError                8  the Docker engine, a registry, or the build of an image
│   ├── NoEngineError          8  no engine answers
│   ├── TokenExpiredError      8  a registry's token is too old
│   └── TagTakenError          8  an image is there under a tag that cannot be moved
├── LeftoversError             9  something is left after `down`
├── ApiError                   1  the job API answered with an error
├── JobEndedError              1  the job has ended already
├── ProvisionError             1  a step of `up` or `down` failed
├── LocalEngineError           1  the local engine could not do its work
└── InterruptedByUserError   130  Ctrl-C, or a signal to end

Errors of botocore, urllib3 and other libraries are translated into these once, where the library is called;
none of them reaches the command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ExitCode:
    """The process exit codes, in one place."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    CONFIG = 3
    CREDENTIALS = 4
    NOT_FOUND = 5
    JOB_FAILED = 6
    TIMED_OUT = 7
    DOCKER = 8
    LEFTOVERS = 9
    INTERRUPTED = 130


class AsyncJobsError(Exception):
    """An error with an answer to: what happened, why, and what to do next.

    Args:
        what: One sentence: what went wrong.
        why: The cause, as far as it is known.
        hint: The next command or action.
        details: More for programs: what `--json` adds to the error.
    """

    exit_code = ExitCode.UNEXPECTED

    def __init__(self, what: str, *, why: str = "", hint: str = "", details: Mapping[str, Any] | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.hint = hint
        self.details = details or {}


class UsageError(AsyncJobsError):
    exit_code = ExitCode.USAGE


class ConfigError(AsyncJobsError):
    exit_code = ExitCode.CONFIG


class CredentialsError(AsyncJobsError):
    exit_code = ExitCode.CREDENTIALS


class NotFoundError(AsyncJobsError):
    exit_code = ExitCode.NOT_FOUND


class JobFailedError(AsyncJobsError):
    exit_code = ExitCode.JOB_FAILED


class TimedOutError(AsyncJobsError):
    exit_code = ExitCode.TIMED_OUT


class DockerError(AsyncJobsError):
    exit_code = ExitCode.DOCKER


class NoEngineError(DockerError):
    pass


class TokenExpiredError(DockerError):
    pass


class TagTakenError(DockerError):
    pass


class LeftoversError(AsyncJobsError):
    exit_code = ExitCode.LEFTOVERS


class ApiError(AsyncJobsError):
    """The job API answered with an error.

    Args:
        status: HTTP status code; 0 when no answer came.
        code: The `error` field of the answer.
    """

    def __init__(self, what: str, *, status: int, code: str = "", why: str = "", hint: str = "") -> None:
        super().__init__(what, why=why, hint=hint)
        self.status = status
        self.code = code


class JobEndedError(AsyncJobsError):
    pass


class ProvisionError(AsyncJobsError):
    pass


class LocalEngineError(AsyncJobsError):
    pass


class InterruptedByUserError(AsyncJobsError):
    exit_code = ExitCode.INTERRUPTED
