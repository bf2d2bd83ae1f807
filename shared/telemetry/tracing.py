"""Spans and the context that crosses processes, as W3C `traceparent` strings.

A `Tracing` belongs to one service and owns its provider; OpenTelemetry's process-wide provider is never set. Without
an exporter spans are still made, so that logs carry trace ids and messages carry a `traceparent`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.errors import LeaseLost, Superseded, code_of
from shared.telemetry.sampling import KeepFailures, sampler

Attribute = str | bool | int | float

_W3C = TraceContextTextMapPropagator()
_NOT_FAILURES = (Superseded, LeaseLost, asyncio.CancelledError)


class Tracing:
    """Makes the spans of one service. An async context manager: leaving it sends what is left, for 1 s at most."""

    def __init__(
        self,
        service_name: str,
        *,
        exporter: SpanExporter | None = None,
        resource: Resource | None = None,
        processors: Sequence[SpanProcessor] = (),
        sample_ratio: float = 1.0,
    ) -> None:
        """Send by `exporter` if given; `processors` see what is sent too.

        Args:
            service_name: What spans say of their origin, if there is no `resource`.
            exporter: Where spans go, in batches.
            resource: What spans say of their origin.
            processors: Others that are told of spans.
            sample_ratio: Which part of the traces that begin here is sent, 0 to 1; failed ones are sent always.
        """
        self._provider = TracerProvider(
            resource=resource or Resource.create({"service.name": service_name}),
            sampler=sampler(sample_ratio),
            shutdown_on_exit=False,
        )
        batches = [BatchSpanProcessor(exporter)] if exporter is not None else []
        self._sends = exporter is not None
        self._provider.add_span_processor(KeepFailures([*batches, *processors]))
        self._tracer = self._provider.get_tracer("headrace")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_back: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Send what is left and end; to be called once, by who does not use the context manager."""
        await asyncio.to_thread(self._provider.shutdown)

    async def flush(self) -> None:
        """Send the spans that have ended; nothing happens without an exporter."""
        if self._sends:
            await asyncio.to_thread(self._provider.force_flush)

    @contextmanager
    def span(
        self,
        name: str,
        *,
        parent: str | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, Attribute] | None = None,
    ) -> Iterator[Span]:
        """Open a span for the block: a child of `parent` (a `traceparent`), else of the current span, else a root.

        An exception that leaves the block marks the span with its stable code only: messages and stack traces may
        hold what a file said. Supersession, a lost lease and cancellation are no failures. A malformed `parent` counts
        as none.
        """
        context: Context | None = _W3C.extract({"traceparent": parent}) if parent else None
        with self._tracer.start_as_current_span(
            name,
            context=context,
            kind=kind,
            attributes=dict(attributes or {}),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except BaseException as error:
                span.set_attribute("error.type", type(error).__name__)
                span.set_attribute("headrace.error_code", code_of(error))
                if not isinstance(error, _NOT_FAILURES):
                    span.set_status(Status(StatusCode.ERROR, code_of(error)))
                raise

    @staticmethod
    def traceparent() -> str | None:
        """Return the current span as a `traceparent`, to send along or to store on a job; None outside of spans."""
        return current_traceparent()


def current_traceparent() -> str | None:
    """Return the current span as a `traceparent`, whoever made it; None outside of spans."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier.get("traceparent")


def current_trace() -> tuple[str, str] | None:
    """Return the trace id and span id of the current span as hexadecimal, for logs; None outside of spans."""
    context = trace.get_current_span().get_span_context()
    return (format(context.trace_id, "032x"), format(context.span_id, "016x")) if context.is_valid else None


def current_trace_is_sampled() -> bool:
    """Say whether the current trace is in the part that is sent whatever becomes of it."""
    return trace.get_current_span().get_span_context().trace_flags.sampled
