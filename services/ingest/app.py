"""The composition root of the ingest service: the same in the cloud, on the laptop and in tests."""

from __future__ import annotations

from contextlib import AsyncExitStack

from services.ingest.handler import IngestNotification
from services.ingest.settings import IngestSettings
from shared.clock import SystemClock
from shared.runtime import wiring
from shared.runtime.app import Service, telemetry
from shared.runtime.health import Ping
from shared.worker.consumer import Consumer
from shared.worker.gate import Gate
from shared.worker.replay import resolving


async def build(settings: IngestSettings, stack: AsyncExitStack) -> Service:
    """Open what ingest needs, wire its one use case, and return it ready to run."""
    tracing, metrics = await stack.enter_async_context(telemetry("headrace-ingest", settings))
    database = await stack.enter_async_context(wiring.database(settings, metrics))
    storage = await stack.enter_async_context(wiring.object_store(settings))
    publisher = await stack.enter_async_context(wiring.publisher(settings, metrics))
    relay = wiring.relay(database, publisher, tracing)
    gate = Gate(database.ping, clock=SystemClock())
    letters = wiring.dead_letters(database)
    handler = IngestNotification(
        bucket=settings.bucket,
        synchroniser=wiring.synchroniser(settings, database, storage, tracing),
        dead_letters=letters,
        relay=relay,
        metrics=metrics,
    )
    consumer = Consumer(resolving(handler, letters, metrics), tracing=tracing, metrics=metrics, gate=gate)
    notifications = await stack.enter_async_context(
        wiring.deliveries(
            settings,
            {"uploads-ingest": (consumer, settings.ingest_concurrency)},
            tracing=tracing,
            metrics=metrics,
            gate=gate,
        )
    )
    return Service(
        name="ingest",
        application=notifications.application,
        loops=[*notifications.loops, relay.run],
        on_stop=[*notifications.on_stop, relay.stop],
        ready=[Ping("database", database.ping), Ping("bucket", lambda: storage.ping(settings.bucket))],
        metrics=metrics,
    )
