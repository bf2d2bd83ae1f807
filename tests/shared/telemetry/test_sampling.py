"""A part of the traces is sent, and every one in which something failed; what is kept meanwhile is bounded."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared.errors import NotFound
from shared.telemetry.sampling import KeepFailures
from shared.telemetry.tracing import Tracing

NOT_SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans() -> InMemorySpanExporter:
    """What was sent."""
    return InMemorySpanExporter()


def _tracing(spans: InMemorySpanExporter, ratio: float = 0.0) -> Tracing:
    return Tracing("test", processors=[SimpleSpanProcessor(spans)], sample_ratio=ratio)


def _names(spans: InMemorySpanExporter) -> list[str]:
    return [span.name for span in spans.get_finished_spans()]


def _fail(tracing: Tracing, name: str) -> None:
    with pytest.raises(NotFound), tracing.span(name):
        raise NotFound("it is gone.")


async def test_trace_without_failure_is_left_out(spans: InMemorySpanExporter) -> None:
    """At ratio 0 a good trace is not sent, and leaves nothing behind."""
    async with _tracing(spans) as tracing:
        with tracing.span("outer"), tracing.span("inner"):
            pass
        assert _names(spans) == []


async def test_trace_with_a_failure_is_sent_whole(spans: InMemorySpanExporter) -> None:
    """Spans that ended well before the failure, the failure, and what came after it: all of the trace arrives."""
    async with _tracing(spans) as tracing:
        with tracing.span("outer"):
            with tracing.span("before"):
                pass
            _fail(tracing, "failing")
            with tracing.span("after"):
                pass
        with tracing.span("another"):
            pass
    sent = spans.get_finished_spans()
    assert [span.name for span in sent] == ["before", "failing", "after", "outer"]
    assert len({span.context.trace_id for span in sent}) == 1
    assert all(span.context.trace_flags.sampled for span in sent)
    assert {span.parent.span_id for span in sent if span.parent} == {sent[-1].context.span_id}


async def test_part_of_a_remote_trace_is_sent_when_it_fails_here(spans: InMemorySpanExporter) -> None:
    """The sender's decision holds unless something fails on this side; its sampled traces are continued."""
    async with _tracing(spans, ratio=1.0) as tracing:
        with tracing.span("left out", parent=NOT_SAMPLED):
            assert (tracing.traceparent() or "").endswith("-00")
        with pytest.raises(NotFound), tracing.span("failed here", parent=NOT_SAMPLED):
            raise NotFound("it is gone.")
        with tracing.span("continued", parent=SAMPLED):
            pass
    assert _names(spans) == ["failed here", "continued"]


async def test_sampled_trace_is_not_held_back(spans: InMemorySpanExporter) -> None:
    """What is in the sampled part goes out span by span, while its trace is still open."""
    async with _tracing(spans, ratio=1.0) as tracing:
        with tracing.span("outer"):
            with tracing.span("inner"):
                pass
            assert _names(spans) == ["inner"]


@pytest.mark.parametrize(("ratio", "low", "high"), [(0.5, 300, 700), (0.1, 30, 200)])
async def test_ratio_is_kept(spans: InMemorySpanExporter, ratio: float, low: int, high: int) -> None:
    """Of a thousand traces about the wanted part is sent."""
    async with _tracing(spans, ratio=ratio) as tracing:
        for _ in range(1000):
            with tracing.span("work"):
                pass
    assert low < len(_names(spans)) < high


def _keeping(spans: InMemorySpanExporter, **bounds: float) -> tuple[Tracing, KeepFailures]:
    keeper = KeepFailures([SimpleSpanProcessor(spans)], **bounds)  # type: ignore[arg-type]
    tracing = Tracing("test", sample_ratio=0.0)
    tracing._provider.add_span_processor(keeper)
    return tracing, keeper


async def test_one_trace_keeps_so_many_spans(spans: InMemorySpanExporter) -> None:
    """A trace with very many spans keeps its first ones and its failure."""
    tracing, keeper = _keeping(spans, spans_per_trace=3)
    async with tracing:
        with tracing.span("outer"):
            for n in range(10):
                with tracing.span(f"step {n}"):
                    pass
            assert keeper.kept == 3
            _fail(tracing, "failing")
    assert _names(spans) == ["step 0", "step 1", "step 2", "failing", "outer"]
    assert keeper.kept == 0


async def test_all_traces_together_keep_so_many(spans: InMemorySpanExporter) -> None:
    """The oldest trace is given up first; it still sends its failure."""
    tracing, keeper = _keeping(spans, spans_in_all=4)
    async with tracing:
        with tracing.span("old"):
            with tracing.span("old step"):
                pass
            with tracing.span("new", parent=NOT_SAMPLED):
                for n in range(4):
                    with tracing.span(f"step {n}"):
                        pass
                assert keeper.kept == 4
                _fail(tracing, "new failing")
            _fail(tracing, "old failing")
    assert _names(spans) == ["step 0", "step 1", "step 2", "step 3", "new failing", "new", "old failing", "old"]


async def test_spans_that_never_end_do_not_stay(spans: InMemorySpanExporter) -> None:
    """After the time limit a trace is given up when the next one begins."""
    tracing, keeper = _keeping(spans, kept_seconds=0.0)
    async with tracing:
        with tracing.span("old"):
            with tracing.span("old step"):
                pass
            with tracing.span("new", parent=NOT_SAMPLED):
                assert keeper.kept == 0
    assert _names(spans) == []
