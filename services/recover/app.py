"""The composition root of the recover service: the same in the cloud, on the laptop and in tests."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from functools import partial

from services.recover import http, replay_topic
from services.recover.duties.intake import intake
from services.recover.duties.replays import replays
from services.recover.run import Duty, RecoverRun
from services.recover.settings import RecoverSettings
from shared.clock import SystemClock
from shared.runtime import wiring
from shared.runtime.app import Service, telemetry
from shared.runtime.health import Ping
from shared.worker.consumer import Consumer
from shared.worker.gate import Gate

_ANSWERING_SECONDS = 10.0
"""What an answer has left of a request's time."""


async def recover_run(settings: RecoverSettings, stack: AsyncExitStack) -> tuple[RecoverRun, Service]:
    """Open what recover needs; return its one use case, and the service around it without a clock of its own."""
    tracing, metrics = await stack.enter_async_context(telemetry("headrace-recover", settings))
    database = await stack.enter_async_context(wiring.database(settings, metrics))
    storage = await stack.enter_async_context(wiring.object_store(settings))
    publisher = await stack.enter_async_context(wiring.publisher(settings, metrics))
    letters = wiring.dead_letters(database)
    work = wiring.replays(database)
    order = replay_topic.ReplayMessages(work, letters)
    size = settings.batch_size
    outbox = wiring.outbox(database)
    if settings.broker_starts_empty:
        await outbox.forget_bells()
    inboxes: dict[str, Duty] = {
        "intake": partial(
            intake,
            await stack.enter_async_context(wiring.inbox(settings, "dead-letters-intake")),
            letters,
            subscriptions=wiring.subscription_names(),
            batch_size=size,
        )
    }
    if settings.delivery == "pull":
        inbox = await stack.enter_async_context(wiring.inbox(settings, "replay-recover"))
        inboxes["replay_topic"] = partial(replay_topic.replay_topic, inbox, order, batch_size=size)
    run = RecoverRun(
        settings=settings,
        store=wiring.recover_store(settings, database, withdraw_on_failure=settings.on_failed_overwrite == "withdraw"),
        outbox=outbox,
        relay=wiring.relay(database, publisher, tracing),
        storage=storage,
        synchroniser=wiring.synchroniser(settings, database, storage, tracing),
        tracing=tracing,
        metrics=metrics,
        clock=SystemClock(),
        pruning=wiring.pruning_store(database),
        inboxes=inboxes,
        letters={"replays": partial(replays, work, batch_size=size)},
    )
    stack.enter_context(run.gauges.shown(metrics))
    verify = None
    if settings.recover_callers:
        verify = await stack.enter_async_context(wiring.verifier(settings, settings.recover_callers))
    service = Service(
        name="recover",
        application=http.routes(run, verify),
        ready=[Ping("database", database.ping)],
        metrics=metrics,
    )
    if settings.delivery == "push":
        gate = Gate(database.ping, clock=SystemClock())
        consumer = Consumer(order, tracing=tracing, metrics=metrics, gate=gate)
        orders = await stack.enter_async_context(
            wiring.deliveries(
                settings,
                {"replay-recover": (consumer, 1)},
                tracing=tracing,
                metrics=metrics,
                gate=gate,
                # A request to this service ends when a run would have to.
                answer_seconds=settings.function_timeout_seconds - _ANSWERING_SECONDS,
            )
        )
        orders.add_to(service.application)
        service.on_stop = orders.on_stop
    return run, service


async def build(settings: RecoverSettings, stack: AsyncExitStack) -> Service:
    """Return the service ready to run: asked over HTTP, and by its own clock where that is set."""
    run, service = await recover_run(settings, stack)
    if settings.recover_every_seconds:
        stopping = asyncio.Event()

        async def loop() -> None:
            while not stopping.is_set():
                await run()
                with suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), settings.recover_every_seconds)

        async def stop() -> None:
            stopping.set()

        service.loops, service.on_stop = [loop], [*service.on_stop, stop]
    return service
