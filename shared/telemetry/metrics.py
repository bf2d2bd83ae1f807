"""Counting: one `Metrics` per service, on the instruments of `shared.telemetry.instruments` and no others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation
from opentelemetry.sdk.metrics import MeterProvider, TraceBasedExemplarFilter
from opentelemetry.sdk.metrics.export import MetricExporter, MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from shared.telemetry.instruments import CATALOGUE, Instrument

EXPORT_INTERVAL_MS = 30_000
FLUSH_SECONDS = 1.0

TEXT_CONTENT_TYPE = CONTENT_TYPE_LATEST

_Watchers = dict[object, tuple[Callable[[], float], dict[str, str]]]


class Metrics:
    """Records the metrics of one service; safe to use from any task or thread.

    An async context manager: leaving it sends what is left, for 1 s at most. The labels of a call must be exactly
    those that the instrument declares; others are a programming error.
    """

    def __init__(
        self, service_name: str, *, exporter: MetricExporter | None = None, resource: Resource | None = None
    ) -> None:
        """Keep the values for `/metrics`, and send them by `exporter` if given; `resource` says of whom they are."""
        self._registry = CollectorRegistry()
        readers: list[MetricReader] = [PrometheusMetricReader(registry=self._registry, scope_info_enabled=False)]
        self._sender: MetricReader | None = None
        if exporter is not None:
            self._sender = PeriodicExportingMetricReader(exporter, export_interval_millis=EXPORT_INTERVAL_MS)
            readers.append(self._sender)
        self._provider = MeterProvider(
            metric_readers=readers,
            resource=resource or Resource.create({"service.name": service_name}),
            exemplar_filter=TraceBasedExemplarFilter(),  # a slow value names a trace that can be looked at
            shutdown_on_exit=False,
        )
        meter = self._provider.get_meter("headrace")
        self._counters: dict[Instrument, Counter] = {}
        self._histograms: dict[Instrument, Histogram] = {}
        self._watchers: dict[Instrument, _Watchers] = {}
        for instrument in CATALOGUE:
            self._create(meter, instrument)

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
        """Send what is there now; nothing happens without an exporter. What cannot be sent is sent with the next."""
        if self._sender is not None:
            # Not by the provider: that would also fill the other reader, which is emptied by scrapes only.
            await asyncio.to_thread(self._sender.force_flush, FLUSH_SECONDS * 1000)

    def add(self, instrument: Instrument, amount: int = 1, **labels: str) -> None:
        """Count `amount` more on a counter."""
        self._counters[instrument].add(amount, _checked(instrument, labels))

    def record(self, instrument: Instrument, value: float, **labels: str) -> None:
        """Add one value to a histogram."""
        self._histograms[instrument].record(value, _checked(instrument, labels))

    @contextmanager
    def watching(self, instrument: Instrument, read: Callable[[], float], **labels: str) -> Iterator[None]:
        """Show on a gauge, for as long as the block lasts, what `read` returns when somebody looks.

        `read` is called from other threads and must return at once. Several watchers of the same labels: the last
        one entered is shown.
        """
        watchers = self._watchers[instrument]
        key = object()
        watchers[key] = (read, _checked(instrument, labels))
        try:
            yield
        finally:
            del watchers[key]

    def text(self) -> str:
        """Return everything in the Prometheus text format (`TEXT_CONTENT_TYPE`)."""
        return generate_latest(self._registry).decode()

    def _create(self, meter: Meter, instrument: Instrument) -> None:
        about: dict[str, Any] = {"unit": instrument.unit, "description": instrument.description}
        match instrument.kind:
            case "counter":
                self._counters[instrument] = meter.create_counter(instrument.name, **about)
            case "histogram":
                self._histograms[instrument] = meter.create_histogram(
                    instrument.name, **about, explicit_bucket_boundaries_advisory=list(instrument.buckets)
                )
            case "gauge":
                watchers = self._watchers.setdefault(instrument, {})

                def observe(_options: CallbackOptions) -> list[Observation]:
                    return [Observation(read(), labels) for read, labels in list(watchers.values())]

                meter.create_observable_gauge(instrument.name, callbacks=[observe], **about)


def _checked(instrument: Instrument, labels: dict[str, str]) -> dict[str, str]:
    if tuple(sorted(labels)) != tuple(sorted(instrument.labels)):
        raise ValueError(f"{instrument.name} has the labels {instrument.labels}, not {tuple(labels)}")
    return labels
