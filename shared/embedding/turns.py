"""Turns within one process: for a model whose limit is shared with nobody else, and for tests."""

from __future__ import annotations

from shared.clock import Clock
from shared.model.pace import Pace, after_refusal


class ProcessTurns:
    """`Turns` in memory."""

    def __init__(self, clock: Clock) -> None:
        """Know of no refusal."""
        self._clock = clock
        self._paces: dict[str, Pace] = {}

    async def take(self, model: str) -> float:
        """Take a turn, or say how long it is until the next."""
        now, pace = self._clock.now(), self._paces.get(model)
        if pace is None or pace.is_forgotten(now):
            return 0.0
        if wait := pace.wait_seconds(now):
            return wait
        self._paces[model] = pace.after_turn(now)
        return 0.0

    async def refused(self, model: str, *, wait_seconds: float) -> None:
        """Hold everybody back for so long, and be slower afterwards."""
        self._paces[model] = after_refusal(self._paces.get(model), now=self._clock.now(), wait_seconds=wait_seconds)
