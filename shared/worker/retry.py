"""What follows a failed attempt: pure, from the error and the counts. The call site never decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.errors import (
    BudgetExhausted,
    HeadraceError,
    RateLimitError,
    ReaderUnavailable,
    RetryableError,
    SameFileBeingRead,
    code_of,
    is_retryable,
)
from shared.ports.stores import Failure
from shared.worker.gate import is_outage

DEFAULT_DEFERRAL_SECONDS = 60.0
"""How long a rate-limited job waits when the service does not say."""

LONGEST_DEFERRAL_SECONDS = 3600.0
"""A wait that is asked for is looked at again after so long, so that the bound on all of them together can hold."""

GROWING_SECONDS = (2.0, 600.0)
"""How long a job waits for the database, or for another job: the first, then as long again as it has waited already."""


@dataclass(frozen=True, slots=True)
class Again:
    """Back to the queue; the attempt counts."""

    failure: Failure
    delay_seconds: float


@dataclass(frozen=True, slots=True)
class Later:
    """Back to the queue without being charged: the service asked us to wait."""

    failure: Failure
    delay_seconds: float


@dataclass(frozen=True, slots=True)
class Over:
    """The end."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`delays_seconds[n]` is waited before attempt n + 1; a job has its own bound on attempts."""

    delays_seconds: Sequence[float] = (0, 60, 300, 900, 3600)

    def after(
        self, error: Exception, *, attempts: int, max_attempts: int, deferred_seconds: float = 0
    ) -> Again | Later | Over:
        """Decide about a job whose `attempts`-th attempt (from 1) ended with this error.

        An outage of our own database is a deferral, as a rate limit is, a job that reads the same file, or a worker
        that can read no file at all: this file is not to blame for it.
        `deferred_seconds` is how long ago the job was deferred first.
        """
        failure = describe(error)
        if is_outage(error) or isinstance(error, SameFileBeingRead | ReaderUnavailable):
            shortest, longest = GROWING_SECONDS
            return Later(failure, min(max(deferred_seconds, shortest), longest))
        if isinstance(error, RateLimitError):
            asked = error.retry_after_seconds or DEFAULT_DEFERRAL_SECONDS
            # A day's budget has no bound to hold, and ends at a known moment.
            return Later(failure, asked if isinstance(error, BudgetExhausted) else min(asked, LONGEST_DEFERRAL_SECONDS))
        if not is_retryable(error) or attempts >= max_attempts:
            return Over(failure)
        delay = float(self.delays_seconds[min(attempts, len(self.delays_seconds) - 1)])
        if isinstance(error, RetryableError) and error.retry_after_seconds is not None:
            delay = max(delay, min(error.retry_after_seconds, LONGEST_DEFERRAL_SECONDS))
        return Again(failure, delay)


def describe(error: Exception) -> Failure:
    """Return the code and the sentence that are stored; an unknown error's own text is not shown to people."""
    if isinstance(error, HeadraceError):
        return Failure(code=error.code, message=error.message, calls=error.calls)
    return Failure(
        code=code_of(error),
        message=f"An unexpected {type(error).__name__} in the service; its log has the details under this job's id.",
    )
