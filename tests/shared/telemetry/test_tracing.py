"""Spans say what happened, cross processes, and keep secrets."""

import asyncio

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from shared.errors import LeaseLost, NotFound, Superseded
from shared.telemetry.tracing import Tracing, current_trace, current_traceparent

REMOTE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans() -> InMemorySpanExporter:
    """What was exported."""
    return InMemorySpanExporter()


def _tracing(spans: InMemorySpanExporter) -> Tracing:
    return Tracing("test", processors=[SimpleSpanProcessor(spans)])


async def test_span_continues_a_traceparent(spans: InMemorySpanExporter) -> None:
    """A span whose parent came in a message belongs to the sender's trace."""
    async with _tracing(spans) as tracing:
        with tracing.span("receive", parent=REMOTE):
            sent = tracing.traceparent()
    [span] = spans.get_finished_spans()
    assert span.parent is not None
    assert format(span.parent.span_id, "016x") == "b7ad6b7169203331"
    assert sent is not None
    assert sent.split("-")[1] == REMOTE.split("-")[1]
    assert sent.split("-")[2] == format(span.context.span_id, "016x")


@pytest.mark.parametrize("parent", ["", "nonsense", "00-0-0-00"])
async def test_malformed_parent_counts_as_none(spans: InMemorySpanExporter, parent: str) -> None:
    """A foreign attribute cannot break the handling of a message."""
    async with _tracing(spans) as tracing:
        with tracing.span("receive", parent=parent):
            pass
    [span] = spans.get_finished_spans()
    assert span.parent is None


async def test_inner_spans_are_children(spans: InMemorySpanExporter) -> None:
    """Without a parent named, the current span is the parent, across services in one process too."""
    async with _tracing(spans) as tracing, Tracing("other") as other:
        with other.span("outer"), tracing.span("inner"):
            ids = current_trace()
    [inner] = spans.get_finished_spans()
    assert inner.parent is not None
    assert ids == (format(inner.context.trace_id, "032x"), format(inner.context.span_id, "016x"))


async def test_errors_leave_their_code_and_nothing_else(spans: InMemorySpanExporter) -> None:
    """A failed span has status and code; what the error says stays out."""
    async with _tracing(spans) as tracing:
        with pytest.raises(NotFound), tracing.span("work"):
            raise NotFound("gs://bucket/the-salaries.pdf does not exist.")
    [span] = spans.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert dict(span.attributes or {})["headrace.error_code"] == "NOT_FOUND"
    assert not span.events
    assert "salaries" not in span.to_json()


@pytest.mark.parametrize("error", [Superseded(), LeaseLost(), asyncio.CancelledError()], ids=repr)
async def test_what_is_no_failure_is_not_shown_as_one(spans: InMemorySpanExporter, error: BaseException) -> None:
    """Supersession, a lost lease and a shutdown do not turn traces red."""
    async with _tracing(spans) as tracing:
        with pytest.raises(type(error)), tracing.span("work"):
            raise error
    [span] = spans.get_finished_spans()
    assert span.status.status_code is StatusCode.UNSET


async def test_ids_exist_without_an_exporter() -> None:
    """With nothing configured, logs and messages still carry ids; outside of spans there are none."""
    async with Tracing("test") as tracing:
        with tracing.span("work"):
            assert current_traceparent() is not None
        assert current_traceparent() is None
        assert current_trace() is None
