"""Working under a lease."""

import asyncio
from uuid import uuid4

import pytest

from shared.errors import AuthenticationError, DependencyUnavailable, LeaseLost
from shared.model.job import Lease
from shared.worker.lease import under_lease
from tests.plugins.clock import ManualClock

LEASE = Lease(job_id=uuid4(), document_id=None, owner="w", epoch=1)


class Renewals:
    """The one method of the queue that a lease needs."""

    def __init__(self) -> None:
        self.count = 0
        self.error: Exception | None = None
        self.asked = asyncio.Event()

    async def renew(self, lease: Lease) -> None:
        self.count += 1
        self.asked.set()
        if self.error is not None:
            raise self.error


async def beat(clock: ManualClock, renewals: Renewals, seconds: float) -> None:
    """Let time pass until the next renewal has been asked for."""
    renewals.asked.clear()
    clock.advance(seconds)
    await renewals.asked.wait()


def run(renewals: Renewals, clock: ManualClock, work) -> asyncio.Task:
    """Start work under the lease."""
    return asyncio.ensure_future(
        under_lease(work, queue=renewals, lease=LEASE, clock=clock, heartbeat_seconds=20, lease_seconds=60)
    )


async def started(entered: asyncio.Event, task: asyncio.Task) -> None:
    """Wait until the work runs and its heart sleeps."""
    await entered.wait()
    await asyncio.wait([task], timeout=0)


async def test_the_lease_is_renewed_while_the_work_runs_and_not_longer() -> None:
    """One renewal each 20 s; the result comes back; afterwards no task is left."""
    clock, renewals, entered, finish = ManualClock(), Renewals(), asyncio.Event(), asyncio.Event()

    async def work() -> str:
        entered.set()
        await finish.wait()
        return "result"

    before = asyncio.all_tasks()
    task = run(renewals, clock, work())
    await started(entered, task)
    for _ in range(3):
        await beat(clock, renewals, 20)
    finish.set()
    assert await task == "result"
    assert renewals.count == 3
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("error", [ValueError("work"), LeaseLost()])
async def test_the_works_own_failure_comes_out_as_it_is(error: Exception) -> None:
    """What the work raises is what the caller gets, not a group of it."""

    async def work() -> None:
        raise error

    with pytest.raises(type(error)):
        await run(Renewals(), ManualClock(), work())


async def test_a_lost_lease_stops_the_work_at_once() -> None:
    """When the renewal is refused, the work is cancelled where it stands and the caller gets `LeaseLost`."""
    clock, renewals, entered, stopped = ManualClock(), Renewals(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    task = run(renewals, clock, work())
    await started(entered, task)
    renewals.error = LeaseLost()
    await beat(clock, renewals, 20)
    with pytest.raises(LeaseLost):
        await task
    assert stopped.is_set()


async def test_a_database_that_is_away_is_borne_as_long_as_the_lease_holds() -> None:
    """Failing renewals are tolerated for the length of a lease; then the work is given up."""
    clock, renewals, entered = ManualClock(), Renewals(), asyncio.Event()

    async def work() -> None:
        entered.set()
        await asyncio.Event().wait()

    task = run(renewals, clock, work())
    await started(entered, task)
    renewals.error = DependencyUnavailable()
    for _ in range(3):
        await beat(clock, renewals, 20)
        await asyncio.wait([task], timeout=0)
        assert not task.done()
    await beat(clock, renewals, 20)
    with pytest.raises(LeaseLost):
        await task


async def test_cancelling_the_caller_cancels_the_work() -> None:
    """A shutdown reaches the work, and comes out as the cancellation it is."""
    entered, stopped = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    task = run(Renewals(), ManualClock(), work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stopped.is_set()


async def test_a_login_that_is_refused_does_not_end_the_work() -> None:
    """While a password is being changed the work goes on as long as the lease holds, as when the database is away."""
    clock, renewals, entered, finish = ManualClock(), Renewals(), asyncio.Event(), asyncio.Event()
    renewals.error = AuthenticationError(code="DATABASE_LOGIN_REFUSED")

    async def work() -> str:
        entered.set()
        await finish.wait()
        return "result"

    task = run(renewals, clock, work())
    await started(entered, task)
    await beat(clock, renewals, 20)
    finish.set()
    assert await task == "result"
