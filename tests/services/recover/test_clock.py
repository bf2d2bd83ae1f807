"""A run that tells the time wrongly: the next ones go by the database's clock, and it is forgotten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared.postgres.prune import PostgresPruningStore
from shared.postgres.recover import PostgresRecoverStore
from tests.plugins.clock import ManualClock
from tests.plugins.road import Road

HOUR = 3600


async def reconciles(road: Road) -> bool:
    """Make a run; return whether it compared bucket and index."""
    return "reconcile" in (await road.recover())["duties"]


@pytest.mark.parametrize("days", [300, -300])
async def test_a_run_under_a_wrong_clock_switches_nothing_off(road: Road, days: int) -> None:
    """The duties of the hour are due again after an hour, wherever a process believed itself to be in time."""
    road.recover._hourly = {"reconcile": (road.recover._hourly["reconcile"][0], float(HOUR))}
    right, road.recover._clock = road.recover._clock, ManualClock(datetime.now(UTC) + timedelta(days=days))
    assert await reconciles(road)
    road.recover._clock = right
    assert not await reconciles(road)
    await road.shift_clock(HOUR + 60)
    assert await reconciles(road)


async def test_a_run_is_kept_with_when_it_began_by_the_clock_of_the_database(road: Road) -> None:
    """Its start is as long ago as it lasted, so that runs of all machines stand in one order."""
    clock = ManualClock(datetime(2020, 1, 1, tzinfo=UTC))
    road.recover._clock = clock
    reconcile, every_seconds = road.recover._hourly["reconcile"]

    async def slow(*arguments: object) -> object:
        clock.advance(120)
        return await reconcile(*arguments)

    road.recover._hourly = {"reconcile": (slow, every_seconds)}
    await road.recover()
    seconds = await road.value("select extract(epoch from ended_at - started_at)::int from recover_runs")
    assert seconds == 120


async def test_a_run_of_the_future_is_not_the_last_one(road: Road) -> None:
    """One that an older release has recorded so hides neither when a duty was done before it, nor where it stopped."""
    await road.fetch(
        """insert into recover_runs (started_at, summary) values
             (headrace_now() - interval '10 minutes', '{"duties": {}, "cursors": {"reconcile": {"after": "m"}}}'),
             (headrace_now() + interval '300 days', '{"duties": {"reconcile": {}}, "cursors": {}}')"""
    )
    last = await PostgresRecoverStore(road.database).last_done("reconcile")
    assert last is not None
    assert last.cursor == {"after": "m"}
    assert 600 <= last.seconds_ago < 700


async def test_runs_of_the_future_go_with_those_of_the_past(road: Road) -> None:
    """Neither is of use to anybody; a clock that is a little ahead is not taken for a wrong one."""
    for start in ("- interval '31 days'", "- interval '29 days'", "+ interval '1 minute'", "+ interval '300 days'"):
        await road.fetch(f"insert into recover_runs (started_at, summary) values (headrace_now() {start}, '{{}}')")
    store = PostgresPruningStore(road.database)
    assert [await store.prune_runs(keep_days=30, limit=1) for _ in range(3)] == [1, 1, 0]
    days = "abs(extract(day from started_at - now()))::int"
    left = await road.fetch(f"select {days} as days from recover_runs order by id")
    assert [row["days"] for row in left] == [29, 0]
