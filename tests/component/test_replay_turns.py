"""Every batch gets its turn: whatever is wrong with another, however many wait; and none comes by itself twice."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from services.recover.budget import Budget
from services.recover.duties.replays import replays as replays_duty
from shared.ports.dead_letters import BatchState, LetterFilter, ReplayBatch, ReplayRequest
from shared.ports.stores import Scope
from shared.worker import replay
from shared.worker.replay import Replays
from tests.component.test_dead_letters import Desk, undelivered
from tests.plugins.clock import SleepersClock
from tests.plugins.road import Road, delivery

SLOWEST_SECONDS = 1000


@pytest.fixture
def desk(road: Road) -> Desk:
    """Give a desk on a fresh road."""
    return Desk(road)


class CountingClock(SleepersClock):
    """A second passes whenever somebody looks at it."""

    def monotonic(self) -> float:
        """Return how often it was looked at."""
        self.advance(1)
        return super().monotonic()


async def written(desk: Desk, *letter_ids: UUID, rate: float = 0.001) -> ReplayBatch:
    """Write a request down without taking a step of it."""
    return await desk.store.request(
        ReplayRequest(filters=LetterFilter(ids=letter_ids), by="test", rate_per_second=rate)
    )


async def broken(desk: Desk, *letter_ids: UUID) -> ReplayBatch:
    """Write a request down that nobody can read."""
    batch = await written(desk, *letter_ids)
    async with desk.road.database.get_connection() as connection:
        await connection.execute("update replay_batches set selection = $2 where id = $1", batch.id, {"surprise": 1})
    return batch


async def run(desk: Desk) -> dict[str, int]:
    """Do the duty of one run, and return what it did."""
    return dict(await replays_duty(desk.replays, desk.budget(), batch_size=50))


async def set_to(desk: Desk, batch: ReplayBatch, state: str, *, staged: int = 0, **ended: int) -> None:
    """Put a batch into a state, with so many replays in each of theirs."""
    async with desk.road.database.get_connection() as connection:
        await connection.execute("update replay_batches set state = $2 where id = $1", batch.id, state)
        for outcome, number in ({"staged": staged} | ended).items():
            await connection.execute(
                """with letters as (
                     insert into dead_letters (id, identity, origin, state, code, message)
                     select id, id::text, 'message', 'replaying', 'X', 'm'
                     from (select gen_random_uuid() as id from generate_series(1, $3)) made returning id)
                   insert into replays (batch_id, letter_id, state) select $1, id, $2 from letters""",
                batch.id, outcome, number,
            )  # fmt: skip


async def test_a_batch_that_raises_stops_no_other_and_fails_the_run(desk: Desk) -> None:
    """The batch behind it, and what is replayed by itself, are sent in the same run; its error is the run's."""
    bad, good = await desk.fail("a.txt", "b.txt")
    await desk.take_in(undelivered("c.txt"))
    await broken(desk, bad)
    batch = await written(desk, good)
    for _ in range(2):
        summary = await desk.road.recover()
        assert (summary["ok"], set(summary["errors"])) == (False, {"replays"})
    assert (await desk.look(batch)).tally.sent == 1
    assert sorted(await desk.states()) == ["open", "replaying", "replaying"]


@pytest.mark.parametrize("rate", [1e-300, 1e-12, float("nan"), 1e300, float("inf")])
async def test_a_rate_from_before_rates_were_bounded_is_the_nearest_one(desk: Desk, rate: float) -> None:
    """It raises nothing, whatever next turn it led to, and holds no letter back for longer than the slowest rate."""
    letters = await desk.fail("a.txt", "b.txt")
    batch = await written(desk, *letters, rate=rate)
    async with desk.road.database.get_connection() as connection:
        await connection.execute("update replay_batches set next_send_at = '33000-01-01'")
    batch = await desk.advance(batch)
    assert batch.tally.sent in ({1, 2} if rate > 1000 else {1})  # a thousandth of a second may be over, or not
    await desk.road.shift_clock(SLOWEST_SECONDS + 1)
    assert (await desk.advance(batch)).tally.sent == 2
    assert [found.id for found in await desk.replays.batches(limit=10)] == [batch.id]


async def test_batches_that_only_wait_hide_no_newer_one(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many jobs were replayed one by one and wait in the queue: newer batches are sent, stopped and ended."""
    monkeypatch.setattr(replay, "BATCHES_AT_ONCE", 2)
    letters = await desk.fail(*(f"{number}.txt" for number in range(9)))
    for letter_id in letters[:3]:
        assert (await desk.replays.one(letter_id, by="test")).tally.sent == 1
    slow = [await written(desk, *letters[at : at + 2]) for at in (3, 5)]
    stopped = await written(desk, *letters[7:])
    assert await desk.store.stage(stopped.id, limit=100) == 2
    assert await desk.store.move(stopped.id, BatchState.REQUESTED, BatchState.STOPPED)
    await desk.take_in(undelivered("m.txt"))
    assert (await run(desk))["automatic"] == 1
    assert [(await desk.look(batch)).tally.sent for batch in slow] == [1, 1]
    assert (await desk.look(stopped)).tally.dropped == 2
    assert await desk.road.value("select state from dead_letters where origin = 'message'") == "replaying"
    await desk.road.work_off()
    await run(desk)
    assert await desk.road.value("select count(*) from replay_batches where state = 'done'") == 3


async def test_batches_that_a_step_can_be_taken_of_are_found_in_pages(desk: Desk) -> None:
    """Those that wait for outcomes alone are left out until nothing is outstanding; the others come by age."""
    states: list[tuple[bool, str, dict[str, int]]] = [
        (True, "requested", {}), (True, "requested", {"staged": 1, "sent": 1}),
        (True, "canary", {"staged": 2}), (False, "canary", {"staged": 1, "sent": 1}), (False, "canary", {"sent": 1}),
        (True, "canary", {"staged": 1, "resolved": 1}), (True, "canary", {"staged": 1, "unknown": 1}),
        (True, "running", {"staged": 1, "sent": 1}), (False, "running", {"sent": 2, "failed": 1}),
        (True, "running", {"failed": 1}), (True, "running", {}), (False, "done", {"resolved": 1}),
        (False, "stopped", {"sent": 1}), (True, "stopped", {"staged": 1, "sent": 1}),
    ]  # fmt: skip
    expected: list[UUID] = []
    for listed, state, tally in states:
        batch = await written(desk)
        await set_to(desk, batch, state, **tally)
        expected += [batch.id] if listed else []
    for size in (1, 3, 100):
        found: list[UUID] = []
        after: Any = None
        while page := await desk.store.unfinished(limit=size, after=after):
            assert len(page) <= size
            found += [one.id for one in page]
            after = page[-1]
        assert found == expected


async def test_turns_end_with_the_time_and_each_run_gives_some(desk: Desk) -> None:
    """Without patience one batch gets a turn; a run whose budget is spent still gives most of a few batches one."""
    letters = await desk.fail(*(f"{number}.txt" for number in range(6)))
    batches = [await written(desk, letter_id, rate=1000) for letter_id in letters]
    clock = CountingClock()
    work = Replays(desk.store, desk.letters, clock=clock)
    await work.advance(patience_seconds=0)
    states = [(await desk.look(batch)).tally.total for batch in batches]
    assert states == [1, 0, 0, 0, 0, 0]
    await replays_duty(work, Budget(clock, 0), batch_size=50)
    states = [(await desk.look(batch)).tally.total for batch in batches]
    assert sum(states) > 3


@pytest.mark.parametrize("attributes", [99, 0])
async def test_a_message_that_cannot_be_sent_is_asked_for_by_itself_once(desk: Desk, attributes: int) -> None:
    """Too many attributes or too large: one batch says so, and no further run asks; people may."""
    said = {f"name-{number}": "x" for number in range(attributes)}
    await desk.take_in(undelivered("a.txt", **said))
    if not attributes:
        async with desk.road.database.get_connection() as connection:
            await connection.execute("update dead_letters set body = $1", b"x" * 9_900_000)
    assert [(await run(desk))["automatic"] for _ in range(3)] == [1, 0, 0]
    (batch,) = await desk.replays.batches(limit=10)
    assert (batch.state, batch.tally.unknown, await desk.states()) == (BatchState.DONE, 1, ["open"])
    assert await desk.road.value("select replays from dead_letters") == 0
    assert (await desk.ask()).tally.unknown == 1


async def test_a_letter_that_is_open_again_shows_no_reason_of_its_last_end(desk: Desk) -> None:
    """Discarded with a reason, a job or a message that fails again is open, and nothing says that it had ended."""
    await desk.fail("a.txt")
    refused = delivery("uploads-ingest", b"x", {"eventType": "OBJECT_FINALIZE"})
    assert (await desk.road.ingest(refused)).name == "refused"
    assert await desk.letters.discard(LetterFilter(), reason="known", limit=10) == 2
    job_id = await desk.road.value("select job_id from dead_letters where origin = 'job'")
    await desk.road.directory.retry(job_id, Scope())  # type: ignore[arg-type]
    await desk.break_again(1)
    await desk.road.work_off()
    await desk.road.ingest(refused)
    found = await desk.road.fetch("select state, failures, resolution, resolved_at from dead_letters")
    assert [tuple(row) for row in found] == [("open", 2, None, None)] * 2
