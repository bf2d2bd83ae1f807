"""Reads a table of the older kind, wherever it is, and keeps its rows as history here.

A row that was completed becomes a line of history, with no passages: what is searchable is only what was indexed here.
One that had not ended well becomes history too, and in the same transaction a hint about its object, as the bucket
would have sent it; ingest then decides. A row is taken once, however often and in how many pieces this runs.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg

from shared.clock import Clock, SystemClock
from shared.errors import InvalidRequest, NotFound
from shared.ids import uuid7
from shared.model.job import Status
from shared.model.old_jobs import COLUMNS, OldJob
from shared.postgres import effects, queries
from shared.postgres.errors import connecting, translated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.postgres.pool import Database

BATCH = 500
CONNECT_SECONDS = 10.0

IMPORTED_ANEW = "IMPORTED_ANEW"
_ANEW = "Taken from an older table, where it had not been completed; its file was looked at anew."
_ENDED = "Taken from an older table, where it had been cancelled."


class OldTable:
    """One table of a source, read in one transaction that changes nothing; rows come as text."""

    def __init__(self, connection: Any, name: str, select: str) -> None:
        self._connection, self._select = connection, select
        self.name = name
        """Database, schema and table: with a row's id, what makes it the same row the next time."""

    async def batches(self) -> AsyncGenerator[list[dict[str, str | None]], None]:
        """Yield the rows in the order of their ids."""
        batch: list[dict[str, str | None]] = []
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            async for row in self._connection.cursor(self._select, prefetch=BATCH):
                batch.append(dict(row))
                if len(batch) == BATCH:
                    yield batch
                    batch = []
        if batch:
            yield batch


@asynccontextmanager
async def open_table(dsn: str, table: str) -> AsyncIterator[OldTable]:
    """Open a table to be read.

    Raises:
        NotFound: there is no such table.
        InvalidRequest: it has no ids, no paths, or neither status nor stage.
        HeadraceError: its database cannot be reached, or does not let us in.
    """
    sql = queries.load("old_jobs")
    with connecting("the address of the old jobs' database"):
        connection = await asyncpg.connect(dsn, timeout=CONNECT_SECONDS, server_settings={"timezone": "UTC"})
    try:
        with translated():
            found = await sql.source_name.first(connection, table=table)
            if found["table"] is None:
                raise NotFound(f"there is no table {table!r} in the database {found['database']!r}.")
            there = {row["attname"] for row in await sql.source_columns.all(connection, table=table)}
        columns = {
            meaning: name
            for meaning, names in COLUMNS.items()
            if (name := next((n for n in names if n in there), None))
        }
        missing = [" or ".join(COLUMNS[needed]) for needed in ("id", "path") if needed not in columns]
        if missing or not columns.keys() & {"status", "stage"}:
            raise InvalidRequest(f"the table {table!r} has no column {', '.join(missing) or 'status'}.")
        chosen = ", ".join(f'"{name}"::text as "{meaning}"' for meaning, name in columns.items())
        select = f'select {chosen} from {found["table"]} t order by t."{columns["id"]}"'  # noqa: S608 - names that Postgres quoted, or that we chose
        yield OldTable(connection, f"{found['database']}.{found['name']}", select)
    finally:
        await connection.close(timeout=CONNECT_SECONDS)


@dataclass(frozen=True, slots=True)
class Added:
    """How many rows of a batch were new, and for how many of these a hint was written."""

    rows: int
    hints: int


class PostgresHistory:
    """Where such rows are kept. Needs the rights of the schema's owner."""

    def __init__(self, database: Database, *, clock: Clock | None = None) -> None:
        """Take the pool."""
        self._db = database
        self._sql = queries.load("old_jobs")
        self._clock = clock or SystemClock()

    async def known(self, source: str, jobs: Sequence[OldJob]) -> set[str]:
        """Return the ids of those of these rows that are here already."""
        ids = {_identity(source, job): job.source_id for job in jobs}
        async with self._db.get_connection() as connection:
            found = await self._sql.known_history.all(connection, entity_ids=list(ids))
        return {ids[row["entity_id"]] for row in found}

    async def add(self, source: str, jobs: Sequence[OldJob]) -> Added:
        """Keep the rows that are not here yet, with hints for those that are to be looked at anew: one transaction."""
        by_identity = {_identity(source, job): job for job in jobs}
        rows = list(by_identity.values())
        async with self._db.transaction() as connection:
            added = await self._sql.add_history.all(
                connection,
                ids=[uuid7(self._clock) for _ in rows],
                buckets=[job.ref.bucket for job in rows],
                names=[job.ref.name for job in rows],
                file_paths=[job.ref.uri for job in rows],
                organization_ids=[job.organization_id for job in rows],
                user_ids=[job.user_id for job in rows],
                entity_ids=list(by_identity),
                statuses=[job.status.value for job in rows],
                stages=[job.stage.value for job in rows],
                error_codes=[_end(job)[0] for job in rows],
                error_messages=[_end(job)[1] for job in rows],
                metadata=[
                    json.dumps({"imported": {"source": source, "id": job.source_id, **job.said}}) for job in rows
                ],
                created=[job.created_at for job in rows],
                started=[job.started_at for job in rows],
                completed=[job.completed_at for job in rows],
            )
            await self._sql.date_moves.run(connection, ids=[row["id"] for row in added])
            hinted = [job for row in added if (job := by_identity[row["entity_id"]]).anew]
            await queries.load("jobs").add_outbox.run_many(connection, [effects.hint(job.ref) for job in hinted])
        return Added(rows=len(added), hints=len(hinted))


def _identity(source: str, job: OldJob) -> str:
    return f"{source}#{job.source_id}"


def _end(job: OldJob) -> tuple[str | None, str | None]:
    """Return code and sentence of a row that had not been completed."""
    code = IMPORTED_ANEW if job.anew else None
    return code, None if job.status is Status.COMPLETED else _ANEW if job.anew else _ENDED
