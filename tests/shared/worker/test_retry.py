"""The policy about failed attempts, as a table."""

import pytest

from shared.errors import (
    AuthenticationError,
    BudgetExhausted,
    DependencyUnavailable,
    NotFound,
    PoolExhausted,
    RateLimitError,
    ReaderUnavailable,
    RetryableError,
    UnprocessableContent,
    WorkerCrashed,
)
from shared.worker.retry import Again, Later, Over, RetryPolicy

POLICY = RetryPolicy()


@pytest.mark.parametrize(("attempts", "delay"), [(1, 60), (2, 300), (3, 900)])
def test_waits_grow_with_the_attempts(attempts: int, delay: float) -> None:
    """Before attempts 2, 3 and 4 a job waits one, five and fifteen minutes."""
    decided = POLICY.after(DependencyUnavailable(), attempts=attempts, max_attempts=4)
    assert decided == Again(decided.failure, delay)


def test_the_last_attempt_is_the_end() -> None:
    """After the bound there is no next attempt, and where the bound is higher the fifth waits an hour."""
    assert isinstance(POLICY.after(DependencyUnavailable(), attempts=4, max_attempts=4), Over)
    decided = POLICY.after(DependencyUnavailable(), attempts=4, max_attempts=5)
    assert decided == Again(decided.failure, 3600)


@pytest.mark.parametrize("error", [AuthenticationError(), NotFound(), UnprocessableContent(code="CORRUPT")])
def test_what_cannot_succeed_is_not_tried_again(error: Exception) -> None:
    """Refused credentials, missing things and unreadable files end at the first attempt."""
    assert isinstance(POLICY.after(error, attempts=1, max_attempts=4), Over)


@pytest.mark.parametrize("error", [DependencyUnavailable(), WorkerCrashed(), RetryableError(), ValueError("unknown")])
def test_what_may_pass_is_tried_again(error: Exception) -> None:
    """Temporary failures are, and so is everything unknown."""
    assert isinstance(POLICY.after(error, attempts=1, max_attempts=4), Again)


def test_a_wish_to_wait_longer_is_granted() -> None:
    """Retry-After lengthens a wait and never shortens it; for a rate limit it is the wait."""
    assert POLICY.after(RetryableError(retry_after_seconds=90), attempts=1, max_attempts=4).delay_seconds == 90
    assert POLICY.after(RetryableError(retry_after_seconds=1), attempts=1, max_attempts=4).delay_seconds == 60
    decided = POLICY.after(RateLimitError(retry_after_seconds=3), attempts=4, max_attempts=4)
    assert decided == Later(decided.failure, 3)


@pytest.mark.parametrize("calls", [None, 0, 1])
def test_the_queue_is_told_whether_a_model_was_asked(calls: int | None) -> None:
    """A wait that was known of beforehand says nothing about the job's own calls, and has no bound."""
    error = RateLimitError(retry_after_seconds=3)
    error.calls = calls
    assert POLICY.after(error, attempts=1, max_attempts=4).failure.calls == calls


def test_no_wish_is_longer_than_an_hour() -> None:
    """Else one answer could put a job beyond the bound on deferrals; a day's budget alone is waited for as a whole."""
    week = 7 * 24 * 3600
    assert POLICY.after(RateLimitError(retry_after_seconds=week), attempts=1, max_attempts=4).delay_seconds == 3600
    assert POLICY.after(RetryableError(retry_after_seconds=week), attempts=1, max_attempts=4).delay_seconds == 3600
    budget = POLICY.after(BudgetExhausted(retry_after_seconds=80_000), attempts=1, max_attempts=4)
    assert budget == Later(budget.failure, 80_000)


@pytest.mark.parametrize(("deferred", "delay"), [(0, 2), (1, 2), (30, 30), (86_000, 600)])
def test_what_no_file_is_to_blame_for_costs_no_attempt(deferred: float, delay: float) -> None:
    """An outage of the database, or a worker that can read nothing: soon again at first, later ever more slowly."""
    refused = AuthenticationError(code="DATABASE_LOGIN_REFUSED")  # while a password is being changed
    away = DependencyUnavailable(code="DATABASE_UNAVAILABLE")
    for error in (PoolExhausted(), away, refused, ReaderUnavailable()):
        decided = POLICY.after(error, attempts=4, max_attempts=4, deferred_seconds=deferred)
        assert decided == Later(decided.failure, delay)
