"""`ChunkIndex` on Postgres: pgvector and full text in one statement, under row-level security."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgvector import HalfVector

from shared.errors import InvalidRequest
from shared.model.document import ObjectRef, SearchHit
from shared.model.locator import Locator
from shared.ports.stores import Scope, SearchRequest
from shared.postgres import queries, spaces

if TYPE_CHECKING:
    from shared.postgres.pool import Database

VECTOR_WEIGHT = 0.7
"""Share of the vector score; the rest is full text. Measured: `benchmarks/results/retrieval.md`."""

CANDIDATES = 50
"""How many passages each side brings to the fusion."""


class PostgresChunkIndex:
    """See `shared.ports.stores.ChunkIndex`."""

    def __init__(self, database: Database, *, vector_weight: float = VECTOR_WEIGHT) -> None:
        """Take the pool and the weight of the vector side, 0 to 1."""
        self._db = database
        self._weight = vector_weight
        self._search = queries.load("chunks").search

    async def search(self, request: SearchRequest) -> list[SearchHit]:  # noqa: D102
        if len(request.vector) != request.space.dimensions:
            raise InvalidRequest("the question's vector is of another space.", code="SPACE_MISMATCH")
        async with self._db.transaction(Scope(organization_id=request.organization_id)) as connection:
            space_id = await spaces.to_search(connection, request.space)
            if space_id is None:
                return []
            search = self._search.with_integers(space_id=space_id, dimensions=request.space.dimensions)
            found = await search.all(
                connection,
                vector=HalfVector(list(request.vector)),
                text=request.text,
                organization_id=request.organization_id,
                name_prefix=request.name_prefix,
                media_types=list(request.media_types),
                candidates=max(CANDIDATES, request.limit),
                vector_weight=self._weight,
                limit=request.limit,
            )
            # Dropped before the statement began? From then on it could not be.
            await spaces.still_there(connection, space_id)
        return [
            SearchHit(
                document_id=row["document_id"],
                ref=ObjectRef(row["bucket"], row["name"]),
                generation=row["indexed_generation"],
                media_type=row["media_type"],
                ordinal=row["ordinal"],
                text=row["text"],
                locator=Locator.from_json(row["locator"]),
                score=row["score"],
                vector_score=row["vector_score"],
                text_score=row["text_score"],
            )
            for row in found
        ]
