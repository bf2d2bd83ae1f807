"""The pace of calls to a model that limits them, against a model that allows so many calls in each window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared.model.pace import FORGOTTEN_SECONDS, LONGEST_WAIT_SECONDS, Pace, after_refusal

START = datetime(2026, 1, 1, tzinfo=UTC)
SEEKING = 6
"""Refusals until a pace below one call a second is found."""


def storm(*, allowed: int, window_seconds: float, seconds: float, at_once: int) -> tuple[int, int]:
    """Call for so long as fast as the pace lets us; return how many calls were made and how many were refused.

    `at_once` calls are under way when the first refusal comes.
    """
    pace: Pace | None = None
    used: dict[int, int] = {}
    calls = refused = 0
    elapsed = 0.0

    def call() -> float | None:
        nonlocal calls, refused
        calls += 1
        window = int(elapsed // window_seconds)
        used[window] = used.get(window, 0) + 1
        if used[window] <= allowed:
            return None
        refused += 1
        return (window + 1) * window_seconds - elapsed

    for _ in range(at_once):
        if (wait := call()) is not None:
            pace = after_refusal(pace, now=START, wait_seconds=wait)
    while elapsed < seconds:
        now = START + timedelta(seconds=elapsed)
        if pace is not None and (pause := pace.wait_seconds(now)):
            elapsed += pause + 1e-6
            continue
        if pace is not None:
            pace = pace.after_turn(now)
        if (wait := call()) is not None:
            pace = after_refusal(pace, now=now, wait_seconds=wait)
        if pace is None:
            elapsed += 0.001
    return calls, refused


@pytest.mark.parametrize(
    ("allowed", "window_seconds"), [(1, 5.0), (1, 1.0), (5, 1.0), (50, 1.0), (200, 1.0), (60, 60.0), (600, 60.0)]
)
def test_a_storm_of_five_minutes_costs_hardly_a_call_too_many(allowed: int, window_seconds: float) -> None:
    """Whatever the limit is, calls stay below a tenth more than were allowed, and more than half of it is used."""
    calls, refused = storm(allowed=allowed, window_seconds=window_seconds, seconds=300, at_once=16)
    granted = calls - refused
    assert calls <= allowed * 300 / window_seconds * 1.1 + 16 + SEEKING
    assert refused <= granted * 0.1 + 16 + SEEKING
    assert granted >= allowed * 300 / window_seconds * 0.5


def test_a_burst_of_refusals_is_one_sign() -> None:
    """Calls that were under way when the first refusal came do not slow the pace further, but may ask for more time."""
    first = after_refusal(None, now=START, wait_seconds=2)
    burst = after_refusal(first, now=START + timedelta(seconds=0.1), wait_seconds=4)
    assert (burst.rate, burst.seeking) == (first.rate, first.seeking)
    assert burst.wait_seconds(START) == pytest.approx(4.1)


def test_a_pace_that_holds_nobody_back_does_not_grow() -> None:
    """Callers that come more rarely than they may say nothing about the limit."""
    pace = after_refusal(None, now=START, wait_seconds=1)
    for minute in range(1, 10):
        pace = pace.after_turn(START + timedelta(minutes=minute))
    assert pace.rate == 1.0


def test_an_old_refusal_is_forgotten_but_a_long_wait_is_kept() -> None:
    """A quarter of an hour after the end of the wait nothing is held back; during it everything is."""
    day = after_refusal(None, now=START, wait_seconds=86_400)
    assert day.wait_seconds(START + timedelta(hours=23)) == pytest.approx(3600)
    assert not day.is_forgotten(START + timedelta(hours=23))
    assert day.is_forgotten(START + timedelta(days=1, seconds=FORGOTTEN_SECONDS + 1))


def test_a_wish_for_years_blocks_nobody_for_years() -> None:
    """One answer cannot hold the whole fleet back for more than a day."""
    pace = after_refusal(None, now=START, wait_seconds=1e12)
    assert pace.wait_seconds(START) == LONGEST_WAIT_SECONDS
