"""What nobody needs any more, once an hour: told rows, old ledgers, runs, letters and replays, vectors, gone files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import structlog

from services.recover.budget import Budget
from services.recover.duties.cursor import Cursor
from shared.errors import Conflict
from shared.ports.pruning import PruningStore

_log = structlog.get_logger(__name__)

BATCH = 1000
DOCUMENTS_AT_ONCE = 50
"""Each takes its jobs and their ledgers along."""

BATCHES_AT_ONCE = 5
"""Each takes the replays of all its letters along, which may be very many."""

RUNS_KEEP_DAYS = 30
VECTORS_KEEP_HOURS = 24
"""A file that is overwritten or put back within a day finds its vectors."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Keep:
    """How long things are kept."""

    outbox_days: int
    ledger_days: int
    deleted_days: int
    letters_days: int
    replays_days: int


async def prune(store: PruningStore, budget: Budget, cursor: Cursor, *, keep: Keep) -> Counter[str]:
    """Remove what is old in batches until nothing is left or the budget is spent; then `unfinished` is counted."""
    counts: Counter[str] = Counter(outbox=0, ledger=0, runs=0, documents=0, letters=0, replays=0, claims=0, vectors=0)
    by_age: dict[str, tuple[Callable[..., Awaitable[int]], int]] = {
        "outbox": (partial(store.prune_outbox, keep_days=keep.outbox_days), BATCH),
        "documents": (partial(store.prune_documents, keep_days=keep.deleted_days), DOCUMENTS_AT_ONCE),
        "ledger": (partial(store.prune_ledger, keep_days=keep.ledger_days), BATCH),
        "runs": (partial(store.prune_runs, keep_days=RUNS_KEEP_DAYS), BATCH),
        "replays": (partial(store.prune_replays, keep_days=keep.replays_days), BATCHES_AT_ONCE),
        "claims": (store.prune_claims, BATCH),
        "letters": (partial(store.prune_letters, keep_days=keep.letters_days), BATCH),
    }
    for what, (remove, size) in by_age.items():
        while not budget.spent:
            removed = await remove(limit=size)
            counts[what] += removed
            if removed < size:
                break
    await _prune_vectors(store, budget, cursor, counts)
    if budget.spent:
        counts["unfinished"] = 1
    return counts


async def _prune_vectors(store: PruningStore, budget: Budget, cursor: Cursor, counts: Counter[str]) -> None:
    """Go through the vectors from where the last run stopped; each page says where the next one begins."""
    after = cursor.start
    while not budget.spent:
        try:
            page = await store.prune_vectors(keep_hours=VECTORS_KEEP_HOURS, limit=BATCH, after=after)
        except Conflict:
            # Writers come first. The next run goes on here.
            _log.info("prune.vectors_in_use")
            break
        counts["vectors"] += page.removed
        after = page.after
        if after is None:
            break
    cursor.stopped = after
