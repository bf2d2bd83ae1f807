"""Calls are paid within a budget: set aside, corrected by what they cost, also when they fail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import date

import pytest

from services.process.purse import Purse
from shared.errors import BudgetExhausted, DependencyUnavailable, HeadraceError
from shared.ports.budgets import Reservation
from shared.telemetry.metrics import Metrics


class Ledger:
    """A `Spending` of one day that writes everything down."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.settled: list[tuple[int, int]] = []

    async def reserve(self, organization_id: str, micros: int) -> Reservation:
        if self.left <= 0:
            raise BudgetExhausted(retry_after_seconds=60)
        self.left -= micros
        return Reservation(organization_id=organization_id, day=date(2026, 1, 1), micros=micros)

    async def settle(self, reservation: Reservation, micros: int) -> None:
        self.settled.append((reservation.micros, micros))


@pytest.fixture
async def metrics() -> AsyncIterator[Metrics]:
    """Give counters of this test alone."""
    async with Metrics("test") as opened:
        yield opened


async def pay(purse: Purse, call: Callable[[], Awaitable[int]], expected: int = 10) -> int:
    """Pay for a call that says itself what it cost."""
    return await purse.pay("acme", expected, call, cost=lambda made: made, lost=lambda error: error.input_tokens)


async def costs_seven() -> int:
    """Answer what this cost."""
    return 7


async def fails_for_three() -> int:
    """Fail after something was paid."""
    error: HeadraceError = DependencyUnavailable()
    error.input_tokens = 3
    raise error


async def test_what_was_expected_is_corrected_by_what_it_cost(metrics: Metrics) -> None:
    """Also where the call failed: then it is what the useless answers cost."""
    ledger = Ledger(100)
    purse = Purse(ledger, metrics)
    assert await pay(purse, costs_seven) == 7
    with pytest.raises(DependencyUnavailable):
        await pay(purse, fails_for_three)
    assert ledger.settled == [(10, 7), (10, 3)]


async def test_nothing_is_asked_for_without_money(metrics: Metrics) -> None:
    """The refusal is counted, and the call not made."""
    asked = []

    async def call() -> int:
        asked.append(1)
        return 1

    with pytest.raises(BudgetExhausted):
        await pay(Purse(Ledger(0), metrics), call)
    assert asked == []
    assert "headrace_budget_refusals_total" in metrics.text()


async def test_what_costs_nothing_needs_no_budget(metrics: Metrics) -> None:
    """A free model, and a service without budgets, ask at once."""
    ledger = Ledger(0)
    assert await pay(Purse(ledger, metrics), costs_seven, expected=0) == 7
    assert await pay(Purse(None, metrics), costs_seven) == 7
    assert ledger.settled == []
