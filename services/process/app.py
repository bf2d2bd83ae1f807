"""The composition root of the process service: the same in the cloud, on the laptop and in tests."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from services.process.audit_cleanup import CleanUp
from services.process.bulk_import import ImportPrefix
from services.process.extract.extractor import ChildExtractor
from services.process.extract.reading import PicturesFirst
from services.process.handler import AnswerBell
from services.process.pictures import PageReading
from services.process.purse import Purse
from services.process.settings import ProcessSettings
from services.process.spaces import FillSpace, IndexInEverySpace, SpaceWork
from services.process.workspace import workspace
from shared.clock import SystemClock
from shared.model.job import JobType
from shared.ports.models import Embedder, Extractor
from shared.postgres.spaces import PostgresSpaceStore
from shared.runtime import wiring
from shared.runtime.app import Service, telemetry
from shared.runtime.embedders import SpaceEmbedders
from shared.runtime.health import Ping
from shared.worker.consumer import Consumer
from shared.worker.gate import Gate
from shared.worker.replay import resolving
from shared.worker.retry import RetryPolicy


async def build(settings: ProcessSettings, stack: AsyncExitStack) -> Service:
    """Open what process needs, register its job types, and return it ready to run."""
    tracing, metrics = await stack.enter_async_context(telemetry("headrace-process", settings))
    database = await stack.enter_async_context(wiring.database(settings, metrics))
    storage = await stack.enter_async_context(wiring.object_store(settings))
    publisher = await stack.enter_async_context(wiring.publisher(settings, metrics))
    turns = wiring.turns(settings, database)
    embedder = await stack.enter_async_context(wiring.embedder(settings, metrics, turns))
    folder = stack.enter_context(workspace(settings.temp_dir))
    child = await stack.enter_async_context(
        ChildExtractor(
            deadline_seconds=settings.extract_deadline_seconds,
            memory_limit_bytes=settings.extract_memory_bytes,
            work_dir=folder,
        )
    )
    reader = await stack.enter_async_context(wiring.image_reader(settings, metrics, turns))
    relay = wiring.relay(database, publisher, tracing)
    gate = Gate(database.ping, clock=SystemClock())
    queue = wiring.work_queue(
        settings,
        database,
        max_defer_hours=settings.max_defer_hours,
        withdraw_on_failure=settings.on_failed_overwrite == "withdraw",
    )
    prices, spending = wiring.prices(settings), wiring.budgets(settings, database)
    extractor: Extractor = child
    pages: PageReading | None = None
    if reader is not None:
        extractor = PicturesFirst(child, reader)
        pages = PageReading(
            reader, ocr=child, queue=queue, purse=Purse(spending, metrics), prices=prices, temp_dir=str(folder)
        )
    slice_seconds = settings.push_slice_seconds if settings.delivery == "push" else None
    embedders = await stack.enter_async_context(
        SpaceEmbedders(settings, embedder, lambda named: wiring.embedder(named, metrics, turns))
    )

    def make(model: Embedder) -> SpaceWork:
        return SpaceWork(
            embedder=model,
            queue=queue,
            storage=storage,
            extractor=extractor,
            tracing=tracing,
            metrics=metrics,
            clock=SystemClock(),
            max_object_bytes=settings.max_object_bytes,
            temp_dir=str(folder),
            slice_seconds=slice_seconds,
            prices=prices,
            spending=spending,
            pages=pages,
            files_read=queue,
        )

    tasks = wiring.task_store(database)
    spaces = PostgresSpaceStore(database)
    fill = FillSpace(
        make,
        spaces,
        embedders,
        queue=queue,
        tasks=tasks,
        clock=SystemClock(),
        slice_seconds=slice_seconds,
    )
    synchroniser = wiring.synchroniser(settings, database, storage, tracing)
    bulk_import = ImportPrefix(
        tasks=tasks,
        storage=storage,
        synchroniser=synchroniser,
        clock=SystemClock(),
        bucket=settings.bucket,
        max_pending=settings.bulk_import_max_pending,
        slice_seconds=slice_seconds,
    )
    clean_up = CleanUp(
        tasks=tasks, store=wiring.pruning_store(database), clock=SystemClock(), slice_seconds=slice_seconds
    )
    letters = wiring.dead_letters(database)
    handler = AnswerBell(
        worker=settings.worker_name,
        handlers={
            JobType.DOCUMENT_PROCESSING: IndexInEverySpace(make, spaces, embedders),
            JobType.EMBEDDING_GENERATION: fill,
            JobType.BULK_IMPORT: bulk_import,
            JobType.AUDIT_CLEANUP: clean_up,
        },
        queue=queue,
        dead_letters=letters,
        synchroniser=synchroniser,
        relay=relay,
        retries=RetryPolicy(settings.retry_delays_seconds),
        tracing=tracing,
        metrics=metrics,
        clock=SystemClock(),
        lease_seconds=settings.lease_seconds,
        heartbeat_seconds=settings.heartbeat_seconds,
        gate=gate,
        slice_seconds=slice_seconds,
    )
    consumer = Consumer(resolving(handler, letters, metrics), tracing=tracing, metrics=metrics, gate=gate)
    # Both lanes share the slots; the bulk lane can never fill the last one.
    lanes = {"work-interactive": settings.process_concurrency, "work-bulk": settings.process_concurrency - 1}
    bells = await stack.enter_async_context(
        wiring.deliveries(
            settings,
            {subscription: (consumer, concurrency) for subscription, concurrency in lanes.items()},
            tracing=tracing,
            metrics=metrics,
            gate=gate,
            slots=asyncio.Semaphore(settings.process_concurrency),
        )
    )
    return Service(
        name="process",
        application=bells.application,
        loops=[*bells.loops, relay.run],
        on_stop=[*bells.on_stop, relay.stop],
        ready=[
            Ping("database", database.ping),
            Ping("bucket", lambda: storage.ping(settings.bucket)),
            Ping("reader", child.ping),
        ],
        metrics=metrics,
    )
