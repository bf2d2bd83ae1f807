"""Replays, a run at a time: outcomes nobody told, what our own outage left behind, and batches people asked for."""

from __future__ import annotations

from collections import Counter

from services.recover.budget import Budget
from shared.worker.replay import Replays

SHARE_SECONDS = 120.0
"""Of a run, at most so much is spent waiting for the rates of batches; the next run goes on."""

LEAST_SECONDS = 5.0
"""So much each run gives, also one whose budget others have spent: else only the oldest batch would get on."""


async def replays(work: Replays, budget: Budget, *, batch_size: int) -> Counter[str]:
    """Take every step that can be taken now, within this duty's share of the budget.

    Raises the first error of a batch when the other batches had their turns.
    """
    counts: Counter[str] = Counter(resolved=0, reopened=0, automatic=0, replayed=0)
    while not budget.spent:
        settled = await work.settle(limit=batch_size)
        counts.update(resolved=settled.resolved, reopened=settled.reopened)
        if settled.resolved + settled.reopened == 0:
            break
    counts["automatic"] += await work.request_automatic() is not None
    seconds = max(LEAST_SECONDS, min(SHARE_SECONDS, budget.left_seconds))
    counts["replayed"] += await work.advance(patience_seconds=seconds)
    return counts
