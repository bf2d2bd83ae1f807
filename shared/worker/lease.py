"""Works under a lease: renews it while the work runs, and stops the work the moment it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

from shared.clock import Clock
from shared.errors import HeadraceError, LeaseLost
from shared.model.job import Lease
from shared.ports.stores import WorkQueue
from shared.worker.gate import may_pass

_log = structlog.get_logger(__name__)

T = TypeVar("T")


async def under_lease(
    work: Coroutine[Any, Any, T],
    *,
    queue: WorkQueue,
    lease: Lease,
    clock: Clock,
    heartbeat_seconds: float,
    lease_seconds: float,
) -> T:
    """Return what the work returns; nothing of it runs on when this ends.

    Raises:
        LeaseLost: the job was cancelled, superseded or rescued, or could not be renewed in time; the work was stopped.
        Exception: whatever the work raised.
    """
    try:
        async with asyncio.TaskGroup() as group:
            heart = group.create_task(_beat(queue, lease, clock, heartbeat_seconds, lease_seconds))
            result = await work
            heart.cancel()
    except BaseExceptionGroup as failures:
        # The group holds the heart's end, or the work's, or both; a lost lease explains the other.
        lost, rest = failures.split(LeaseLost)
        raise (lost or rest or failures).exceptions[0] from None
    return result


async def _beat(queue: WorkQueue, lease: Lease, clock: Clock, heartbeat_seconds: float, lease_seconds: float) -> None:
    renewed_at = clock.monotonic()
    while True:
        await clock.sleep(heartbeat_seconds)
        asked_at = clock.monotonic()
        try:
            await queue.renew(lease)
            renewed_at = asked_at
        except HeadraceError as error:
            if not may_pass(error):
                raise
            # The database is away: keep working while the lease surely holds, since a fenced write decides anyway.
            _log.warning("lease.not_renewed", job_id=str(lease.job_id), error_code=error.code)
            if clock.monotonic() - renewed_at > lease_seconds:
                raise LeaseLost from error
