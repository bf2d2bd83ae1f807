"""The pace and the quotas that all processes on one database keep together."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared.clock import SystemClock
from shared.embedding.turns import ProcessTurns
from shared.ids import uuid7
from shared.model.quota import Quota
from shared.ports.models import Turn, Turns
from shared.postgres.pool import Database, open_database
from shared.postgres.rate_limits import PostgresTurns

QUOTAS = {
    "paced": Quota(requests_per_minute=60),
    "metered": Quota(tokens_per_minute=600),
    "narrow": Quota(concurrency=2),
}


def turn(**said: float) -> Turn:
    """Return what some call is going to use."""
    return Turn(id=uuid7(), **said)  # type: ignore[arg-type]  # numbers of two kinds


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Open the pool on a fresh database."""
    async with open_database(database_url, size=8) as opened:
        yield opened


@pytest.fixture(params=["postgres", "process"])
def turns(request: pytest.FixtureRequest, database: Database) -> Turns:
    """Give each implementation in turn."""
    return PostgresTurns(database, QUOTAS) if request.param == "postgres" else ProcessTurns(SystemClock(), QUOTAS)


async def test_turns_are_free_until_a_model_refuses(turns: Turns) -> None:
    """Nothing is held back, and another model's refusal changes nothing."""
    assert [await turns.take("a", turn()) for _ in range(50)] == [0.0] * 50
    await turns.refused("b", wait_seconds=30)
    assert [await turns.take("a", turn()) for _ in range(50)] == [0.0] * 50
    assert 29 < await turns.take("b", turn()) <= 30


async def test_one_turn_is_given_to_one_of_many(turns: Turns) -> None:
    """Of twenty that ask at the moment the wait is over, one may go; the others are told when the next may."""
    await turns.refused("a", wait_seconds=0)
    waits = await asyncio.gather(*(turns.take("a", turn()) for _ in range(20)))
    assert waits.count(0.0) == 1
    assert all(0.5 < wait < 1 for wait in waits if wait)


async def test_processes_refused_at_once_are_one_burst(database: Database) -> None:
    """First refusals that several processes report at the same moment leave one pace, not one for each."""
    await asyncio.gather(*(PostgresTurns(database).refused("a", wait_seconds=5) for _ in range(8)))
    async with database.get_connection() as connection:
        assert await connection.fetch("select rate, seeking from rate_limits") == [(1.0, True)]


async def test_a_quota_of_requests_spreads_turns(turns: Turns) -> None:
    """With sixty a minute, the second turn is due a second after the first, however many ask for it."""
    assert await turns.take("paced", turn(requests=1)) == 0
    assert 0 < await turns.take("paced", turn()) <= 1
    assert await turns.take("other", turn()) == 0
    await asyncio.gather(*(turns.take("paced", turn()) for _ in range(10)))
    assert await turns.take("paced", turn()) <= 1  # nothing was taken by those that were told to wait


async def test_a_batch_takes_a_turn_for_each_of_its_requests(turns: Turns) -> None:
    """Five texts in one request cost as much of the quota as five requests."""
    assert await turns.take("paced", turn(requests=5)) == 0
    assert 4 < await turns.take("paced", turn()) <= 5


async def test_a_quota_of_tokens_is_charged_with_what_was_used(turns: Turns) -> None:
    """An estimate holds others back until the answer says what the call really used."""
    first = turn(tokens=100)
    assert await turns.take("metered", first) == 0
    assert 9 < await turns.take("metered", turn()) <= 10
    await turns.give_back("metered", first, used_tokens=20)
    assert 1 < await turns.take("metered", turn()) <= 2
    await turns.give_back("metered", first, used_tokens=150)
    assert 6 < await turns.take("metered", turn()) <= 7


async def test_no_more_calls_are_under_way_than_allowed(turns: Turns) -> None:
    """Of many that ask at once two go; whoever is back makes room for one more."""
    asked = [turn() for _ in range(8)]
    waits = await asyncio.gather(*(turns.take("narrow", one) for one in asked))
    assert waits.count(0.0) == 2
    going = next(one for one, wait in zip(asked, waits, strict=True) if not wait)
    await turns.give_back("narrow", going)
    assert [await turns.take("narrow", turn()) for _ in range(2)].count(0.0) == 1


async def test_the_place_of_a_dead_process_is_free_after_its_time(turns: Turns) -> None:
    """A call that nobody gives back holds its place as long as a call may take, and no longer."""
    assert await turns.take("narrow", turn(longest_seconds=0)) == 0
    assert await turns.take("narrow", turn(longest_seconds=0)) == 0
    assert await turns.take("narrow", turn()) == 0
    assert await turns.take("narrow", turn()) == 0
    assert await turns.take("narrow", turn()) > 0


async def test_a_refusal_counts_beside_a_quota(turns: Turns) -> None:
    """What the service asks to wait holds everybody back, however much of the quota is left."""
    await turns.refused("paced", wait_seconds=30)
    assert 29 < await turns.take("paced", turn()) <= 30


async def test_processes_share_one_quota(database: Database) -> None:
    """Several that know the same quota take turns from the same row."""
    fleet = [PostgresTurns(database, QUOTAS) for _ in range(4)]
    waits = await asyncio.gather(*(one.take("narrow", turn()) for one in [*fleet, *fleet]))
    assert waits.count(0.0) == 2


async def test_a_turn_given_back_without_a_database_is_no_failure(database_url: str) -> None:
    """The answer is there and paid: that nobody can be told is no reason to throw it away."""
    async with open_database(database_url, size=1) as database:
        turns = PostgresTurns(database, QUOTAS)
    await turns.give_back("narrow", turn())
