"""Which traces are sent: a part of all, and every one in which something failed.

The part is decided when a trace begins and travels with it. A trace that is not in it is kept here until it is over in
this process, and goes out whole when one of its spans fails. Other services that worked on the same trace do not learn
of that: they send their own part when it fails with them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState
from opentelemetry.util.types import Attributes

SPANS_PER_TRACE = 256
SPANS_IN_ALL = 4096
KEPT_SECONDS = 3600.0

_NANOSECONDS = 1_000_000_000


class RecordEverything(Sampler):
    """Another sampler, but what it would drop is recorded without being sent: only so can a failure still be."""

    def __init__(self, sampler: Sampler) -> None:
        """Ask `sampler` first."""
        self._sampler = sampler

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Return what the other sampler says, or `RECORD_ONLY`."""
        result = self._sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        if result.decision is not Decision.DROP:
            return result
        return SamplingResult(Decision.RECORD_ONLY, dict(result.attributes or {}), result.trace_state)

    def get_description(self) -> str:
        """Return the name that the SDK shows."""
        return f"RecordEverything{{{self._sampler.get_description()}}}"


def sampler(ratio: float) -> Sampler:
    """Return what sends that part of the traces that begin here, and goes on as others decided about theirs."""
    return RecordEverything(ParentBased(TraceIdRatioBased(ratio)))


@dataclass(slots=True)
class _Trace:
    """A trace that is not in the sampled part, as this process sees it."""

    open: int = 0
    failed: bool = False
    began_ns: int = 0
    ended: list[ReadableSpan] = field(default_factory=list)


class KeepFailures(SpanProcessor):
    """Passes sampled spans on at once, and the others when a span of their trace has failed.

    Bounded: of one trace `spans_per_trace` spans are kept, of all together `spans_in_all`, none for longer than
    `kept_seconds`; the oldest traces are given up first. A trace that was given up and fails later sends what comes
    from then on.
    """

    def __init__(
        self,
        processors: Sequence[SpanProcessor],
        *,
        spans_per_trace: int = SPANS_PER_TRACE,
        spans_in_all: int = SPANS_IN_ALL,
        kept_seconds: float = KEPT_SECONDS,
    ) -> None:
        """Pass spans on to these; they are shut down with this."""
        self._processors = list(processors)
        self._spans_per_trace, self._spans_in_all = spans_per_trace, spans_in_all
        self._kept_ns = int(kept_seconds * _NANOSECONDS)
        self._traces: OrderedDict[int, _Trace] = OrderedDict()
        self._kept = 0
        self._lock = threading.Lock()

    @property
    def kept(self) -> int:
        """How many spans wait for the end of their traces."""
        return self._kept

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Count what is open of a trace that is not sent."""
        for processor in self._processors:
            processor.on_start(span, parent_context)
        context = span.context
        if context is None or context.trace_flags.sampled:
            return
        with self._lock:
            trace = self._traces.setdefault(context.trace_id, _Trace(began_ns=span.start_time or 0))
            trace.open += 1
            self._forget_old(span.start_time or 0)

    def on_end(self, span: ReadableSpan) -> None:
        """Pass the span on, keep it, or let its trace go."""
        context = span.context
        if context is None:
            return
        if context.trace_flags.sampled:
            self._pass_on([span])
            return
        with self._lock:
            out = self._ended(context.trace_id, span)
        self._pass_on([_sampled(one) for one in out])

    def shutdown(self) -> None:
        """End the others; what is still undecided is not sent."""
        with self._lock:
            self._traces.clear()
            self._kept = 0
        for processor in self._processors:
            processor.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Let the others send what they have."""
        return all(processor.force_flush(timeout_millis) for processor in self._processors)

    def _ended(self, trace_id: int, span: ReadableSpan) -> list[ReadableSpan]:
        """Return what is to be sent now."""
        trace = self._traces.setdefault(trace_id, _Trace(open=1, began_ns=span.start_time or 0))
        trace.open -= 1
        trace.failed = trace.failed or span.status.status_code is StatusCode.ERROR
        out: list[ReadableSpan] = []
        if trace.failed:
            out = [*trace.ended, span]
            self._kept -= len(trace.ended)
            trace.ended = []
        elif trace.open > 0 and len(trace.ended) < self._spans_per_trace:
            trace.ended.append(span)
            self._kept += 1
        if trace.open <= 0:
            self._kept -= len(trace.ended)
            del self._traces[trace_id]
        while self._kept > self._spans_in_all:
            self._give_up(next(one for one in self._traces.values() if one.ended))
        return out

    def _forget_old(self, now_ns: int) -> None:
        while self._traces:
            oldest_id, oldest = next(iter(self._traces.items()))
            too_many = len(self._traces) > self._spans_in_all
            if not too_many and now_ns - oldest.began_ns <= self._kept_ns:
                return
            self._give_up(oldest)
            del self._traces[oldest_id]

    def _give_up(self, trace: _Trace) -> None:
        self._kept -= len(trace.ended)
        trace.ended = []

    def _pass_on(self, spans: Sequence[ReadableSpan]) -> None:
        for span in spans:
            for processor in self._processors:
                processor.on_end(span)


def _sampled(span: ReadableSpan) -> ReadableSpan:
    """Return the same span with the mark without which exporters leave it out."""
    context = span.context
    assert context is not None, "spans without a context are not kept"
    marked = SpanContext(
        context.trace_id,
        context.span_id,
        context.is_remote,
        TraceFlags(context.trace_flags | TraceFlags.SAMPLED),
        context.trace_state,
    )
    return ReadableSpan(
        name=span.name,
        context=marked,
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        events=span.events,
        links=span.links,
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
