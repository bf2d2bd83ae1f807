"""Connections of one loop, lent without tasks: for runs of very many short transactions, where a real pool costs most.

Stands where `shared.postgres.pool.Database` has asyncpg's pool. Connections are prepared as the product prepares its
own; one that was closed is replaced when it is missed, so that few of them prepare all statements anew. A connection
plans each statement once, as it would by itself from the sixth time on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from shared.clock import SystemClock
from shared.postgres import pool
from shared.postgres.pool import Database, open_database


class WarmPool:
    """What `Database` asks of a pool; its connections are borrowed from a real one for good."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self._idle: deque[Any] = deque()
        self._size = 0

    async def acquire(self, *, timeout: float) -> Any:
        """Lend an open connection."""
        if self._idle:
            return self._idle.pop()
        self._size += 1
        return await self._real.acquire(timeout=timeout)

    async def release(self, connection: Any) -> None:
        """Take a connection back; what it left open is rolled back."""
        if connection.is_closed():
            await self._real.release(connection)
            self._size -= 1
            return
        await pool._reset(connection)
        self._idle.append(connection)

    async def close(self) -> None:
        """Give all back."""
        while self._idle:
            await self._real.release(self._idle.pop())

    def get_size(self) -> int:
        """Return how many connections there are."""
        return self._size

    def get_idle_size(self) -> int:
        """Return how many are not lent."""
        return len(self._idle)


@asynccontextmanager
async def open_warm_database(url: str, *, size: int) -> AsyncIterator[Database]:
    """Open a database like `open_database` does, for the tasks of one loop."""
    async with open_database(f"{url}&plan_cache_mode=force_generic_plan", size=size) as real:
        warm = WarmPool(real._pool)
        try:
            yield Database(warm, acquire_timeout_seconds=10, clock=SystemClock())  # type: ignore[arg-type]
        finally:
            await warm.close()
