"""What is sent to a collector, and what a collector that is away may cost."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from shared.telemetry import instruments
from shared.telemetry.metrics import Metrics
from shared.telemetry.tracing import Tracing

CLOSE_SECONDS = 4.0


@dataclass
class Collector:
    """An OTLP collector that keeps the paths and bodies it was sent."""

    url: str = ""
    received: dict[str, bytes] = field(default_factory=dict)
    release: asyncio.Event | None = None


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    """A collector on a free port."""
    state = Collector()

    async def take(request: web.Request) -> web.Response:
        if state.release is not None:
            await state.release.wait()
        state.received[request.path] = await request.read()
        return web.Response(headers={"Content-Type": "application/x-protobuf"})

    application = web.Application()
    application.router.add_post("/{path:.*}", take)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    state.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield state
    if state.release is not None:
        state.release.set()
    await runner.cleanup()


async def _write(url: str) -> None:
    async with Tracing("svc", otlp_endpoint=url) as tracing, Metrics("svc", otlp_endpoint=url) as metrics:
        with tracing.span("the work"):
            metrics.add(instruments.RETRIES, reason="failure")


async def test_closing_sends_what_is_left(collector: Collector) -> None:
    """Spans and metrics of a short life still arrive, under the name of their service."""
    await _write(f"{collector.url}/")
    assert set(collector.received) == {"/v1/traces", "/v1/metrics"}


@pytest.mark.parametrize("silent", [True, False], ids=["silent", "refusing"])
async def test_collector_that_is_away_does_not_hold_up_the_end(
    collector: Collector, caplog: pytest.LogCaptureFixture, *, silent: bool
) -> None:
    """The grace time at a shutdown belongs to the work: exporting is bounded, and its failure is logged, not raised."""
    collector.release = asyncio.Event() if silent else None
    with caplog.at_level(logging.CRITICAL):
        await asyncio.wait_for(_write(collector.url if silent else "http://127.0.0.1:9"), CLOSE_SECONDS)
