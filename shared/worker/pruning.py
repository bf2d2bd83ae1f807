"""What is removed by age, kind by kind and batch by batch: by recover each hour, and by a job when somebody asks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from dataclasses import dataclass
from functools import partial

from shared.ports.pruning import PruningStore

BATCH = 1000
DOCUMENTS_AT_ONCE = 50
"""Each takes its jobs and their ledgers along."""

BATCHES_AT_ONCE = 5
"""Each takes the replays of all its letters along, which may be very many."""

RUNS_KEEP_DAYS = 30

TRAIL = frozenset({"outbox", "ledger", "runs", "replays", "letters"})
"""What is kept for people to look back at: nothing that is searched, waited for, or still to be told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Keep:
    """How long things are kept."""

    outbox_days: int
    ledger_days: int
    deleted_days: int
    letters_days: int
    replays_days: int
    runs_days: int = RUNS_KEEP_DAYS


async def prune_by_age(
    store: PruningStore, keep: Keep, *, kinds: Collection[str] | None = None
) -> AsyncGenerator[tuple[str, int], None]:
    """Yield, after each batch, what kind it was of and how many rows went; all kinds, or those that are named."""
    by_age: dict[str, tuple[Callable[..., Awaitable[int]], int]] = {
        "outbox": (partial(store.prune_outbox, keep_days=keep.outbox_days), BATCH),
        "documents": (partial(store.prune_documents, keep_days=keep.deleted_days), DOCUMENTS_AT_ONCE),
        "ledger": (partial(store.prune_ledger, keep_days=keep.ledger_days), BATCH),
        "runs": (partial(store.prune_runs, keep_days=keep.runs_days), BATCH),
        "replays": (partial(store.prune_replays, keep_days=keep.replays_days), BATCHES_AT_ONCE),
        "claims": (store.prune_claims, BATCH),
        "letters": (partial(store.prune_letters, keep_days=keep.letters_days), BATCH),
    }
    for kind, (remove, size) in by_age.items():
        if kinds is not None and kind not in kinds:
            continue
        while True:
            removed = await remove(limit=size)
            yield kind, removed
            if removed < size:
                break
