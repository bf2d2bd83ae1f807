"""What organizations may spend on models in a day, and what they have spent. Days are those of UTC, by the database's
clock; amounts are millionths of the currency of the price table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class Reservation:
    """Money that was set aside for one call."""

    organization_id: str
    day: date
    micros: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """One organization's day. `amount_micros` is its own row, None where the default holds."""

    organization_id: str
    amount_micros: int | None
    spent_micros: int
    waiting_jobs: int


class Spending(Protocol):
    """Money is set aside before a call and corrected after it."""

    async def reserve(self, organization_id: str, micros: int) -> Reservation:
        """Set an amount aside as spent, as long as the day's budget is not used up: one atomic statement.

        The last reservation may go beyond the budget by what it is larger than the rest; so every budget above nothing
        gets on, and all workers together overspend by less than one batch. What a worker that died had reserved counts
        as spent.

        Raises:
            BudgetExhausted: nothing was reserved; it says how long it is until the next day.
        """
        ...

    async def settle(self, reservation: Reservation, micros: int) -> None:
        """Replace what was reserved by what the call really cost, on the day of the reservation."""
        ...


class Budgets(Protocol):
    """Budgets as people see and set them."""

    async def today(self, organization_id: str | None = None) -> Sequence[Budget]:
        """Return the organizations that have a budget of their own, have spent today, or wait for tomorrow."""
        ...

    async def set(self, organization_id: str, amount_micros: int | None) -> None:
        """Give an organization a budget per day of its own, or none of its own: then the default holds again.

        Jobs that wait for the next day become due at once, after the amount is committed. Those for which that fails
        become due at their time, or when this is asked again.
        """
        ...
