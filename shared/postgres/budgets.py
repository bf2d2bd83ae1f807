"""`Spending` and `Budgets` on Postgres: one row per organization and day, whose lock puts all workers in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import BudgetExhausted
from shared.ports.budgets import Budget, Reservation
from shared.ports.stores import Scope
from shared.postgres import queries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.postgres.pool import Database


RESUMED_AT_ONCE = 1_000
"""How many waiting jobs are brought back by one statement; each is a transaction of its own."""


class PostgresBudgets:
    """See `shared.ports.budgets`."""

    def __init__(self, database: Database, *, default_micros: int | None = None) -> None:
        """`default_micros` is the budget per day of organizations without one of their own; None: no bound."""
        self._db = database
        self._default_micros = default_micros
        self._sql = queries.load("budgets")

    async def reserve(self, organization_id: str, micros: int) -> Reservation:  # noqa: D102
        async with self._db.get_connection() as connection:
            day = await self._sql.reserve.value(
                connection, organization_id=organization_id, micros=micros, default_micros=self._default_micros
            )
            if day is None:
                raise BudgetExhausted(retry_after_seconds=await self._sql.until_tomorrow.value(connection))
        return Reservation(organization_id=organization_id, day=day, micros=micros)

    async def settle(self, reservation: Reservation, micros: int) -> None:  # noqa: D102
        if micros == reservation.micros:
            return
        async with self._db.get_connection() as connection:
            await self._sql.settle.run(
                connection,
                organization_id=reservation.organization_id,
                day=reservation.day,
                difference_micros=micros - reservation.micros,
            )

    async def today(self, organization_id: str | None = None) -> Sequence[Budget]:  # noqa: D102
        async with self._db.transaction(Scope(organization_id=organization_id)) as connection:
            found = await self._sql.budgets_today.all(connection, organization_id=organization_id)
        return [Budget(**dict(row)) for row in found]

    async def set(self, organization_id: str, amount_micros: int | None) -> None:  # noqa: D102
        async with self._db.transaction() as connection:
            if amount_micros is None:
                await self._sql.unset_budget.run(connection, organization_id=organization_id)
            else:
                await self._sql.set_budget.run(connection, organization_id=organization_id, amount_micros=amount_micros)
        # The amount stands whatever becomes of those who wait: there may be more than one transaction can bring back.
        resumed = RESUMED_AT_ONCE
        while resumed:
            async with self._db.get_connection() as connection:
                resumed = await self._sql.resume_deferred.run(
                    connection, organization_id=organization_id, limit=RESUMED_AT_ONCE
                )
