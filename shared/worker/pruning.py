"""What is removed by age, kind by kind and batch by batch: by recover each hour, and by a job when somebody asks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from dataclasses import dataclass
from functools import partial

import structlog

from shared.errors import code_of
from shared.ports.pruning import PruningStore

_log = structlog.get_logger(__name__)

BATCH = 1000
JOBS_AT_ONCE = 500
"""Each takes its ledger along. A document goes after the last of its jobs, however many batches these take."""

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


@dataclass(frozen=True, slots=True)
class Removed:
    """A batch: how many rows of a kind went, or why none did."""

    kind: str
    rows: int
    error: Exception | None = None


async def prune_by_age(
    store: PruningStore, keep: Keep, *, kinds: Collection[str] | None = None
) -> AsyncGenerator[Removed, None]:
    """Yield each batch, until nothing is left of any kind, or of those that are named.

    A kind that fails is left, and the others are done all the same; who asks sees the error, and raises it at the end.
    """
    by_age: dict[str, tuple[Callable[..., Awaitable[int]], int]] = {
        "outbox": (partial(store.prune_outbox, keep_days=keep.outbox_days), BATCH),
        "jobs": (partial(store.prune_jobs, keep_days=keep.deleted_days), JOBS_AT_ONCE),
        "documents": (partial(store.prune_documents, keep_days=keep.deleted_days), BATCH),
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
            try:
                rows = await remove(limit=size)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one kind must not keep the others
                _log.warning("prune.kind_failed", kind=kind, error_code=code_of(error))
                yield Removed(kind, 0, error)
                break
            yield Removed(kind, rows)
            if rows < size:
                break
