"""From settings to opened adapters: the only module that names them all.

Each is an async context manager to be entered on the service's exit stack, or a plain constructor over the pool.
Heavy vendors (models, Pub/Sub) are imported when they are asked for, so that a service pays only for what it uses and
needs only what its own extra installs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from shared.clock import SystemClock
from shared.embedding.late import LateEmbedder
from shared.embedding.metered import MeteredEmbedder
from shared.embedding.metered_reader import MeteredReader
from shared.errors import ConfigurationError
from shared.model.price import MICROS, Prices
from shared.ports.broker import Handler
from shared.ports.dead_letters import ReplayRules
from shared.ports.models import Embedder, ImageReader, Turns
from shared.ports.storage import ObjectStore
from shared.postgres.budgets import PostgresBudgets
from shared.postgres.chunks import PostgresChunkIndex
from shared.postgres.dead_letters import PostgresDeadLetterStore, PostgresLetterDirectory
from shared.postgres.directory import PostgresJobDirectory
from shared.postgres.documents import PostgresDocumentStore
from shared.postgres.estimates import PostgresEstimates
from shared.postgres.iam import AccessTokens
from shared.postgres.jobs import PostgresWorkQueue
from shared.postgres.outbox import PostgresOutbox
from shared.postgres.pool import Database, open_database
from shared.postgres.prune import PostgresPruningStore
from shared.postgres.rate_limits import PostgresTurns
from shared.postgres.recover import PostgresRecoverStore
from shared.postgres.replays import PostgresReplayStore
from shared.postgres.tasks import PostgresTaskStore
from shared.pubsub import topics
from shared.runtime.identity import Certificates, TokenVerifier
from shared.runtime.push import ANSWER_SECONDS, Deliveries, PushEndpoint
from shared.settings import CommonSettings, DeliverySettings, ModelSettings, OwnerSettings
from shared.storage.late import LateStorage
from shared.telemetry.flush import flush
from shared.telemetry.instruments import POOL_CONNECTIONS
from shared.telemetry.metrics import Metrics
from shared.telemetry.tracing import Tracing
from shared.worker.gate import Gate
from shared.worker.owner import owner_of
from shared.worker.relay import Relay
from shared.worker.replay import Replays
from shared.worker.sync import Synchroniser

if TYPE_CHECKING:
    from shared.pubsub.inbox import PubSubInbox
    from shared.pubsub.publisher import PubSubPublisher


@asynccontextmanager
async def database(settings: CommonSettings, metrics: Metrics | None = None) -> AsyncIterator[Database]:
    """Open the pool; its figures are shown on `metrics`."""
    async with open_database(
        settings.database_url.get_secret_value(),
        password=AccessTokens() if settings.database_iam_auth else None,
        size=settings.database_pool_size,
        acquire_timeout_seconds=settings.database_pool_timeout_seconds,
        metrics=metrics,
    ) as pool:
        if metrics is None:
            yield pool
            return
        with (
            metrics.watching(POOL_CONNECTIONS, lambda: pool.stats().size, pool="main", state="open"),
            metrics.watching(POOL_CONNECTIONS, lambda: pool.stats().in_use, pool="main", state="in_use"),
            metrics.watching(POOL_CONNECTIONS, lambda: pool.stats().waiting, pool="main", state="waiting"),
        ):
            yield pool


def object_store(settings: CommonSettings) -> LateStorage:
    """Return the bucket's adapter, to be entered; its first call opens it."""
    return LateStorage(project_id=settings.google_cloud_project_id, emulator_host=settings.storage_emulator_host)


def publisher(settings: CommonSettings, metrics: Metrics) -> PubSubPublisher:
    """Return the publisher, to be entered."""
    from shared.pubsub.publisher import PubSubPublisher  # noqa: PLC0415 - the api has no client of Pub/Sub: 0.15 s, 20 MB

    return PubSubPublisher(
        project_id=settings.google_cloud_project_id, metrics=metrics, emulator_host=settings.pubsub_emulator_host
    )


@asynccontextmanager
async def deliveries(
    settings: DeliverySettings,
    handlers: Mapping[str, tuple[Handler, int]],
    *,
    tracing: Tracing,
    metrics: Metrics,
    gate: Gate,
    slots: asyncio.Semaphore | None = None,
    answer_seconds: float = ANSWER_SECONDS,
) -> AsyncIterator[Deliveries]:
    """Take the deliveries of subscriptions, by pull or push as the settings say; the handlers do not know which.

    `handlers` gives each subscription its handler and how many of its deliveries are handled at once; `slots` bounds
    all of them together. A push is answered within `answer_seconds`, whatever its handler does.
    """
    if settings.delivery == "pull":
        from shared.pubsub.puller import Puller  # noqa: PLC0415 - as above

        pullers = [
            Puller(
                subscription,
                handler,
                project_id=settings.google_cloud_project_id,
                metrics=metrics,
                concurrency=concurrency,
                emulator_host=settings.pubsub_emulator_host,
                drain_seconds=settings.drain_seconds,
                slots=slots,
            )
            for subscription, (handler, concurrency) in handlers.items()
        ]
        yield Deliveries(
            loops=[puller.run for puller in pullers], on_stop=[*(puller.stop for puller in pullers), gate.stop]
        )
        return
    async with verifier(settings, [settings.push_service_account or ""]) as verify:
        endpoint = PushEndpoint(
            verify,
            gate=gate,
            drain_seconds=settings.drain_seconds,
            slots=slots,
            answer_seconds=answer_seconds,
            idle=partial(flush, tracing, metrics),
        )
        for subscription, (handler, concurrency) in handlers.items():
            endpoint.add(subscription, handler, concurrency=concurrency)
        yield Deliveries(on_stop=[endpoint.stop, gate.stop], endpoint=endpoint)


@asynccontextmanager
async def verifier(settings: DeliverySettings, emails: Sequence[str]) -> AsyncIterator[TokenVerifier]:
    """Open what tells which of these service accounts made a request."""
    async with Certificates(settings.push_certs_url, clock=SystemClock()) as certificates:
        yield TokenVerifier(
            certificates,
            audience=settings.push_audience or "",
            emails=emails,
            clock=SystemClock(),
            platform=settings.push_verified_by == "platform",
        )


@asynccontextmanager
async def embedder(settings: ModelSettings, metrics: Metrics, turns: Turns) -> AsyncIterator[Embedder]:
    """Open the model that makes vectors; its calls are counted on `metrics`, and keep the pace that `turns` know.

    Raises:
        ConfigurationError: the packages of the local model are not installed.
    """
    async with _embedder(settings, turns) as opened:
        yield MeteredEmbedder(
            opened,
            metrics=metrics,
            clock=SystemClock(),
            prices=prices(settings),
        )


@asynccontextmanager
async def late_embedder(settings: ModelSettings, metrics: Metrics, turns: Turns) -> AsyncIterator[LateEmbedder]:
    """Open the model as `embedder` does, without waiting for Gemini's client; `ready` says when it is there.

    Raises:
        ConfigurationError: the packages of the local model are not installed.
    """
    is_local = settings.embedder == "local"
    load = (lambda: None) if is_local else partial(import_module, "shared.embedding.genai")
    async with LateEmbedder(partial(embedder, settings, metrics, turns), load=load) as opened:
        if is_local:
            await opened.ready()
        yield opened


def _embedder(settings: ModelSettings, turns: Turns) -> AbstractAsyncContextManager[Embedder]:
    if settings.embedder == "gemini":
        from shared.embedding.genai import GeminiEmbedder  # noqa: PLC0415 - a heavy vendor, only where it is used

        key = settings.gemini_api_key
        return GeminiEmbedder(
            api_key=None if key is None else key.get_secret_value(),
            project_id=settings.google_cloud_project_id,
            region=settings.google_cloud_region,
            model=settings.gemini_embedding_model,
            dimensions=settings.gemini_embedding_dimensions,
            batch_size=settings.gemini_embedding_batch_size,
            base_url=settings.gemini_base_url,
            turns=turns,
            clock=SystemClock(),
        )
    try:
        from shared.embedding.local import LocalEmbedder  # noqa: PLC0415 - a heavy vendor, only where it is used
    except ImportError as error:
        raise ConfigurationError(
            "EMBEDDER=local needs the extra `models`; install it or set EMBEDDER=gemini"
        ) from error
    return LocalEmbedder()


@asynccontextmanager
async def image_reader(settings: ModelSettings, metrics: Metrics, turns: Turns) -> AsyncIterator[ImageReader | None]:
    """Open the model that reads images, if one is to; its calls are counted, and keep the pace that `turns` know."""
    if (model := settings.vision_model) is None:
        yield None
        return
    from shared.embedding.gemini import GeminiAccess  # noqa: PLC0415 - a heavy vendor, only where it is used
    from shared.embedding.vision import GeminiReader  # noqa: PLC0415 - as above

    key = settings.gemini_api_key
    access = GeminiAccess(
        api_key=None if key is None else key.get_secret_value(),
        project_id=settings.google_cloud_project_id,
        region=settings.google_cloud_region,
        base_url=settings.gemini_base_url,
    )
    async with GeminiReader(access, model=model, turns=turns, clock=SystemClock()) as opened:
        yield MeteredReader(opened, metrics=metrics, clock=SystemClock(), prices=prices(settings))


def relay(database: Database, to: PubSubPublisher, tracing: Tracing) -> Relay:
    """Return the relay from the outbox to the broker."""
    return Relay(PostgresOutbox(database), to, tracing=tracing, clock=SystemClock())


def turns(settings: ModelSettings, database: Database) -> PostgresTurns:
    """Return what keeps the pace and the quotas of models, for all processes on this database."""
    return PostgresTurns(database, settings.model_quotas)


def prices(settings: ModelSettings) -> Prices:
    """Return what models cost."""
    return Prices(settings.model_prices, settings.model_price_per_million_tokens)


def budgets(settings: ModelSettings, database: Database) -> PostgresBudgets:
    """Return what organizations may spend on models in a day."""
    default = settings.budget_per_day
    return PostgresBudgets(database, default_micros=None if default is None else round(default * MICROS))


def estimates(database: Database) -> PostgresEstimates:
    """Return what the index knows about the cost of an import."""
    return PostgresEstimates(database)


def outbox(database: Database) -> PostgresOutbox:
    """Return what is committed and still to be told."""
    return PostgresOutbox(database)


def synchroniser(settings: OwnerSettings, database: Database, storage: ObjectStore, tracing: Tracing) -> Synchroniser:
    """Return what brings one object in step."""
    return Synchroniser(
        PostgresDocumentStore(database, max_attempts=settings.max_retry_attempts + 1),
        storage,
        owner_of=owner_of(template=settings.owner_path_template, default=settings.default_organization_id),
        tracing=tracing,
    )


def work_queue(
    settings: CommonSettings, database: Database, *, max_defer_hours: int, withdraw_on_failure: bool
) -> PostgresWorkQueue:
    """Return the queue as workers use it."""
    return PostgresWorkQueue(
        database,
        lease_seconds=settings.lease_seconds,
        max_defer_hours=max_defer_hours,
        withdraw_on_failure=withdraw_on_failure,
    )


def task_store(database: Database) -> PostgresTaskStore:
    """Return jobs without a document."""
    return PostgresTaskStore(database)


def recover_store(settings: CommonSettings, database: Database, *, withdraw_on_failure: bool) -> PostgresRecoverStore:
    """Return what the recover service asks."""
    return PostgresRecoverStore(database, max_rescues=settings.max_rescues, withdraw_on_failure=withdraw_on_failure)


def document_listing(database: Database) -> PostgresRecoverStore:
    """Return the index, listed as the bucket is."""
    return PostgresRecoverStore(database)


def pruning_store(database: Database) -> PostgresPruningStore:
    """Return what removes by age."""
    return PostgresPruningStore(database)


def dead_letters(database: Database) -> PostgresDeadLetterStore:
    """Return the list of failures."""
    return PostgresDeadLetterStore(database)


def letter_directory(database: Database) -> PostgresLetterDirectory:
    """Return failures as people see them."""
    return PostgresLetterDirectory(database)


def replays(database: Database) -> Replays:
    """Return what replays dead letters. Messages go back only to the topics whose handlers say what became of them."""
    sources = {
        entry.name: entry.topic for entry in topics.SUBSCRIPTIONS if entry.topic in {topics.UPLOADS, topics.WORK}
    }
    store = PostgresReplayStore(database, ReplayRules(topics=sources))
    return Replays(store, PostgresLetterDirectory(database), clock=SystemClock())


def inbox(settings: CommonSettings, subscription: str) -> PubSubInbox:
    """Return what takes batches from one subscription, to be entered."""
    from shared.pubsub.inbox import PubSubInbox  # noqa: PLC0415 - as above

    return PubSubInbox(
        subscription, project_id=settings.google_cloud_project_id, emulator_host=settings.pubsub_emulator_host
    )


def subscription_names() -> dict[str, str]:
    """Return what the product calls the subscriptions, by the ids they have at Pub/Sub."""
    return {topics.PREFIX + entry.name: entry.name for entry in topics.SUBSCRIPTIONS}


def job_directory(database: Database) -> PostgresJobDirectory:
    """Return jobs as people see them."""
    return PostgresJobDirectory(database)


def chunk_index(database: Database) -> PostgresChunkIndex:
    """Return the visible chunks."""
    return PostgresChunkIndex(database)
