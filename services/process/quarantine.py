"""Runs jobs that were rescued from a dead worker alone in their worker.

A worker that dies takes down every job it holds, and only one of them may be the cause. Each of them therefore runs
once more with nothing beside it: if the worker dies again, the job that is charged for it is the one that did it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Quarantine:
    """Many may be in the shared room at once; whoever is alone is really alone. Those who wait to be alone go first."""

    def __init__(self) -> None:
        """Open, with nobody inside."""
        self._changed = asyncio.Condition()
        self._inside = 0
        self._alone = False
        self._waiting_to_be_alone = 0

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """Work beside others; waits while somebody is alone or waits to be."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._alone and not self._waiting_to_be_alone)
            self._inside += 1
        try:
            yield
        finally:
            async with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Work with nobody beside; waits until the room is empty, and keeps new ones out meanwhile."""
        async with self._changed:
            self._waiting_to_be_alone += 1
            try:
                await self._changed.wait_for(lambda: not self._alone and self._inside == 0)
                self._alone = True
            finally:
                self._waiting_to_be_alone -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            async with self._changed:
                self._alone = False
                self._changed.notify_all()
