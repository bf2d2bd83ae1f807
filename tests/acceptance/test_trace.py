"""One distributed trace from the notification to the last stage event, as a collector receives it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.ingest.app import build as build_ingest
from services.ingest.settings import IngestSettings
from services.process.app import build as build_process
from services.process.settings import ProcessSettings
from shared.events.envelope import TRACE_PARENT
from tests.plugins.stack import Site, eventually


@dataclass(frozen=True)
class Span:
    """What a trace shows of a span."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str


@dataclass
class Collector:
    """Keeps spans in memory; reached over HTTP, as every collector is."""

    address: str = ""
    spans: list[Span] = field(default_factory=list)

    async def take_traces(self, request: web.Request) -> web.Response:
        """Read one export."""
        for resource in ExportTraceServiceRequest.FromString(await request.read()).resource_spans:
            service = next(
                entry.value.string_value for entry in resource.resource.attributes if entry.key == "service.name"
            )
            self.spans += [
                Span(service, span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                for scope in resource.scope_spans
                for span in scope.spans
            ]
        return web.Response()

    def one(self, service: str, name: str) -> Span:
        """Return the only span of that name."""
        (found,) = [span for span in self.spans if (span.service, span.name) == (service, name)]
        return found


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """Run a collector for the length of the block."""

    async def take_metrics(_request: web.Request) -> web.Response:
        return web.Response()

    collector = Collector()
    application = web.Application()
    application.router.add_post("/v1/traces", collector.take_traces)
    application.router.add_post("/v1/metrics", take_metrics)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        collector.address = "http://{}:{}".format(*runner.addresses[0][:2])
        yield collector
    finally:
        await runner.cleanup()


async def test_one_trace_links_ingest_process_and_the_stage_events(site: Site) -> None:
    """All spans and stage events of one file share a trace, and each points at what caused it."""
    told: list[str] = []
    async with collecting() as collector, site.subscriber("stages-watch") as take:
        said = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.address}
        async with (
            site.service(build_ingest, IngestSettings, **said),
            site.service(build_process, ProcessSettings, **said),
        ):
            await site.upload("a.txt", b"The gate closes in 75 seconds.")
            (job,) = await site.ended("a.txt")

            async def look() -> bool:
                told.extend(message.attributes[TRACE_PARENT] for message in await take())
                return len(told) >= job["event_seq"]

            await eventually(look)

    received = collector.one("headrace-ingest", "receive uploads-ingest")
    rung = collector.one("headrace-process", "receive work-interactive")
    processed = collector.one("headrace-process", "process document_processing")
    steps = [collector.one("headrace-process", name) for name in ("download", "extract", "embed", "store")]
    bell = collector.one("headrace-ingest", "publish work")
    events = [span for span in collector.spans if span.name == "publish stages"]

    assert received.parent_id == ""
    assert bell.parent_id == rung.parent_id == processed.parent_id == received.span_id
    assert {step.parent_id for step in steps} == {processed.span_id}
    assert {event.parent_id for event in events} == {received.span_id}
    assert len(events) >= job["event_seq"]
    assert {event.service for event in events} == {"headrace-ingest", "headrace-process"}

    linked = [received, bell, rung, processed, *steps, *events]
    assert {span.trace_id for span in linked} == {received.trace_id}
    assert set(told) == {job["trace_parent"]}
    assert job["trace_parent"].split("-")[1:3] == [received.trace_id, received.span_id]
