"""Time as a dependency: the only module that asks the system what time it is.

Product code takes a `Clock`; tests hand in one that moves only when told. Leases and due times do *not* use this
clock but the database's (`headrace_now()` in the schema), because several machines have to agree on them.
"""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time and waits. Every implementation is safe to use from many tasks."""

    def now(self) -> datetime:
        """Return the present wall-clock time, timezone-aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start that never go backwards."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; zero or less gives other tasks a turn and returns at once."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:  # noqa: D102
        return datetime.now(UTC)

    def monotonic(self) -> float:  # noqa: D102
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:  # noqa: D102
        await asyncio.sleep(max(0.0, seconds))
