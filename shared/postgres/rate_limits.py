"""`Turns` on Postgres, so that all processes keep a model's limit together.

One row per model that has refused a call or has a quota, and one per call under way where their number is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog

from shared.errors import HeadraceError
from shared.model.pace import Pace, after_refusal
from shared.model.quota import LOOK_SECONDS, Quota, Spent
from shared.ports.models import Turn
from shared.postgres import queries

if TYPE_CHECKING:
    from shared.postgres.pool import Database

_log = structlog.get_logger(__name__)


class PostgresTurns:
    """See `shared.ports.models.Turns`.

    For a model without a quota, as long as it refuses nothing, a turn costs one look at an empty table.
    """

    def __init__(self, database: Database, quotas: Mapping[str, Quota] | None = None) -> None:
        """Take the pool, and what bounds models by name: the same in all processes, or the tightest rules."""
        self._db, self._quotas = database, quotas or {}
        self._sql = queries.load("rate_limits")

    async def take(self, model: str, turn: Turn) -> float:  # noqa: D102
        quota = self._quotas.get(model)
        if quota is None:
            async with self._db.get_connection() as connection:
                row = await self._sql.read_pace.first(connection, model=model)
            if row is None or _pace(row).is_forgotten(row["now"]):
                return 0.0
            if wait := _pace(row).wait_seconds(row["now"]):
                return wait
        async with self._db.transaction() as connection:
            if quota is not None:
                await self._sql.add_pace.run(connection, model=model)
            row = await self._sql.lock_pace.first(connection, model=model)
            return 0.0 if row is None else await self._take(connection, model, turn, quota or Quota(), row)

    async def _take(self, connection: Any, model: str, turn: Turn, quota: Quota, row: Any) -> float:
        """Take a turn from a row that is locked."""
        now, spent = row["now"], Spent(**{name: row[name] for name in _SPENT_FIELDS})
        pace = None if row["rate"] is None or _pace(row).is_forgotten(now) else _pace(row)
        if wait := max(spent.wait_seconds(now), pace.wait_seconds(now) if pace else 0.0):
            return wait
        if quota.concurrency is not None:
            until = now + timedelta(seconds=turn.longest_seconds)
            place = {"call": turn.id, "model": model, "until": until, "now": now, "most": quota.concurrency}
            await self._sql.forget_dead_calls.run(connection, model=model, now=now)
            if await self._sql.take_place.first(connection, **place) is None:
                return LOOK_SECONDS
        if pace is not None:
            await self._sql.write_pace.run(connection, model=model, **_columns(pace.after_turn(now)))
        if quota.requests_per_minute is not None or quota.tokens_per_minute is not None:
            spent = spent.after_turn(quota, now, requests=turn.requests, tokens=turn.tokens)
            columns = {name: getattr(spent, name) for name in _SPENT_FIELDS}
            await self._sql.write_spent.run(connection, model=model, **columns)
        return 0.0

    async def give_back(self, model: str, turn: Turn, *, used_tokens: int | None = None) -> None:  # noqa: D102
        quota = self._quotas.get(model)
        if quota is None:
            return
        try:
            async with self._db.transaction() as connection:
                if quota.concurrency is not None:
                    await self._sql.free_place.run(connection, call=turn.id)
                if used_tokens is not None and quota.tokens_per_minute is not None:
                    unused = timedelta(seconds=quota.seconds_of_tokens(turn.tokens - used_tokens))
                    await self._sql.give_tokens_back.run(connection, model=model, unused=unused)
        except HeadraceError as error:
            # The answer is here and paid; the place is free when the call's time is over.
            _log.warning("model.turn_not_given_back", model=model, error_code=error.code)

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
_SPENT_FIELDS = ("requests_until", "tokens_until")
