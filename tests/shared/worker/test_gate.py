"""Holding back while the database is away: who asks, how often, and what those who wait are told."""

import asyncio

from shared.clock import SystemClock
from shared.errors import DependencyUnavailable, PoolExhausted, RetryableError
from shared.worker.gate import WAITS_SECONDS, Gate, is_outage

AWAY = DependencyUnavailable(code="DATABASE_UNAVAILABLE")


class HurriedClock(SystemClock):
    """Does not wait, and remembers what it was asked for; its time is the sum of that."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def monotonic(self) -> float:
        """Return what was slept so far."""
        return sum(self.slept)

    async def sleep(self, seconds: float) -> None:
        """Give others a turn."""
        self.slept.append(seconds)
        await asyncio.sleep(0)


class FakeDatabase:
    """Answers its pings once it was asked often enough."""

    def __init__(self, *, refusals: int) -> None:
        self.refusals, self.asked = refusals, 0

    async def ping(self) -> None:
        """Refuse, or answer."""
        self.asked += 1
        if self.asked <= self.refusals:
            raise AWAY


async def test_an_open_gate_asks_nobody() -> None:
    """As long as nothing fails, passing costs no question."""
    database = FakeDatabase(refusals=0)
    assert await Gate(database.ping, clock=HurriedClock()).passed()
    assert database.asked == 0


async def test_a_cut_connection_is_over_at_the_first_question() -> None:
    """A database that answers at once opens the gate without any wait."""
    database, clock = FakeDatabase(refusals=0), HurriedClock()
    assert await Gate(database.ping, clock=clock).reopened(AWAY)
    assert (database.asked, clock.slept) == (1, [0.0])


async def test_one_asks_for_all_and_waits_longer_each_time() -> None:
    """Twenty that wait ask together as often as one: after 0, 0.5, 1 … seconds, then every 10."""
    database, clock = FakeDatabase(refusals=9), HurriedClock()
    gate = Gate(database.ping, clock=clock)
    first = asyncio.ensure_future(gate.reopened(AWAY))
    await asyncio.sleep(0)
    assert not gate.is_open
    assert all(await asyncio.gather(first, *(gate.passed() for _ in range(20))))
    assert database.asked == 10
    assert clock.slept == [*WAITS_SECONDS, 10.0, 10.0, 10.0]
    assert gate.is_open


async def test_one_that_flaps_is_asked_ever_more_slowly() -> None:
    """A database that answers pings and fails work is not asked in a tight loop."""
    clock = HurriedClock()
    gate = Gate(FakeDatabase(refusals=0).ping, clock=clock)
    for _ in range(4):
        await gate.reopened(AWAY)
    assert clock.slept == [0.0, 0.5, 1.0, 2.0]
    clock.slept.append(60.0)
    await gate.reopened(AWAY)
    assert clock.slept[-1] == 0.0


async def test_a_stop_lets_everybody_go() -> None:
    """Who waits when the service stops is told that the gate stays closed; who comes later too."""
    asked = asyncio.Event()

    async def never() -> None:
        asked.set()
        raise AWAY

    gate = Gate(never, clock=SystemClock())
    waiting = [asyncio.ensure_future(gate.reopened(AWAY)), asyncio.ensure_future(gate.passed())]
    await asked.wait()
    await gate.stop()
    async with asyncio.timeout(5):
        assert await asyncio.gather(*waiting) == [False, False]
        assert not await gate.passed()


async def test_the_next_one_asks_when_the_one_that_asked_is_cancelled() -> None:
    """Cancelling the delivery that asks does not leave the others waiting for ever."""
    database, clock = FakeDatabase(refusals=3), HurriedClock()
    gate = Gate(database.ping, clock=clock)
    first = asyncio.ensure_future(gate.reopened(AWAY))
    second = asyncio.ensure_future(gate.reopened(AWAY))
    await asyncio.sleep(0)
    first.cancel()
    assert await second


def test_only_the_database_is_an_outage() -> None:
    """A model or a bucket that does not answer closes nothing."""
    assert is_outage(AWAY)
    assert is_outage(PoolExhausted())
    assert not is_outage(DependencyUnavailable())
    assert not is_outage(RetryableError())
