"""The outbox: publish what was committed and never told."""

from __future__ import annotations

from collections import Counter

from services.recover.budget import Budget
from shared.worker.relay import Relay


async def publish(relay: Relay, budget: Budget) -> Counter[str]:
    """Publish until the outbox is empty, the broker refuses, or the budget is spent."""
    counts: Counter[str] = Counter(published=0, failed=0)
    while not budget.spent:
        sent = await relay.drain()
        counts.update(published=sent.published, failed=sent.failed)
        if sent.published == 0 or sent.failed:
            break
    return counts
