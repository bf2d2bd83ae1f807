"""The api service on a real port, with small stand-ins behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.api.app import callers, endpoints
from services.api.settings import ApiSettings
from services.api.web import application
from shared.runtime.app import Service, running
from shared.settings import load
from shared.telemetry.metrics import Metrics
from shared.telemetry.tracing import Tracing
from tests.plugins.clock import ManualClock
from tests.services.api.fakes import FakeDirectory, FakeEmbedder, FakeIndex

SETTINGS = {
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    "GOOGLE_CLOUD_PROJECT_ID": "test",
    "BUCKET": "uploads",
    "API_SEARCH_TIMEOUT_SECONDS": "0.05",
    "API_STREAMS_MAX": "2",
}


@dataclass
class ApiUnderTest:
    """A running api, what stands behind it, and a session that asks it as a tenant's member or as an administrator."""

    address: str
    session: aiohttp.ClientSession
    directory: FakeDirectory
    index: FakeIndex
    embedder: FakeEmbedder
    clock: ManualClock
    spans: InMemorySpanExporter
    metrics: Metrics
    closing: asyncio.Event
    member: dict[str, str] = field(
        default_factory=lambda: {"X-Headrace-Organization": "acme", "X-Headrace-Role": "member"}
    )

    def url(self, path: str) -> str:
        """Return the whole address of a path."""
        return self.address + path


@asynccontextmanager
async def api_under_test(**overrides: str) -> AsyncIterator[ApiUnderTest]:
    """Serve the api on a free port for the length of the block."""
    settings = load(ApiSettings, SETTINGS | overrides)
    directory, index, embedder, clock = FakeDirectory(), FakeIndex(), FakeEmbedder(), ManualClock()
    spans = InMemorySpanExporter()
    closing = asyncio.Event()

    async def close_streams() -> None:
        closing.set()

    async with (
        Tracing("api", processors=[SimpleSpanProcessor(spans)]) as tracing,
        Metrics("api") as metrics,
    ):
        routes = endpoints(directory, index, embedder, clock, settings, closing)
        app = application(routes, callers(settings), tracing=tracing, metrics=metrics)
        service = Service(name="api", application=app, on_stop=[close_streams], metrics=metrics)
        async with (
            running(service, settings, drain_seconds=5) as address,
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
        ):
            yield ApiUnderTest(address, session, directory, index, embedder, clock, spans, metrics, closing)


@pytest.fixture
async def api() -> AsyncIterator[ApiUnderTest]:
    """Give a running api."""
    async with api_under_test() as served:
        yield served
