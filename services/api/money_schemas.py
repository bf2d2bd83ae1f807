"""Budgets and estimates, as they are sent."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field

from services.api.schemas import Answer, Prefix, Request, Text
from shared.model.estimate import Estimate, KindEstimate
from shared.model.price import MICROS
from shared.ports.budgets import Budget

Organization = Annotated[Text, Field(min_length=1, max_length=128)]


class BudgetParams(Request):
    """One organization."""

    organization_id: Organization


class BudgetBody(Request):
    """A budget per day of UTC, in the currency of the prices; null: the default holds."""

    amount: float | None = Field(ge=0, le=1e9, allow_inf_nan=False)


class BudgetView(Answer):
    """What an organization may spend today, and has spent. Amounts in the currency of the prices."""

    organization_id: str
    amount: float | None = Field(description="Null where the default holds, BUDGET_PER_DAY")
    spent_today: float
    waiting_jobs: int = Field(description="Jobs that are put off till the next day")

    @classmethod
    def of(cls, budget: Budget) -> Self:
        """Return what is shown of a budget."""
        return cls(
            organization_id=budget.organization_id,
            amount=None if budget.amount_micros is None else budget.amount_micros / MICROS,
            spent_today=budget.spent_micros / MICROS,
            waiting_jobs=budget.waiting_jobs,
        )


class BudgetList(Answer):
    """Organizations with a budget of their own, with spending today, or with jobs that wait for tomorrow."""

    budgets: list[BudgetView]


class EstimateParams(Request):
    """A stretch of the bucket."""

    prefix: Prefix = ""
    cursor: Annotated[Text, Field(min_length=1, max_length=1024, description="Names beyond this one")] | None = None
    limit: int = Field(10_000, ge=1, le=50_000, description="How many names are counted at most")


class KindView(Answer):
    """Files whose names end alike, such as `.pdf`."""

    objects: int
    size_bytes: int
    indexed: int
    too_large: int
    new_bytes: int
    tokens: int
    cost_micros: int
    measured: bool = Field(description="By files of this kind in this index, rather than by a general ratio")
    pages_least: int = Field(description="Pages that a model would read, with READ_IMAGES=gemini: images, and scans")
    pages_most: int = Field(description="More than `pages_least` where nobody knows how many pages are scans")
    reading_micros_least: int = Field(description="What that would cost, besides `cost_micros`")
    reading_micros_most: int

    @classmethod
    def of(cls, entry: KindEstimate) -> Self:
        """Return what is shown of files of one kind; pages are counted in parts, and shown whole."""
        values = {name: getattr(entry, name) for name in cls.model_fields}
        return cls(**values | {name: round(value) for name, value in values.items() if isinstance(value, float)})


class EstimateView(Answer):
    """What the import of a stretch of names would take, by the end of the names."""

    kinds: dict[str, KindView]
    next_cursor: str | None = Field(description="Hand this back as `cursor` to go on; null at the end")

    @classmethod
    def of(cls, estimate: Estimate) -> Self:
        """Return an estimate as it is sent."""
        kinds = {kind: KindView.of(entry) for kind, entry in estimate.kinds.items()}
        return cls(kinds=kinds, next_cursor=estimate.after)
