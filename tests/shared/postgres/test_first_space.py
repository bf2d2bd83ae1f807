"""The first embedding space of a database, when several workers write their first text at the same moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from shared.errors import Conflict
from shared.model.space import EmbeddingSpace
from shared.postgres import spaces
from shared.postgres.pool import open_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.postgres.pool import Connection, Database

MINE = EmbeddingSpace(model="all-minilm-l6-v2", dimensions=384)
OTHER = EmbeddingSpace(model="another", dimensions=16)


class SlowReader:
    """A connection on which somebody else's commit falls between the first answer and the next question."""

    def __init__(self, connection: Connection, database: Database, space: EmbeddingSpace) -> None:
        self._connection = connection
        self._database = database
        self._space: EmbeddingSpace | None = space

    async def fetchval(self, query: str, *args: Any) -> Any:
        answer = await self._connection.fetchval(query, *args)
        space, self._space = self._space, None
        if space is not None:
            async with self._database.transaction() as other:
                await spaces.add(other, space)
        return answer

    async def fetchrow(self, query: str, *args: Any) -> Any:
        return await self._connection.fetchrow(query, *args)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Give a pool on a database without any space."""
    async with open_database(database_url) as opened:
        yield opened


async def test_a_space_that_another_worker_makes_meanwhile_is_ours_too(database: Database) -> None:
    """Two workers with the same model never see each other's first text as a switch of models."""
    async with database.transaction() as connection:
        found = await spaces.to_write(SlowReader(connection, database, MINE), MINE)  # type: ignore[arg-type]
        assert found == await spaces.find(connection, MINE)


async def test_another_first_space_is_a_switch(database: Database) -> None:
    """Two workers with different models: the second one is told, and makes no second space."""
    async with database.transaction() as connection:
        with pytest.raises(Conflict) as refused:
            await spaces.to_write(SlowReader(connection, database, OTHER), MINE)  # type: ignore[arg-type]
        assert refused.value.code == "SPACE_SWITCHED"
        assert await spaces.find(connection, MINE) is None
