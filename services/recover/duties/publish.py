"""The outbox: publish what was committed and never told."""

from __future__ import annotations

from collections import Counter

from services.recover.budget import Budget
from shared.worker.relay import Relay


async def publish(relay: Relay, budget: Budget) -> Counter[str]:
    """Publish until the outbox is empty or the budget is spent; one batch in any case.

    A topic that refuses is left to the next run, and holds up no other.
    """
    counts: Counter[str] = Counter(published=0, failed=0)
    refused: frozenset[str] = frozenset()
    while True:
        sent = await relay.drain(without=refused)
        counts.update(published=sent.published, failed=sent.failed)
        refused |= sent.refused
        if sent.published == 0 or budget.spent:
            return counts
