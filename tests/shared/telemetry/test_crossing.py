"""One trace goes from the notification through messages and the job row to the last stage event and the dead letter."""

from __future__ import annotations

from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared.errors import UnprocessableContent
from shared.events.envelope import TRACE_PARENT
from shared.ports.broker import Message
from shared.pubsub.topics import DEAD_LETTERS, STAGES, WORK
from shared.telemetry.metrics import Metrics
from shared.telemetry.tracing import Tracing
from shared.worker.consumer import Consumer
from tests.fakes import BUCKET
from tests.plugins.road import Road, delivery

SENDER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def _traces(messages: list[Message]) -> set[str]:
    return {message.attributes[TRACE_PARENT].split("-")[1] for message in messages}


async def test_a_trace_crosses_every_message_of_a_job(road: Road) -> None:
    """Bell, stage events and dead letter carry the sender's trace, and the spans of both services belong to it."""
    spans = InMemorySpanExporter()
    async with (
        Tracing("ingest", processors=[SimpleSpanProcessor(spans)]) as ingest_tracing,
        Tracing("process", processors=[SimpleSpanProcessor(spans)]) as process_tracing,
        Metrics("test") as metrics,
    ):
        one = Road(road.database, road.url, ingest_tracing, metrics, road.bucket, road.publisher, road.embedder)
        two = Road(road.database, road.url, process_tracing, metrics, road.bucket, road.publisher, road.embedder)
        road.bucket.put("a.txt", b"one\ntwo")
        said = {"bucketId": BUCKET, "objectId": "a.txt", "eventType": "OBJECT_FINALIZE", TRACE_PARENT: SENDER}
        ingest = Consumer(one.ingest, tracing=ingest_tracing, metrics=metrics)
        await ingest(delivery("uploads-ingest", b"{}", said))
        [bell] = road.publisher.of(WORK)
        road.embedder.errors = [UnprocessableContent("it is broken.", code="CORRUPT")]
        process = Consumer(two.process, tracing=process_tracing, metrics=metrics)
        await process(delivery("work-interactive", bell.data, dict(bell.attributes)))
    trace = SENDER.split("-")[1]
    for topic in (WORK, STAGES, DEAD_LETTERS):
        assert _traces(road.publisher.of(topic)) == {trace}, topic
    ended = {span.name: span for span in spans.get_finished_spans()}
    assert {format(span.context.trace_id, "032x") for span in ended.values()} == {trace}
    assert {"receive uploads-ingest", "receive work-interactive", "process document_processing"} <= set(ended)
    assert {span.resource.attributes["service.name"] for span in ended.values()} == {"ingest", "process"}
