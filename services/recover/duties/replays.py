"""Replays, a run at a time: outcomes nobody told, what our own outage left behind, and batches people asked for."""

from __future__ import annotations

from collections import Counter

from services.recover.budget import Budget
from shared.worker.replay import Replays

SHARE_SECONDS = 120.0
"""Of a run, at most so much is spent waiting for the rates of batches; the next run goes on."""


async def replays(work: Replays, budget: Budget, *, batch_size: int) -> Counter[str]:
    """Take every step that can be taken now, within this duty's share of the budget."""
    counts: Counter[str] = Counter(resolved=0, reopened=0, automatic=0, replayed=0)
    while not budget.spent:
        settled = await work.settle(limit=batch_size)
        counts.update(resolved=settled.resolved, reopened=settled.reopened)
        if settled.resolved + settled.reopened == 0:
            break
    counts["automatic"] += await work.request_automatic() is not None
    counts["replayed"] += await work.advance(patience_seconds=min(SHARE_SECONDS, budget.left_seconds))
    return counts
