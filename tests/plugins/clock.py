"""Clocks that stand still: until a test moves them, or but for those who sleep."""

import asyncio
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count

from shared.clock import SystemClock


class ManualClock:
    """A `shared.clock.Clock` under the control of a test; every moment and every sleeper is its own."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed_seconds = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._serial = count()

    def now(self) -> datetime:
        """Return the start plus all advances."""
        return self._start + timedelta(seconds=self._elapsed_seconds)

    def monotonic(self) -> float:
        """Return the sum of all advances."""
        return self._elapsed_seconds

    async def sleep(self, seconds: float) -> None:
        """Return when `advance` has moved the clock by `seconds` or more."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        awake = asyncio.Event()
        heappush(self._sleepers, (self._elapsed_seconds + seconds, next(self._serial), awake))
        await awake.wait()

    def advance(self, seconds: float) -> None:
        """Move the clock on and wake those whose time has come; they run when the caller next awaits."""
        self._elapsed_seconds += seconds
        while self._sleepers and self._sleepers[0][0] <= self._elapsed_seconds:
            heappop(self._sleepers)[2].set()


class SleepersClock(ManualClock):
    """Moves only while somebody sleeps, and they really do: for waits whose end is told by the database's clock."""

    async def sleep(self, seconds: float) -> None:
        """Return when that time has really passed."""
        await SystemClock().sleep(seconds)
        self.advance(seconds)
