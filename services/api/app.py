"""The composition root of the api service: the same in the cloud, on the laptop and in tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from services.api.callers import CallerVerifier, HeaderCallers
from services.api.route import Route
from services.api.routes.admin_jobs import AdminJobEndpoints
from services.api.routes.dead_letters import DeadLetterEndpoints
from services.api.routes.drift import DriftEndpoints
from services.api.routes.jobs import JobEndpoints
from services.api.routes.money import MoneyEndpoints
from services.api.routes.search import SearchEndpoint
from services.api.routes.spaces import SpaceEndpoints
from services.api.routes.tasks import TaskEndpoints
from services.api.settings import ApiSettings
from services.api.web import application
from shared.clock import Clock, SystemClock
from shared.ports.models import Embedder
from shared.ports.stores import ChunkIndex, JobDirectory
from shared.postgres.spaces import PostgresSpaceStore
from shared.runtime import wiring
from shared.runtime.app import Service, telemetry
from shared.runtime.embedders import SpaceEmbedders
from shared.runtime.health import Ping
from shared.worker.drift import DriftCheck
from shared.worker.estimate import CostEstimate


async def build(settings: ApiSettings, stack: AsyncExitStack) -> Service:
    """Open what the api needs and return it ready to serve; the settings hold that nobody unverified reaches it."""
    tracing, metrics = await stack.enter_async_context(telemetry("headrace-api", settings))
    database = await stack.enter_async_context(wiring.database(settings, metrics))
    turns = wiring.turns(settings, database)
    embedder = await stack.enter_async_context(wiring.late_embedder(settings, metrics, turns))
    embedders = await stack.enter_async_context(
        SpaceEmbedders(settings, embedder, lambda named: wiring.embedder(named, metrics, turns))
    )
    spaces = PostgresSpaceStore(database)

    async def searched() -> Embedder:
        return await embedders.of(await spaces.active() or embedders.default)

    async def paid_models() -> list[str]:
        if await spaces.active() is None:
            return [embedders.default.model]
        wanted = await spaces.wanted(embedders.default)
        return [space.model for space in (wanted.active, *wanted.filling)]

    storage = await stack.enter_async_context(wiring.object_store(settings))
    check = DriftCheck(
        documents=wiring.document_listing(database),
        storage=storage,
        synchroniser=wiring.synchroniser(settings, database, storage, tracing),
        bucket=settings.bucket,
    )
    estimate = CostEstimate(
        known=wiring.estimates(database),
        storage=storage,
        bucket=settings.bucket,
        models=paid_models,
        prices=wiring.prices(settings),
        max_object_bytes=settings.max_object_bytes,
        vision_model=settings.vision_model,
    )
    closing = asyncio.Event()

    async def close_streams() -> None:
        closing.set()

    routes = endpoints(
        wiring.job_directory(database),
        wiring.chunk_index(database),
        embedder,
        SystemClock(),
        settings,
        closing,
        searched,
    )
    return Service(
        name="api",
        application=application(
            [
                *routes,
                *SpaceEndpoints(spaces, wiring.task_store(database), embedders).routes(),
                *DriftEndpoints(check, SystemClock()).routes(),
                *MoneyEndpoints(wiring.budgets(settings, database), estimate, SystemClock()).routes(),
                *TaskEndpoints(wiring.task_store(database), wiring.job_directory(database)).routes(),
                *DeadLetterEndpoints(wiring.letter_directory(database), wiring.replays(database)).routes(),
            ],
            callers(settings),
            tracing=tracing,
            metrics=metrics,
        ),
        on_stop=[close_streams],
        ready=[Ping("database", database.ping), Ping("model", embedder.ready)],
        metrics=metrics,
    )


def endpoints(
    directory: JobDirectory,
    index: ChunkIndex,
    embedder: Embedder,
    clock: Clock,
    settings: ApiSettings,
    closing: asyncio.Event,
    searched: Callable[[], Awaitable[Embedder]] | None = None,
) -> list[Route[Any, Any]]:
    """Return the whole route table. `closing` ends the streams that are open."""
    return [
        *JobEndpoints(
            directory,
            clock,
            stream_seconds=settings.api_stream_seconds,
            streams_max=settings.api_streams_max,
            closing=closing,
        ).routes(),
        *SearchEndpoint(
            index, embedder, timeout_seconds=settings.api_search_timeout_seconds, searched=searched
        ).routes(),
        *AdminJobEndpoints(directory).routes(),
    ]


def callers(settings: ApiSettings) -> CallerVerifier:
    """Return who tells us who asks: verified callers with tokens take this place later."""
    trusting = settings.api_callers_verified_by == "nobody"
    return HeaderCallers(default_organization_id=(settings.default_organization_id or "default") if trusting else None)
