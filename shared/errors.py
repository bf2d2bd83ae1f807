"""Every failure the product knows, decided once, by type.

    HeadraceError
    ├─ RetryableError                  the same call may succeed later
    │  ├─ RateLimitError               429 or a quota: a deferral, costs no attempt
    │  │  └─ BudgetExhausted           our own bound on a day's spending; a deferral without an end
    │  ├─ DependencyUnavailable        refused, reset, timed out, 500, 503
    │  ├─ PoolExhausted                no database connection became free in time
    │  ├─ Conflict                     serialization failure or deadlock; run the transaction again
    │  └─ WorkerCrashed                a child process died under the work
    ├─ NonRetryableError               the same input fails again: end at once, with a code and a sentence
    │  ├─ AuthenticationError          401, 403, an invalid or expired key
    │  ├─ NotFound                     404
    │  ├─ InvalidRequest               400, a malformed event or argument
    │  └─ UnprocessableContent         unsupported, corrupt, encrypted, empty, too large
    ├─ Superseded                      not a failure: the object is no longer the one that was asked for
    └─ LeaseLost                       not a failure: somebody else owns the job now; write nothing

`code` is stable: it is stored on jobs and dead letters, counted in metrics, and listed in docs/errors.md. The message
is one sentence for people that says what to do; it never holds payloads, keys or stack traces. Vendors' errors are
translated into these once, in their adapter. What is *not* one of these is unknown, and unknown is retryable: its
attempts are bounded like all others.
"""

from __future__ import annotations


class HeadraceError(Exception):
    """Something went wrong in a way the product knows."""

    code: str = "INTERNAL"

    calls: int | None = None
    """How many calls of a model had been made when it was raised; set by the adapters that count them."""

    input_tokens: int = 0
    output_tokens: int = 0
    """What answers of a model had used that were of no use; set as `calls` is."""

    def __init__(self, message: str | None = None, *, code: str | None = None) -> None:
        """Take a sentence for people; without one, the class's own first line is used."""
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        if code is not None:
            self.code = code
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class RetryableError(HeadraceError):
    """A dependency failed in a way that may pass; the work will be tried again."""

    code = "TEMPORARY_FAILURE"

    def __init__(
        self, message: str | None = None, *, code: str | None = None, retry_after_seconds: float | None = None
    ) -> None:
        """`retry_after_seconds` is what the other side asked for (Retry-After, RetryInfo), if it did."""
        super().__init__(message, code=code)
        self.retry_after_seconds = retry_after_seconds


class RateLimitError(RetryableError):
    """The model or service is limiting calls; the job waits without using up an attempt."""

    code = "RATE_LIMITED"


class BudgetExhausted(RateLimitError):
    """The organization's budget for models is used up; the job waits for the next day of UTC, or a larger budget."""

    code = "BUDGET_EXHAUSTED"


class SameFileBeingRead(RateLimitError):
    """Another job has a model read the same file; this one waits for its passages without using up an attempt."""

    code = "SAME_FILE_BEING_READ"


class ReaderUnavailable(RetryableError):
    """This worker cannot start the process that reads files; the job waits without using up an attempt."""

    code = "READER_UNAVAILABLE"


class DependencyUnavailable(RetryableError):
    """A service that is needed does not answer; it will be tried again."""

    code = "DEPENDENCY_UNAVAILABLE"


class PoolExhausted(RetryableError):
    """No database connection became free in time; lower the concurrency or raise DATABASE_POOL_SIZE."""

    code = "POOL_EXHAUSTED"


class Conflict(RetryableError):
    """Two transactions met; running this one again will do."""

    code = "CONFLICT"


class WorkerCrashed(RetryableError):
    """The process that did the work died; the work will be tried again."""

    code = "WORKER_CRASHED"


class NonRetryableError(HeadraceError):
    """The same input would fail again; it needs a person or another input."""

    code = "REFUSED"


class AuthenticationError(NonRetryableError):
    """The credentials were refused; check the key or the service account, then retry the failed jobs."""

    code = "AUTHENTICATION_FAILED"


class NotFound(NonRetryableError):
    """What was asked for does not exist."""

    code = "NOT_FOUND"


class InvalidRequest(NonRetryableError):
    """The request or event is malformed."""

    code = "INVALID_REQUEST"


class UnprocessableContent(NonRetryableError):
    """The file cannot be turned into text; `code` says why."""

    code = "UNPROCESSABLE"


class Superseded(HeadraceError):
    """The object changed or went away while it was worked on; a newer decision takes over."""

    code = "SUPERSEDED"


class LeaseLost(HeadraceError):
    """Another worker owns this job now; nothing of this attempt may be written."""

    code = "LEASE_LOST"


class ConfigurationError(HeadraceError):
    """The settings are wrong; the process does not start."""

    code = "CONFIGURATION"


def code_of(error: BaseException) -> str:
    """Return the stable code of any error; unknown ones are `INTERNAL`."""
    return error.code if isinstance(error, HeadraceError) else "INTERNAL"


def is_retryable(error: BaseException) -> bool:
    """Say whether trying again can help. Unknown errors are retryable, and bounded by the attempts like all others."""
    return not isinstance(error, NonRetryableError)
