"""`PruningStore` on Postgres."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shared.ports.pruning import VectorPage
from shared.postgres import queries

if TYPE_CHECKING:
    from shared.postgres.pool import Database


class PostgresPruningStore:
    """See `shared.ports.pruning.PruningStore`."""

    def __init__(self, database: Database) -> None:
        """Take the pool."""
        self._db = database
        self._sql = queries.load("prune")

    async def prune_outbox(self, *, keep_days: int, limit: int) -> int:  # noqa: D102
        async with self._db.get_connection() as connection:
            return await self._sql.prune_outbox.run(connection, keep_days=keep_days, limit=limit)

    async def prune_ledger(self, *, keep_days: int, limit: int) -> int:  # noqa: D102
        async with self._db.get_connection() as connection:
            return await self._sql.prune_ledger.run(connection, keep_days=keep_days, limit=limit)

    async def prune_runs(self, *, keep_days: int, limit: int) -> int:  # noqa: D102
        async with self._db.get_connection() as connection:
            return await self._sql.prune_runs.run(connection, keep_days=keep_days, limit=limit)

    async def prune_letters(self, *, keep_days: int, limit: int) -> int:  # noqa: D102
        async with self._db.get_connection() as connection:
            return await self._sql.prune_letters.run(connection, keep_days=keep_days, limit=limit)

    async def prune_replays(self, *, keep_days: int, limit: int) -> int:  # noqa: D102
        async with self._db.get_connection() as connection:
            return await self._sql.prune_replays.run(connection, keep_days=keep_days, limit=limit)

    async def prune_claims(self, *, limit: int) -> int:  # noqa: D102
        async with self._db.get_connection() as connection:
            return await self._sql.prune_claims.run(connection, limit=limit)

    async def prune_jobs(self, *, keep_days: int, limit: int) -> int:  # noqa: D102
        async with self._db.transaction() as connection:
            gone = await self._sql.lock_gone_jobs.all(connection, keep_days=keep_days, limit=limit)
            if gone:
                ids = [row["id"] for row in gone]
                await self._sql.close_letters.run(connection, job_ids=ids)
                await self._sql.drop_jobs.run(connection, job_ids=ids)
        return len(gone)

    async def prune_documents(self, *, keep_days: int, limit: int) -> int:  # noqa: D102
        async with self._db.get_connection() as connection:
            return await self._sql.prune_documents.run(connection, keep_days=keep_days, limit=limit)

    async def prune_vectors(  # noqa: D102
        self, *, keep_hours: int, limit: int, after: Mapping[str, Any] | None
    ) -> VectorPage:
        start = after or {"space_id": -1, "organization_id": "", "text_hash": ""}
        async with self._db.get_connection() as connection:
            page = await self._sql.page_vectors.all(
                connection,
                keep_hours=keep_hours,
                limit=limit,
                space_id=start["space_id"],
                organization_id=start["organization_id"],
                text_hash=bytes.fromhex(start["text_hash"]),
            )
        unused = [row for row in page if row["unused"]]
        removed = 0
        if unused:
            async with self._db.transaction() as connection:
                await self._sql.wait_briefly.run(connection)
                await self._sql.hold_vectors.run(connection)
                removed = await self._sql.prune_vectors.run(
                    connection,
                    space_ids=[row["space_id"] for row in unused],
                    organization_ids=[row["organization_id"] for row in unused],
                    text_hashes=[row["text_hash"] for row in unused],
                )
        last = page[-1] if len(page) == limit else None
        return VectorPage(
            seen=len(page),
            removed=removed,
            after=last
            and {
                "space_id": last["space_id"],
                "organization_id": last["organization_id"],
                "text_hash": last["text_hash"].hex(),
            },
        )
