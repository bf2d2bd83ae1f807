"""A replay whose process dies at any commit, or loses its connection there: each letter is replayed exactly once."""

from __future__ import annotations

import contextlib
from uuid import uuid4

import pytest

from services.recover.duties.replays import replays as replays_duty
from shared.errors import HeadraceError
from shared.ports.dead_letters import BatchState, LetterFilter, ReplayRequest
from tests.component.test_dead_letters import Desk, undelivered
from tests.plugins.crashes import Died, Fault, Faults, faulty_road
from tests.plugins.road import Road, delivery

MOST_POINTS = 200


async def letters(desk: Desk, number: int) -> tuple[list[str], LetterFilter]:
    """Let two jobs and two messages die, under names of their own; return the names and the four letters."""
    names = [f"{number}-{name}.txt" for name in ("job", "other", "message", "lost")]
    await desk.fail(*names[:2])
    for name in names[2:]:
        desk.road.bucket.put(name, name.encode())
        await desk.take_in(undelivered(name))
    found = await desk.road.fetch("select id from dead_letters where state = 'open'")
    assert len(found) == 4
    return names, LetterFilter(ids=[row["id"] for row in found])


async def replay_once(desk: Desk, number: int, fault: Fault) -> Faults:
    """Replay four letters in a process that goes wrong at one point; then let recover runs finish the work."""
    names, filters = await letters(desk, number)
    process, faults = faulty_road(desk.road, at=number, fault=fault)
    broken, batch_id = Desk(process), uuid4()
    request = ReplayRequest(filters=filters, by="test", rate_per_second=1000)
    with contextlib.suppress(Died, HeadraceError):
        await broken.replays.request(request, batch_id=batch_id, patience_seconds=0)
        await process.relay.drain()
    # Whoever asked does not know how far it came, and asks again: as the redelivered message of the topic would.
    await desk.replays.request(request, batch_id=batch_id, patience_seconds=0)
    await replays_duty(desk.replays, desk.budget(), batch_size=50)
    sent = await desk.published()
    rows = await desk.road.fetch("select state, replays from dead_letters where id = any ($1)", filters.ids)
    assert [(row["state"], row["replays"]) for row in rows] == [("replaying", 1)] * 4, faults.fired
    once = "select count(*) from outbox where data is not null and attributes ->> 'dead_letter_id' = any ($1)"
    assert await desk.road.value(once, [str(one) for one in filters.ids or ()]) == 2, faults.fired
    answered = [
        await desk.ingest(delivery("uploads-ingest", message.data, dict(message.attributes)))
        for message in sent
        if message.topic == "uploads" and message.attributes["objectId"] in names
    ]
    assert {outcome.name for outcome in answered} <= {"done", "duplicate"}
    await desk.road.work_off()
    batch = await desk.store.batch(batch_id)
    assert batch is not None
    batch = await desk.advance(batch)
    assert (batch.state, batch.tally.resolved, batch.tally.total) == (BatchState.DONE, 4, 4), faults.fired
    attempts = await desk.road.fetch(
        "select attempts, status from document_processing_jobs where name = any ($1)", names
    )
    assert [(row["attempts"], row["status"]) for row in attempts] == [(1, "completed")] * 4, faults.fired
    return faults


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Fault.DIES, Fault.CUT])
async def test_a_replay_survives_a_crash_at_each_of_its_steps(road: Road, fault: Fault) -> None:
    """Staged, sent and published once, resolved once, wherever the process ended; what was repeated was harmless."""
    desk = Desk(road)
    fired: set[str] = set()
    for number in range(MOST_POINTS):
        faults = await replay_once(desk, number, fault)
        if faults.fired is None:
            break
        fired.add(faults.fired)
    assert number > 20
    assert any("publish" in point for point in fired)
    assert any("commit" in point for point in fired)


@pytest.mark.slow
async def test_a_batch_is_stopped_and_released_through_crashes(road: Road) -> None:
    """A stop that dies half-way is finished by the next run: nothing stays staged for a batch that has ended."""
    desk = Desk(road)
    for number in range(MOST_POINTS):
        names = [f"{number}-{letter}.txt" for letter in "ab"]
        ids = await desk.fail(*names)
        request = ReplayRequest(filters=LetterFilter(ids=ids), by="test", rate_per_second=0.001)
        batch = await desk.replays.request(request, patience_seconds=0)
        assert (batch.tally.sent, batch.tally.staged) == (1, 1)
        process, faults = faulty_road(road, at=number)
        with contextlib.suppress(Died):
            await Desk(process).replays.stop(batch.id, by="somebody")
        await desk.replays.stop(batch.id, by="somebody")
        batch = await desk.look(batch)
        assert (batch.state, batch.tally.sent, batch.tally.dropped) == (BatchState.STOPPED, 1, 1), faults.fired
        await desk.road.work_off()
        assert sorted([row["state"] for row in await road.fetch(
            "select state from dead_letters where id = any ($1)", ids)]) == ["open", "resolved"]  # fmt: skip
        if faults.fired is None:
            break
    assert number > 4
