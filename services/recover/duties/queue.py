"""Jobs: take them back from workers that went silent, ring for those that are due, and again for those that wait."""

from __future__ import annotations

from collections import Counter

from services.recover.budget import Budget
from shared.ports.outbox import Outbox
from shared.ports.stores import RecoverStore


async def rescue(store: RecoverStore, budget: Budget, *, batch_size: int) -> Counter[str]:
    """Give every job with an expired lease back to the queue, or fail it when it was rescued too often.

    Goes past those that cannot be treated now. When the database is too slow for a batch, smaller ones are tried.
    """
    counts: Counter[str] = Counter(rescued=0, failed=0, skipped=0, errors=0)
    size, after = batch_size, None
    while not budget.spent:
        report = await store.rescue_expired(limit=size, after=after)
        if report.too_many:
            size = max(1, size // 2)
            continue
        counts.update(rescued=report.rescued, failed=report.failed, skipped=report.skipped, errors=report.errors)
        size, after = min(size * 2, batch_size), report.after
        if after is None:
            break
    return counts


async def ring_due(outbox: Outbox, budget: Budget, *, batch_size: int) -> Counter[str]:
    """Ring for jobs that became due (retries, deferrals) and were not rung for by a running worker."""
    counts: Counter[str] = Counter(rung=0)
    while not budget.spent:
        rung = await outbox.ring_due(limit=batch_size)
        counts["rung"] += rung
        if rung < batch_size:
            break
    return counts


async def ring_stuck(store: RecoverStore, budget: Budget, *, batch_size: int, threshold_seconds: float) -> Counter[str]:
    """Ring again for jobs that are due and whose last bell is old: it was lost, or the workers are busy."""
    counts: Counter[str] = Counter(rung=0)
    while not budget.spent:
        rung = await store.ring_stuck(limit=batch_size, threshold_seconds=threshold_seconds)
        counts["rung"] += rung
        if rung == 0:
            break
    return counts
