"""What nobody needs any more, once an hour: told rows, old ledgers, runs, letters and replays, vectors, gone files."""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing

import structlog

from services.recover.budget import Budget
from services.recover.duties.cursor import Cursor
from services.recover.duties.partly import PartlyDone
from shared.errors import Conflict
from shared.ports.pruning import PruningStore
from shared.worker.pruning import BATCH, Keep, prune_by_age

_log = structlog.get_logger(__name__)

VECTORS_KEEP_HOURS = 24
"""A file that is overwritten or put back within a day finds its vectors."""


async def prune(store: PruningStore, budget: Budget, cursor: Cursor, *, keep: Keep) -> Counter[str]:
    """Remove what is old in batches until nothing is left or the budget is spent; then `unfinished` is counted.

    Raises:
        PartlyDone: with the first of what kept a kind from being removed; all others were done.
    """
    counts: Counter[str] = Counter(
        outbox=0, ledger=0, runs=0, jobs=0, documents=0, letters=0, replays=0, claims=0, vectors=0
    )
    failed: Exception | None = None
    if budget.left_seconds > 0:
        async with aclosing(prune_by_age(store, keep)) as batches:
            async for batch in batches:
                counts[batch.kind] += batch.rows
                failed = failed or batch.error
                if budget.spent:
                    break
    try:
        await _prune_vectors(store, budget, cursor, counts)
    except Exception as error:  # noqa: BLE001 - what was wrong first is what the run says
        failed = failed or error
    if budget.spent:
        counts["unfinished"] = 1
    if failed is not None:
        raise PartlyDone(counts, failed)
    return counts


async def _prune_vectors(store: PruningStore, budget: Budget, cursor: Cursor, counts: Counter[str]) -> None:
    """Go through the vectors from where the last run stopped; each page says where the next one begins."""
    cursor.stopped = cursor.start
    while not budget.spent:
        try:
            page = await store.prune_vectors(keep_hours=VECTORS_KEEP_HOURS, limit=BATCH, after=cursor.stopped)
        except Conflict:
            # Writers come first. The next run goes on here.
            _log.info("prune.vectors_in_use")
            break
        counts["vectors"] += page.removed
        cursor.stopped = page.after
        if page.after is None:
            break
