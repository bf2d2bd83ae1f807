"""An outage of the database as the broker sees it: held deliveries, and no attempt burned."""

from __future__ import annotations

import asyncio

from shared.errors import DependencyUnavailable
from shared.local.pubsub.endpoint import serve
from shared.local.pubsub.topology import SubscriptionSpec, Topology
from shared.model.outcome import DONE, Outcome
from shared.ports.broker import Delivery, Message
from shared.pubsub.publisher import PubSubPublisher
from shared.pubsub.puller import Puller
from shared.telemetry.metrics import Metrics
from shared.telemetry.tracing import Tracing
from shared.worker.consumer import Consumer
from shared.worker.gate import Gate
from tests.plugins.clock import ManualClock
from tests.plugins.road import Road

AT_ONCE, MESSAGES = 4, 40
PATIENCE_SECONDS = 30.0
TOPOLOGY = Topology(
    project="proj",
    topics=("headrace-uploads", "headrace-dead-letters"),
    subscriptions=(
        SubscriptionSpec(
            name="headrace-uploads-ingest",
            topic="headrace-uploads",
            ack_deadline_seconds=60,
            dead_letter_topic="headrace-dead-letters",
            max_delivery_attempts=5,
        ),
    ),
)


class Database:
    """What handler and probe find: there, or away."""

    def __init__(self) -> None:
        self.away = True
        self.begun: list[Delivery] = []
        self.done: dict[bytes, int] = {}
        self.finished = asyncio.Event()

    async def ping(self) -> None:
        """Answer, or not."""
        if self.away:
            raise DependencyUnavailable(code="DATABASE_UNAVAILABLE")

    async def handle(self, delivery: Delivery) -> Outcome:
        """Record a delivery, or fail as all handlers do."""
        self.begun.append(delivery)
        await self.ping()
        self.done[delivery.data] = delivery.delivery_attempt
        if len(self.done) == MESSAGES:
            self.finished.set()
        return DONE


async def test_an_outage_burns_no_delivery_attempts() -> None:
    """While the database is away a puller holds what it has and takes no more; then everything is delivered once."""
    database, clock = Database(), ManualClock()
    gate = Gate(database.ping, clock=clock)
    async with (
        Tracing("test") as tracing,
        Metrics("test") as metrics,
        serve(topology=TOPOLOGY) as endpoint,
        PubSubPublisher(project_id="proj", metrics=metrics, emulator_host=endpoint.address) as publisher,
    ):
        puller = Puller(
            "uploads-ingest",
            Consumer(database.handle, tracing=tracing, metrics=metrics, gate=gate),
            project_id="proj",
            metrics=metrics,
            concurrency=AT_ONCE,
            emulator_host=endpoint.address,
        )
        await asyncio.gather(
            *(publisher.publish(Message(topic="uploads", data=b"%d" % number)) for number in range(MESSAGES))
        )
        async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
            group.create_task(puller.run())
            while gate.is_open:  # noqa: ASYNC110 - a handler closes it; the gate tells nobody
                await asyncio.sleep(0)
            for _ in range(60):
                clock.advance(10)
                for _ in range(50):
                    await asyncio.sleep(0)
            assert 1 <= len(database.begun) <= AT_ONCE
            assert not gate.is_open
            database.away = False
            while not database.finished.is_set():
                clock.advance(10)
                await asyncio.sleep(0)
            await puller.stop()
    assert set(database.done.values()) == {1}
    assert len(database.begun) <= MESSAGES + AT_ONCE


async def test_how_a_job_ended_is_recorded_across_an_outage(road: Road) -> None:
    """The database goes away under a job and is away still when its end is to be written: it waits, uncharged."""
    road.bucket.put("a.txt", b"one\ntwo")
    await road.notify("a.txt")
    away = DependencyUnavailable(code="DATABASE_UNAVAILABLE")
    road.embedder.errors = [away]
    defer, refusals = road.queue.defer, [away, away]

    async def refuse_twice(*arguments: object, **named: object) -> object:
        if refusals:
            raise refusals.pop()
        return await defer(*arguments, **named)

    road.queue.defer = refuse_twice
    assert (await road.ring()).name == "deferred"
    assert refusals == []
    job = (await road.fetch("select * from document_processing_jobs"))[0]
    assert (job["status"], job["attempts"], job["deferred_reason"]) == ("pending", 0, "DATABASE_UNAVAILABLE")
    await road.shift_clock(3)
    await road.outbox.ring_due(limit=10)
    await road.work_off()
    assert await road.in_step()
