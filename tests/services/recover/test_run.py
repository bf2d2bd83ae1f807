"""A whole run on the road: what is done beside each other, and what comes after it."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

from services.recover.budget import Budget
from services.recover.duties.intake import SOURCE
from services.recover.run import RecoverRun
from tests.fakes import BUCKET
from tests.plugins.road import Road, _recover_settings, delivery

PATIENCE_SECONDS = 30.0


async def test_inboxes_are_waited_for_together(road: Road) -> None:
    """Two inboxes that answer only once both are asked: a run that asked one after the other would stand still."""
    both = asyncio.Barrier(2)

    async def ask(_budget: Budget) -> Counter[str]:
        await both.wait()
        return Counter(taken=1)

    run = RecoverRun(
        settings=_recover_settings(road.url),
        store=road.recover._store,
        outbox=road.outbox,
        relay=road.relay,
        storage=road.bucket,
        synchroniser=road.synchroniser,
        tracing=road.tracing,
        metrics=road.metrics,
        clock=road.recover._clock,
        inboxes={"one": ask, "other": ask},
    )
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
