"""Spaces that are made, switched to and dropped while others are at work: one is active, whole, and searched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from shared.errors import Conflict, InvalidRequest, NotFound
from shared.model.space import EmbeddingSpace, SpaceState
from shared.postgres.pool import Database, open_database
from shared.postgres.spaces import PostgresSpaceStore
from tests.plugins.stack import eventually

FIRST = EmbeddingSpace(model="first", dimensions=8)
NEXT = EmbeddingSpace(model="next", dimensions=8)
_WAITING = "select count(distinct pid) from pg_locks where not granted"

Begin = Callable[[Awaitable[None]], Awaitable["asyncio.Future[None]"]]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Give a pool on a database that searches one space and has filled another."""
    async with open_database(database_url) as opened:
        store = PostgresSpaceStore(opened)
        await store.wanted(FIRST)
        await store.fill(NEXT)
        yield opened


@asynccontextmanager
async def held_up(database: Database) -> AsyncIterator[Begin]:
    """Hold the active space's row for the block; lend what begins something, and returns when that has to wait."""
    begun: list[asyncio.Future[None]] = []
    async with database.transaction() as connection:
        await connection.execute("select from embedding_spaces where state = 'active' for update")

        async def begin(work: Awaitable[None]) -> asyncio.Future[None]:
            begun.append(asyncio.ensure_future(work))

            async def look() -> Any:
                return begun[-1].done() or await connection.fetchval(_WAITING) >= len(begun)

            await eventually(look)
            return begun[-1]

        yield begin
    await asyncio.wait(begun)


async def test_a_space_is_not_dropped_while_it_is_switched_to(database: Database) -> None:
    """Dropping waits for the switch, and is refused by what it finds then."""
    store = PostgresSpaceStore(database)
    async with held_up(database) as begin:
        switch = await begin(store.switch(NEXT))
        drop = await begin(store.drop(NEXT))
    switch.result()
    with pytest.raises((InvalidRequest, Conflict)):  # the second where a machine is so slow that it waited too long
        drop.result()
    assert (await store.wanted(FIRST)).active == NEXT
    async with database.get_connection() as connection:
        assert await connection.fetchval(
            "select to_regclass('embeddings_' || id) is not null from embedding_spaces where state = 'active'"
        )


async def test_a_space_that_is_gone_is_not_switched_to(database: Database) -> None:
    """A drop that held nobody up, as an older version's: the space that is searched stays so."""
    store = PostgresSpaceStore(database)
    async with held_up(database) as begin:
        switch = await begin(store.switch(NEXT))

        async def drop() -> None:
            async with database.get_connection() as connection:
                await connection.execute("delete from embedding_spaces where key = $1", NEXT.key)

        await asyncio.create_task(drop())  # on a connection of its own
    with pytest.raises(NotFound):
        switch.result()
    assert (await store.wanted(FIRST)).active == FIRST


async def test_a_space_is_not_made_at_the_cost_of_those_who_search(database: Database) -> None:
    """A long reader of vectors makes a new space wait for seconds, and nobody else wait behind it."""
    store = PostgresSpaceStore(database)
    third = EmbeddingSpace(model="third", dimensions=8)
    async with database.transaction() as connection:
        await connection.fetch("select from embeddings")

        async def fill() -> None:
            async with asyncio.timeout(20):
                await store.fill(third)

        async def search() -> None:
            async with database.get_connection() as other:
                await other.fetch("select from embeddings", timeout=10)

        with pytest.raises(Conflict):
            await asyncio.create_task(fill())
        await asyncio.create_task(search())
    assert await store.find(third) is None
    await store.fill(third)
    assert await store.find(third) == SpaceState.FILLING
