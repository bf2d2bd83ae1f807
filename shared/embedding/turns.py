"""Turns within one process: for a model whose limit is shared with nobody else, and for tests."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID

from shared.clock import Clock
from shared.model.pace import Pace, after_refusal
from shared.model.quota import LOOK_SECONDS, Quota, Spent
from shared.ports.models import Turn


class ProcessTurns:
    """`Turns` in memory."""

    def __init__(self, clock: Clock, quotas: Mapping[str, Quota] | None = None) -> None:
        """Know of no refusal; `quotas` bound models by name."""
        self._clock, self._quotas = clock, quotas or {}
        self._paces: dict[str, Pace] = {}
        self._spent: dict[str, Spent] = {}
        self._under_way: dict[str, dict[UUID, datetime]] = {}

    async def take(self, model: str, turn: Turn) -> float:
        """Take a turn, or say how long it is until the next."""
        now, pace, quota = self._clock.now(), self._paces.get(model), self._quotas.get(model, Quota())
        spent = self._spent.get(model, Spent())
        if pace is not None and pace.is_forgotten(now):
            pace = None
        if wait := max(spent.wait_seconds(now), pace.wait_seconds(now) if pace else 0.0):
            return wait
        if quota.concurrency is not None:
            calls = self._under_way.setdefault(model, {})
            for call in [call for call, until in calls.items() if until <= now]:
                del calls[call]
            if len(calls) >= quota.concurrency:
                return LOOK_SECONDS
            calls[turn.id] = now + timedelta(seconds=turn.longest_seconds)
        if pace is not None:
            self._paces[model] = pace.after_turn(now)
        self._spent[model] = spent.after_turn(quota, now, requests=turn.requests, tokens=turn.tokens)
        return 0.0

    async def give_back(self, model: str, turn: Turn, *, used_tokens: int | None = None) -> None:
        """Free the place, and correct the estimate."""
        self._under_way.get(model, {}).pop(turn.id, None)
        if used_tokens is not None and model in self._spent:
            quota = self._quotas.get(model, Quota())
            self._spent[model] = self._spent[model].after_answer(quota, unused_tokens=turn.tokens - used_tokens)

    async def refused(self, model: str, *, wait_seconds: float) -> None:
        """Hold everybody back for so long, and be slower afterwards."""
        self._paces[model] = after_refusal(self._paces.get(model), now=self._clock.now(), wait_seconds=wait_seconds)
