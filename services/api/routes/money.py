"""What organizations may spend, and what an import would cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.api.money_schemas import (
    BudgetBody,
    BudgetList,
    BudgetParams,
    BudgetView,
    EstimateParams,
    EstimateView,
)
from services.api.route import Call, Route
from services.api.schemas import NoParams
from shared.clock import Clock
from shared.model.price import MICROS
from shared.ports.budgets import Budget, Budgets
from shared.worker.estimate import CostEstimate

SECONDS = 15.0
"""After this a request answers with what it has counted; whoever asks goes on from its cursor."""


class MoneyEndpoints:
    """Needs the role of an administrator throughout."""

    def __init__(self, budgets: Budgets, estimate: CostEstimate, clock: Clock) -> None:
        self._budgets, self._estimate, self._clock = budgets, estimate, clock

    def routes(self) -> Sequence[Route[Any, Any]]:
        """Return the endpoints."""
        return (
            Route(
                method="GET",
                path="/api/v1/admin/budgets",
                summary="Who has a budget of their own, has spent today, or waits for tomorrow",
                params=NoParams,
                answer=BudgetList,
                handler=self.list,
                admin=True,
            ),
            Route(
                method="PUT",
                path="/api/v1/admin/budgets/{organization_id}",
                summary="Set what an organization may spend on models in a day; jobs that wait are looked at again",
                params=BudgetParams,
                body=BudgetBody,
                answer=BudgetView,
                handler=self.set,
                admin=True,
            ),
            Route(
                method="GET",
                path="/api/v1/admin/estimate",
                summary="What the import of a prefix would cost: counts, tokens and money by kind of file",
                params=EstimateParams,
                answer=EstimateView,
                handler=self.estimate,
                admin=True,
            ),
        )

    async def list(self, call: Call[NoParams, None]) -> BudgetList:  # noqa: ARG002 - every caller gets the same
        """Answer with the day so far."""
        return BudgetList(budgets=[BudgetView.of(budget) for budget in await self._budgets.today()])

    async def set(self, call: Call[BudgetParams, BudgetBody]) -> BudgetView:
        """Set a budget and answer with the organization's day."""
        name, amount = call.params.organization_id, call.body.amount
        await self._budgets.set(name, None if amount is None else round(amount * MICROS))
        found = await self._budgets.today(name)
        nothing = Budget(organization_id=name, amount_micros=None, spent_micros=0, waiting_jobs=0)
        return BudgetView.of(found[0] if found else nothing)

    async def estimate(self, call: Call[EstimateParams, None]) -> EstimateView:
        """Answer with a stretch of names."""
        until = self._clock.monotonic() + SECONDS
        asked = call.params
        return EstimateView.of(
            await self._estimate.run(
                asked.prefix,
                after=asked.cursor or "",
                limit=asked.limit,
                stop=lambda: self._clock.monotonic() >= until,
            )
        )
