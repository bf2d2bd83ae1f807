"""What is asked of a model is paid within the organization's budget: set aside before the call, settled after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from shared.errors import BudgetExhausted, HeadraceError
from shared.ports.budgets import Spending
from shared.telemetry.instruments import BUDGET_REFUSALS
from shared.telemetry.metrics import Metrics

T = TypeVar("T")


class Purse:
    """Pays for calls; without a budget, or where they cost nothing, it only makes them."""

    def __init__(self, spending: Spending | None, metrics: Metrics) -> None:
        """Take what keeps the budgets."""
        self._spending, self._metrics = spending, metrics

    async def pay(
        self,
        organization_id: str,
        expected_micros: int,
        call: Callable[[], Awaitable[T]],
        *,
        cost: Callable[[T], int],
        lost: Callable[[HeadraceError], int],
    ) -> T:
        """Make a call; `cost` and `lost` say what an answer and an error have cost in the end, in millionths.

        What was set aside for a call that is cancelled stays counted: nobody knows what became of it.

        Raises:
            BudgetExhausted: nothing was asked for.
        """
        if self._spending is None or not expected_micros:
            return await call()
        try:
            reserved = await self._spending.reserve(organization_id, expected_micros)
        except BudgetExhausted:
            self._metrics.add(BUDGET_REFUSALS)
            raise
        try:
            made = await call()
        except HeadraceError as error:
            await self._spending.settle(reserved, lost(error))
            raise
        await self._spending.settle(reserved, cost(made))
        return made
