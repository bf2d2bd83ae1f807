"""Embedding spaces on Postgres: `SpaceStore`, and the row ids under which other stores keep vectors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg

from shared.errors import Conflict, InvalidRequest, NotFound
from shared.model.space import EmbeddingSpace, SpaceState
from shared.ports.spaces import FillFigures, KnownSpace, Overlap, Wanted
from shared.postgres import queries

if TYPE_CHECKING:
    from shared.postgres.pool import Connection, Database

DOCUMENTS_PER_PAGE = 2_000
TEXTS_PER_PAGE = 5_000
ORGANIZATIONS_COMPARED = 50

_START = UUID(int=0)


async def add(connection: Connection, space: EmbeddingSpace) -> int:
    """Return the id of a space; make the space, its partition and its index when it is new. May be repeated.

    The first one of a database becomes active, all others are to be filled.
    """
    found: int = await queries.load("spaces").add_space.value(
        connection,
        key=space.key,
        model=space.model,
        dimensions=space.dimensions,
        metric=space.metric,
        task_type=space.task_type,
        version=space.normaliser_version,
    )
    return found


async def find(connection: Connection, space: EmbeddingSpace) -> int | None:
    """Return the id of a space, or None when there is none such (any more)."""
    found: int | None = await queries.load("spaces").find_space.value(connection, key=space.key)
    return found


async def to_write(connection: Connection, space: EmbeddingSpace) -> int:
    """Return the id of a space that is written to; made only if it is the first one of this database.

    Raises:
        Conflict: `SPACE_SWITCHED`: it was dropped. It does not come back because somebody still writes to it.
    """
    found = await find(connection, space)
    if found is not None:
        return found
    active = await queries.load("spaces").active_space.first(connection)
    if active is None:
        return await add(connection, space)
    # Another worker may have made the first one between the two questions.
    if active["key"] == space.key:
        made: int = active["id"]
        return made
    raise _switched()


async def to_search(connection: Connection, space: EmbeddingSpace) -> int | None:
    """Return the id of the space that is searched; None in a database without any.

    Raises:
        Conflict: `SPACE_SWITCHED`: it is another one, so the question needs another vector.
    """
    active = await queries.load("spaces").active_space.first(connection)
    if active is None:
        return None
    if active["key"] != space.key:
        raise _switched()
    found: int = active["id"]
    return found


async def still_there(connection: Connection, space_id: int) -> None:
    """Return if the vectors of a space were there when this transaction first read them.

    Raises:
        Conflict: `SPACE_SWITCHED`: the space was dropped in the meantime, and nothing was found for that reason.
    """
    if not await queries.load("spaces").space_exists.value(connection, space_id=space_id):
        raise _switched()


async def to_show(connection: Connection, space: EmbeddingSpace) -> int:
    """Return the id of a space that is the active one, and stays so until this transaction ends.

    Raises:
        Conflict: `SPACE_SWITCHED`: another one is, so passages that have vectors only in this one would not be found.
    """
    sql = queries.load("spaces")
    space_id = await to_write(connection, space)
    await sql.hold_active_space.value(connection)
    active = await sql.active_space.first(connection)
    if active is None or active["id"] != space_id:
        raise _switched()
    return space_id


@asynccontextmanager
async def writing() -> AsyncIterator[None]:
    """Run writes of vectors and claims; that their space was dropped at this moment is told as `SPACE_SWITCHED`."""
    try:
        yield
    except (asyncpg.CheckViolationError, asyncpg.ForeignKeyViolationError) as error:
        if (error.table_name or "").startswith("embedding"):
            raise _switched() from error
        raise


def _switched() -> Conflict:
    return Conflict(
        "Another embedding space is searched by now; this is done again in that one.", code="SPACE_SWITCHED"
    )


class PostgresSpaceStore:
    """See `shared.ports.spaces.SpaceStore`."""

    def __init__(self, database: Database) -> None:
        """Take the pool."""
        self._db = database
        self._sql = queries.load("spaces")

    async def wanted(self, default: EmbeddingSpace) -> Wanted:  # noqa: D102
        async with self._db.get_connection() as connection:
            found = await self._sql.wanted_spaces.all(connection)
            active = [EmbeddingSpace.parse(row["key"]) for row in found if row["state"] == SpaceState.ACTIVE]
            if not active:
                await add(connection, default)
                # Perhaps somebody else's was first.
                found = await self._sql.wanted_spaces.all(connection)
                active = [EmbeddingSpace.parse(row["key"]) for row in found if row["state"] == SpaceState.ACTIVE]
        filling = [EmbeddingSpace.parse(row["key"]) for row in found if row["state"] == SpaceState.FILLING]
        return Wanted(active=active[0], filling=filling)

    async def active(self) -> EmbeddingSpace | None:  # noqa: D102
        async with self._db.get_connection() as connection:
            row = await self._sql.active_space.first(connection)
        return None if row is None else EmbeddingSpace.parse(row["key"])

    async def known(self) -> list[KnownSpace]:  # noqa: D102
        async with self._db.get_connection() as connection:
            spaces = await self._sql.list_spaces.all(connection)
            tasks = await self._sql.fill_tasks.all(connection)
        return [
            KnownSpace(
                id=row["id"],
                space=EmbeddingSpace.parse(row["key"]),
                state=SpaceState(row["state"]),
                vectors=row["vectors"],
                created_at=row["created_at"],
                activated_at=row["activated_at"],
                fill=_figures([task for task in tasks if task["key"] == row["key"]]),
            )
            for row in spaces
        ]

    async def find(self, space: EmbeddingSpace) -> SpaceState | None:  # noqa: D102
        async with self._db.get_connection() as connection:
            row = await self._sql.find_space.first(connection, key=space.key)
        return None if row is None else SpaceState(row["state"])

    async def fill(self, space: EmbeddingSpace) -> None:  # noqa: D102
        async with self._db.transaction() as connection:
            # A new partition needs all vectors to itself for a moment, and everybody waits behind whoever asks for it.
            await self._sql.wait_briefly.run(connection)
            space_id = await add(connection, space)
            await self._sql.refill_space.run(connection, space_id=space_id)

    async def organizations(self) -> list[str]:  # noqa: D102
        async with self._db.get_connection() as connection:
            return [row["organization_id"] for row in await self._sql.organizations.all(connection)]

    async def count(self, organization_id: str, space: EmbeddingSpace) -> tuple[int, int]:  # noqa: D102
        texts, missing, after = 0, 0, b""
        while True:
            async with self._db.get_connection() as connection:
                page = await self._sql.count_texts.first(
                    connection,
                    organization_id=organization_id,
                    space_id=await _id_of(connection, space),
                    after=after,
                    limit=TEXTS_PER_PAGE,
                )
            texts, missing = texts + page["texts"], missing + page["missing"]
            if page["seen"] < TEXTS_PER_PAGE:
                return texts, missing
            after = page["last"]

    async def missing(  # noqa: D102
        self, organization_id: str, space: EmbeddingSpace, *, after: bytes, limit: int
    ) -> list[tuple[bytes, str]]:
        while True:
            async with self._db.get_connection() as connection:
                page = await self._sql.missing_texts.all(
                    connection,
                    organization_id=organization_id,
                    space_id=await _id_of(connection, space),
                    after=after,
                    limit=limit,
                )
            found = [(row["text_hash"], row["text"]) for row in page if row["text"] is not None]
            if found or len(page) < limit:
                return found
            after = page[-1]["text_hash"]

    async def overlap(  # noqa: D102
        self, one: EmbeddingSpace, other: EmbeddingSpace, *, nearest: int, sample: int
    ) -> Overlap:
        organizations = (await self.organizations())[:ORGANIZATIONS_COMPARED]
        share = -(-sample // max(len(organizations), 1))
        shares: list[float] = []
        async with self._db.get_connection() as connection:
            ids = {space: await _id_of(connection, space) for space in (one, other)}
            for organization in organizations:
                probes = await self._sql.sample_vectors.all(
                    connection, one=ids[one], other=ids[other], organization_id=organization, sample=share
                )
                for probe in probes[: sample - len(shares)]:
                    near = [await self._neighbours(connection, ids[space], space, probe, nearest) for space in ids]
                    if near[0]:
                        shares.append(len(near[0] & near[1]) / len(near[0]))
        return Overlap(
            nearest=nearest,
            compared=len(shares),
            mean=sum(shares) / len(shares) if shares else None,
            worst=min(shares, default=None),
        )

    async def _neighbours(
        self, connection: Connection, space_id: int, space: EmbeddingSpace, probe: Any, nearest: int
    ) -> set[bytes]:
        found = await self._sql.neighbours.with_integers(space_id=space_id, dimensions=space.dimensions).all(
            connection, organization_id=probe["organization_id"], text_hash=probe["text_hash"], nearest=nearest
        )
        return {row["text_hash"] for row in found}

    async def switch(self, space: EmbeddingSpace) -> None:  # noqa: D102
        async with self._db.transaction() as connection:
            space_id = await _id_of(connection, space)
            await self._sql.hold_switch.value(connection)
            since = await self._sql.moment.value(connection)
        # All that is visible, without holding anybody up; what becomes visible meanwhile is looked at below.
        gaps, after = 0, _START
        while True:
            async with self._db.get_connection() as connection:
                page = await self._sql.gaps_in_page.first(
                    connection, space_id=space_id, after=after, limit=DOCUMENTS_PER_PAGE
                )
            gaps += page["gaps"]
            if page["last"] is None:
                break
            after = page["last"]
        _refuse_gaps(gaps)
        async with self._db.transaction() as connection:
            await self._sql.hold_switch.value(connection)
            if await _id_of(connection, space) != space_id:
                raise _switched()
            _refuse_gaps(await self._sql.gaps_since.value(connection, space_id=space_id, since=since))
            await self._sql.retire_active.run(connection)
            if await self._sql.activate.run(connection, space_id=space_id) != 1:
                raise _unknown(space)  # else none would be active

    async def drop(self, space: EmbeddingSpace) -> None:  # noqa: D102
        jobs = queries.load("jobs")
        async with self._db.transaction() as connection:
            await self._sql.wait_briefly.run(connection)
            # Before the state is read: a switch to this space must not commit while its tables are waited for.
            await self._sql.hold_switch.value(connection)
            row = await self._sql.find_space.first(connection, key=space.key)
            if row is None:
                raise _unknown(space)
            if row["state"] == SpaceState.ACTIVE:
                raise _in_use()
            for task in await self._sql.unfinished_fills.all(connection, key=space.key):
                await jobs.cancel_job.run(
                    connection, job_id=task["id"], code="CANCELLED", message="The space that it was to fill is dropped."
                )
            try:
                await self._sql.drop_space.value(connection, space_id=row["id"])
            except asyncpg.ObjectInUseError:
                raise _in_use() from None


async def _id_of(connection: Connection, space: EmbeddingSpace) -> int:
    found = await find(connection, space)
    if found is None:
        raise _unknown(space)
    return found


def _unknown(space: EmbeddingSpace) -> NotFound:
    return NotFound(f"there is no embedding space {space.key}.", code="UNKNOWN_SPACE")


def _in_use() -> InvalidRequest:
    return InvalidRequest("this space is the one that is searched; switch to another one first.", code="SPACE_IN_USE")


def _refuse_gaps(gaps: int) -> None:
    if gaps:
        raise InvalidRequest(
            f"{gaps:,} passages have no vector in this space yet, and would not be found; let its jobs end, or start "
            "them again: headrace reembed.",
            code="SPACE_INCOMPLETE",
        )


def _figures(tasks: list[Any]) -> FillFigures:
    return FillFigures(
        by_status={task["status"]: task["tasks"] for task in tasks},
        texts_done=sum(task["done"] for task in tasks),
        texts_total=sum(task["total"] for task in tasks),
    )
