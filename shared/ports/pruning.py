"""What is removed by age, seen from the recover service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorPage:
    """A look at some vectors: how many were looked at and removed, and where the next page begins (None: the end)."""

    seen: int
    removed: int
    after: Mapping[str, Any] | None


class PruningStore(Protocol):
    """Removes what is older than is kept. Each call is one short transaction for `limit` rows at most, found through
    an index; rows that others hold are skipped, so that two runs share the work. Each returns how many rows went.
    """

    async def prune_outbox(self, *, keep_days: int, limit: int) -> int:
        """Remove bells and dead letters that were published so long ago."""
        ...

    async def prune_ledger(self, *, keep_days: int, limit: int) -> int:
        """Remove moves of jobs that were published so long ago."""
        ...

    async def prune_runs(self, *, keep_days: int, limit: int) -> int:
        """Remove the summaries of runs that began so long ago."""
        ...

    async def prune_letters(self, *, keep_days: int, limit: int) -> int:
        """Remove dead letters that were resolved or discarded so long ago; never one that is open or being replayed."""
        ...

    async def prune_replays(self, *, keep_days: int, limit: int) -> int:
        """Remove batches of replays that ended so long ago and wait for no outcome."""
        ...

    async def prune_claims(self, *, limit: int) -> int:
        """Remove claims on texts whose job has ended, or was begun anew since; they hold nobody up in any case."""
        ...

    async def prune_jobs(self, *, keep_days: int, limit: int) -> int:
        """Remove jobs that ended, with their ledgers, of documents whose object went so long ago; dead letters of
        theirs that are open are discarded.

        Not those with moves that are still to be published.
        """
        ...

    async def prune_documents(self, *, keep_days: int, limit: int) -> int:
        """Remove documents whose object went so long ago and that have no job left."""
        ...

    async def prune_vectors(self, *, keep_hours: int, limit: int, after: Mapping[str, Any] | None) -> VectorPage:
        """Look at a page of vectors and remove those that are so old and belong to no chunk of any job.

        A vector that a running job counts on is never removed: adding chunks and removing vectors exclude each other.

        Raises:
            Conflict: writers were in the way for too long; nothing was removed.
        """
        ...
