"""`Turns` on Postgres: one row per model that has refused a call, so that all processes keep its limit together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.model.pace import Pace, after_refusal
from shared.postgres import queries

if TYPE_CHECKING:
    from shared.postgres.pool import Database


class PostgresTurns:
    """See `shared.ports.models.Turns`. As long as no model refuses, a turn costs one look at an empty table."""

    def __init__(self, database: Database) -> None:
        """Take the pool."""
        self._db = database
        self._sql = queries.load("rate_limits")

    async def take(self, model: str) -> float:  # noqa: D102
        async with self._db.get_connection() as connection:
            row = await self._sql.read_pace.first(connection, model=model)
        if row is None or _pace(row).is_forgotten(row["now"]):
            return 0.0
        if wait := _pace(row).wait_seconds(row["now"]):
            return wait
        async with self._db.transaction() as connection:
            row = await self._sql.lock_pace.first(connection, model=model)
            if row is None:
                return 0.0
            if wait := _pace(row).wait_seconds(row["now"]):
                return wait
            await self._sql.write_pace.run(connection, model=model, **_columns(_pace(row).after_turn(row["now"])))
        return 0.0

    async def refused(self, model: str, *, wait_seconds: float) -> None:  # noqa: D102
        async with self._db.transaction() as connection:
            # The row is there before it is read, so that two first refusals at once are one burst.
            await self._sql.add_pace.run(connection, model=model)
            row = await self._sql.lock_pace.first(connection, model=model)
            known = None if row["rate"] is None else _pace(row)
            pace = after_refusal(known, now=row["now"], wait_seconds=wait_seconds)
            await self._sql.write_pace.run(connection, model=model, **_columns(pace))


def _pace(row: Any) -> Pace:
    return Pace(**{name: row[name] for name in _FIELDS})


def _columns(pace: Pace) -> dict[str, Any]:
    return {name: getattr(pace, name) for name in _FIELDS}


_FIELDS = ("rate", "seeking", "blocked_until", "next_turn_at", "refused_at")
