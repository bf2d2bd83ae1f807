"""Embedding spaces as rows: the id under which vectors of one space are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.model.space import EmbeddingSpace
from shared.postgres import queries

if TYPE_CHECKING:
    from shared.postgres.pool import Connection


async def add(connection: Connection, space: EmbeddingSpace) -> int:
    """Return the id of a space; make the space, its partition and its index when it is new. May be repeated."""
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
    """Return the id of a space, or None when nothing was ever embedded in it."""
    found: int | None = await queries.load("spaces").find_space.value(connection, key=space.key)
    return found
