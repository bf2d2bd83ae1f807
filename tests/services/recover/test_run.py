"""A whole run on the road: what is done beside each other, and what comes after it."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.recover.budget import Budget
from services.recover.duties.intake import BELLS, SOURCE
from services.recover.run import Duty, RecoverRun
from shared.clock import Clock, SystemClock
from shared.errors import AuthenticationError
from shared.ports.broker import Message
from shared.pubsub.topics import SUBSCRIPTIONS, WORK
from shared.telemetry.tracing import Tracing
from tests.fakes import BUCKET
from tests.plugins.clock import ManualClock
from tests.plugins.road import Road, _recover_settings, delivery

PATIENCE_SECONDS = 30.0


class HurriedClock(SystemClock):
    """Does not wait."""

    async def sleep(self, seconds: float) -> None:
        """Give others a turn."""
        await asyncio.sleep(0)


def run_with(inboxes: dict[str, Duty], road: Road, clock: Clock) -> RecoverRun:
    """Return what makes runs on the road, with these inboxes."""
    return RecoverRun(
        settings=_recover_settings(road.url),
        store=road.recover._store,
        outbox=road.outbox,
        relay=road.relay,
        storage=road.bucket,
        synchroniser=road.synchroniser,
        tracing=road.tracing,
        metrics=road.metrics,
        clock=clock,
        inboxes=inboxes,
    )


async def test_inboxes_are_waited_for_together(road: Road) -> None:
    """Two inboxes that answer only once both are asked: a run that asked one after the other would stand still."""
    both = asyncio.Barrier(2)

    async def ask(_budget: Budget) -> Counter[str]:
        await both.wait()
        return Counter(taken=1)

    run = run_with({"one": ask, "other": ask}, road, road.recover._clock)
    async with asyncio.timeout(PATIENCE_SECONDS):
        summary = await run()
    assert summary["ok"], summary
    assert (summary["duties"]["one"], summary["duties"]["other"]) == ({"taken": 1}, {"taken": 1})


async def test_what_the_broker_gave_up_on_is_replayed_and_resolved_in_one_run(road: Road) -> None:
    """Taken in, asked for and sent again by one run; once it is handled, its letter is resolved."""
    road.bucket.put("a.txt", b"one")
    said = {"bucketId": BUCKET, "objectId": "a.txt", "eventType": "OBJECT_FINALIZE", "objectGeneration": "1"}
    lost = delivery("dead-letters-intake", b"{}", said | {SOURCE: "headrace-uploads-ingest"})
    road.undelivered.waiting = [replace(lost, message_id="lost")]
    summary = await road.recover()
    assert summary["ok"], summary
    assert summary["duties"]["intake"]["new"] == 1
    assert summary["duties"]["replays"] == {"resolved": 0, "reopened": 0, "automatic": 1, "replayed": 1}
    assert road.undelivered.waiting == []
    (again,) = road.publisher.of("uploads")
    assert (await road.ingest(delivery("uploads-ingest", again.data, dict(again.attributes)))).verdict == "ack"
    assert await road.value("select state from dead_letters") == "resolved"
    for event in ("created", "resolved"):
        assert f'headrace_dead_letters_total{{event="{event}",origin="message"}} 1.0' in road.metrics.text()
    await road.work_off()
    assert await road.in_step()


async def test_bells_that_pub_sub_gave_up_on_leave_no_letter(road: Road) -> None:
    """A healthy backlog whose pushed bells were answered "busy" ten times: no letter, and it is worked off."""
    names = [f"{n}.txt" for n in range(4)]
    for name in names:
        road.bucket.put(name, name.encode())
        await road.notify(name)
    bells = road.publisher.of("work")
    assert len(bells) == len(names)
    road.undelivered.waiting = [
        replace(
            delivery("dead-letters-intake", bell.data, dict(bell.attributes) | {SOURCE: "headrace-work-interactive"}),
            message_id=str(n),
        )
        for n, bell in enumerate(bells)
    ]
    await road.shift_clock(3600)
    summary = await road.recover()
    assert summary["ok"], summary
    assert summary["duties"]["intake"] == {
        "new": 0, "failed_again": 0, "known": 0, "confirmed": 0, "bells": len(names), "errors": 0
    }  # fmt: skip
    assert summary["figures"]["dead_letters_open"] == 0
    assert await road.value("select count(*) from dead_letters") == 0
    assert road.undelivered.waiting == []
    assert len(road.publisher.of("work")) == 2 * len(names), "each job is rung for again"
    await road.work_off()
    assert await road.in_step()


async def test_a_bell_that_cannot_be_read_is_a_letter(road: Road) -> None:
    """What came to a lane and is no bell is kept: nobody else would ever hear of it."""
    said = {"lane": "bulk", SOURCE: "headrace-work-bulk"}
    road.undelivered.waiting = [delivery("dead-letters-intake", b"{", said)]
    summary = await road.recover()
    assert summary["duties"]["intake"]["new"] == 1
    assert (await road.value("select subscription from dead_letters")) == "work-bulk"


async def test_a_letter_about_a_bell_is_resolved_when_the_bell_comes_again(road: Road) -> None:
    """A letter of a release that kept bells needs nothing more: it is not reopened by the replayed bell's end."""
    malformed = delivery("dead-letters-intake", b"{", {SOURCE: "headrace-work-bulk"})
    road.undelivered.waiting = [malformed]
    await road.recover()
    letter = str(await road.value("select id from dead_letters"))
    road.undelivered.waiting = [
        replace(malformed, data=b'{"lane": "bulk"}', attributes={**malformed.attributes, "dead_letter_id": letter})
    ]
    assert (await road.recover())["duties"]["intake"]["bells"] == 1
    assert await road.value("select state from dead_letters") == "resolved"


def test_bells_come_from_the_subscriptions_of_their_topic() -> None:
    """The names by which recover knows bells are those of the table."""
    assert {entry.name for entry in SUBSCRIPTIONS if entry.topic == WORK} == BELLS


async def test_a_run_ends_with_its_telemetry_sent(road: Road) -> None:
    """The span of the run is exported when the run returns: a frozen instance would keep it until the next one."""
    sent = InMemorySpanExporter()
    async with Tracing("test", exporter=sent) as tracing:
        road.recover._tracing = tracing
        await road.recover()
        assert "recover run" in {span.name for span in sent.get_finished_spans()}


async def test_a_topic_that_refuses_keeps_no_bell_from_being_told(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every dead letter is refused, and every stage event: all bells are out after one run, and it says what failed."""
    road.bucket.put("a.txt", b"one")
    await road.notify("a.txt")
    await road.work_off()
    await road.fetch("update job_events set published_at = null")
    await road.fetch("insert into outbox (topic) select 'dead-letters' from generate_series(1, 250)")
    await road.fetch("insert into outbox (topic) select 'work' from generate_series(1, 450)")
    stored = road.publisher.publish

    async def refuse(message: Message) -> str:
        if message.topic != "work":
            raise AuthenticationError
        return await stored(message)

    monkeypatch.setattr(road.publisher, "publish", refuse)
    summary = await road.recover()
    assert summary["duties"]["publish"]["published"] == 450
    assert summary["duties"]["publish"]["failed"] >= 200
    assert (
        await road.value("select string_agg(distinct topic, ' ') from outbox where published_at is null")
        == "dead-letters"
    )
    assert await road.value("select count(*) from job_events where published_at is null") > 0  # type: ignore[operator]


async def test_what_a_run_wrote_is_told_by_it_however_long_its_inboxes_take(road: Road) -> None:
    """Inboxes end at half of the time; the jobs that became due are rung for in this run, and the rest has its turn."""
    clock = ManualClock()

    async def endless(budget: Budget) -> Counter[str]:
        while await road.value("select last_rung_at from document_processing_jobs") is None:
            pass  # each question gives the other duties a turn
        while not budget.spent:
            clock.advance(1.0)
        return Counter()

    road.bucket.put("a.txt", b"one")
    await road.notify("a.txt")
    road.publisher.messages.clear()
    await road.fetch("update document_processing_jobs set last_rung_at = null")
    run = run_with({"endless": endless}, road, clock)
    async with asyncio.timeout(PATIENCE_SECONDS):
        summary = await run()
    assert summary["ok"], summary
    assert not summary["budget_spent"]
    assert len(road.publisher.of("work")) == 1


async def test_a_login_that_is_refused_is_an_outage_and_not_the_end(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a password is being changed a run ends with a summary that says so, as when the database is away."""

    async def refused(_duty: str) -> None:
        raise AuthenticationError(code="DATABASE_LOGIN_REFUSED")

    monkeypatch.setattr(road.recover._store, "last_done", refused)
    monkeypatch.setattr(road.recover, "_clock", HurriedClock())
    summary = await road.recover()
    assert (summary["ok"], summary["errors"]) == (False, {"database": "DATABASE_LOGIN_REFUSED"})
