"""The pace that all processes on one database keep together."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared.clock import SystemClock
from shared.embedding.turns import ProcessTurns
from shared.ports.models import Turns
from shared.postgres.pool import Database, open_database
from shared.postgres.rate_limits import PostgresTurns


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Open the pool on a fresh database."""
    async with open_database(database_url, size=8) as opened:
        yield opened


@pytest.fixture(params=["postgres", "process"])
def turns(request: pytest.FixtureRequest, database: Database) -> Turns:
    """Give each implementation in turn."""
    return PostgresTurns(database) if request.param == "postgres" else ProcessTurns(SystemClock())


async def test_turns_are_free_until_a_model_refuses(turns: Turns) -> None:
    """Nothing is held back, and another model's refusal changes nothing."""
    assert [await turns.take("a") for _ in range(50)] == [0.0] * 50
    await turns.refused("b", wait_seconds=30)
    assert [await turns.take("a") for _ in range(50)] == [0.0] * 50
    assert 29 < await turns.take("b") <= 30


async def test_one_turn_is_given_to_one_of_many(turns: Turns) -> None:
    """Of twenty that ask at the moment the wait is over, one may go; the others are told when the next may."""
    await turns.refused("a", wait_seconds=0)
    waits = await asyncio.gather(*(turns.take("a") for _ in range(20)))
    assert waits.count(0.0) == 1
    assert all(0.5 < wait < 1 for wait in waits if wait)


async def test_processes_refused_at_once_are_one_burst(database: Database) -> None:
    """First refusals that several processes report at the same moment leave one pace, not one for each."""
    await asyncio.gather(*(PostgresTurns(database).refused("a", wait_seconds=5) for _ in range(8)))
    async with database.get_connection() as connection:
        assert await connection.fetch("select rate, seeking from rate_limits") == [(1.0, True)]
