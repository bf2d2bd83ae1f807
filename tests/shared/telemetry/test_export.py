"""What is sent to a collector, and what a collector that is away may cost."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from google.auth.credentials import Credentials
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from shared.errors import ConfigurationError
from shared.runtime.app import telemetry
from shared.settings import CommonSettings, load
from shared.telemetry import instruments
from shared.telemetry.export import GOOGLE_ENDPOINT, Export, export_of, resource_of
from shared.telemetry.flush import flush
from shared.telemetry.metrics import Metrics
from shared.telemetry.tracing import Tracing

CLOSE_SECONDS = 4.0


@dataclass
class Collector:
    """An OTLP collector that keeps the paths and bodies it was sent."""

    url: str = ""
    received: dict[str, bytes] = field(default_factory=dict)
    authorization: dict[str, str] = field(default_factory=dict)
    release: asyncio.Event | None = None


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    """A collector on a free port."""
    state = Collector()

    async def take(request: web.Request) -> web.Response:
        if state.release is not None:
            await state.release.wait()
        state.received[request.path] = await request.read()
        state.authorization[request.path] = request.headers.get("Authorization", "")
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
    export = Export(url)
    async with Tracing("svc", exporter=export.spans()) as tracing, Metrics("svc", exporter=export.metrics()) as metrics:
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


class AccountOfTheService(Credentials):
    """What the platform's metadata server would give: a token, made when it is first needed."""

    def refresh(self, request: object) -> None:
        """Make the token."""
        self.token = "token-1"


def _settings(**values: str) -> CommonSettings:
    required = {"DATABASE_URL": "postgresql://u:p@h/d", "GOOGLE_CLOUD_PROJECT_ID": "proj", "BUCKET": "bucket"}
    return load(CommonSettings, required | values)


async def test_requests_to_google_are_signed(collector: Collector) -> None:
    """With Google's credentials both signals carry the service's token; without them there is none."""
    export = Export(collector.url, AccountOfTheService())
    async with Tracing("svc", exporter=export.spans()) as tracing, Metrics("svc", exporter=export.metrics()) as metrics:
        with tracing.span("the work"):
            metrics.add(instruments.RETRIES, reason="failure")
    assert collector.authorization == {"/v1/traces": "Bearer token-1", "/v1/metrics": "Bearer token-1"}
    await _write(collector.url)
    assert set(collector.authorization.values()) == {""}


async def test_settings_say_who_gets_them(collector: Collector) -> None:
    """An endpoint is enough; `none` silences it; each span and each metric says where it comes from."""
    settings = _settings(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, TELEMETRY_EXPORTER="none")
    async with telemetry("headrace-test", settings) as (tracing, _):
        with tracing.span("unsaid"):
            pass
    assert collector.received == {}
    settings = _settings(
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        K_SERVICE="headrace-process",
        K_REVISION="headrace-process-00007",
        CLOUD_REGION="europe-west3",
    )
    async with telemetry("headrace-test", settings) as (tracing, metrics):
        with tracing.span("said"):
            metrics.record(instruments.STAGE_SECONDS, 2.0, stage="embedding")
    traces = ExportTraceServiceRequest.FromString(collector.received["/v1/traces"]).resource_spans
    counts = ExportMetricsServiceRequest.FromString(collector.received["/v1/metrics"]).resource_metrics
    said = [{one.key: one.value.string_value for one in part.resource.attributes} for part in (*traces, *counts)]
    assert said[0] == said[1]
    assert (
        said[0].items()
        >= {
            "service.name": "headrace-test",
            "cloud.platform": "gcp_cloud_run",
            "cloud.region": "europe-west3",
            "cloud.account.id": "proj",
            "faas.name": "headrace-process",
            "faas.version": "headrace-process-00007",
        }.items()
    )
    assert {"service.version", "service.instance.id"} <= set(said[0])


async def test_a_slow_value_names_its_trace(collector: Collector) -> None:
    """Histograms carry an exemplar of a sampled trace, and none of one that is not sent."""
    export = Export(collector.url)
    async with (
        Tracing("svc", sample_ratio=1.0) as sampled,
        Tracing("svc", sample_ratio=0.0) as silent,
        Metrics("svc", exporter=export.metrics()) as metrics,
    ):
        with sampled.span("slow") as span:
            metrics.record(instruments.STAGE_SECONDS, 70.0, stage="embedding")
        with silent.span("unsent"):
            metrics.record(instruments.STAGE_SECONDS, 0.2, stage="embedding")
    [part] = ExportMetricsServiceRequest.FromString(collector.received["/v1/metrics"]).resource_metrics
    [metric] = [one for one in part.scope_metrics[0].metrics if one.name == instruments.STAGE_SECONDS.name]
    exemplars = [one for point in metric.histogram.data_points for one in point.exemplars]
    assert [(one.as_double, one.trace_id) for one in exemplars] == [
        (70.0, span.get_span_context().trace_id.to_bytes(16, "big"))
    ]


def test_google_needs_credentials_and_names_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Google's exporter is refused at the start without an account, as a matter of configuration."""
    settings = _settings(TELEMETRY_EXPORTER="google")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(ConfigurationError, match="TELEMETRY_EXPORTER=google"):
        export_of(settings)
    monkeypatch.setattr("google.auth.default", lambda scopes: (AccountOfTheService(), "proj"))
    assert export_of(settings).endpoint == GOOGLE_ENDPOINT
    attributes = resource_of("headrace-test", settings).attributes
    assert attributes["gcp.project_id"] == "proj"
    assert attributes["cloud.region"] == "global"


def test_instances_are_told_apart() -> None:
    """Every container is process 1 of localhost, and two of them must not write the same series."""
    first, second = (resource_of("headrace-test", _settings()).attributes["service.instance.id"] for _ in range(2))
    assert first != second


def test_a_collector_without_address_is_refused() -> None:
    """Asking for OTLP without saying where is an error at the start."""
    with pytest.raises(ConfigurationError, match="OTEL_EXPORTER_OTLP_ENDPOINT"):
        _settings(TELEMETRY_EXPORTER="otlp")


async def test_flushing_sends_what_is_there_while_the_service_goes_on(collector: Collector) -> None:
    """Before an instance is frozen, spans that ended and counts are with the collector."""
    export = Export(collector.url)
    async with Tracing("svc", exporter=export.spans()) as tracing, Metrics("svc", exporter=export.metrics()) as metrics:
        with tracing.span("the work"):
            metrics.add(instruments.RETRIES, reason="failure")
        assert collector.received == {}
        await flush(tracing, metrics)
        assert set(collector.received) == {"/v1/traces", "/v1/metrics"}


async def test_flushing_is_bounded_and_raises_nothing(collector: Collector, caplog: pytest.LogCaptureFixture) -> None:
    """A collector that is silent holds up nobody's answer."""
    collector.release = asyncio.Event()
    export = Export(collector.url)
    with caplog.at_level(logging.CRITICAL):
        async with asyncio.timeout(CLOSE_SECONDS):
            async with (
                Tracing("svc", exporter=export.spans()) as tracing,
                Metrics("svc", exporter=export.metrics()) as metrics,
            ):
                with tracing.span("the work"):
                    metrics.add(instruments.RETRIES, reason="failure")
                await flush(tracing, metrics)
                collector.release.set()


def test_the_region_of_models_is_not_where_a_service_runs() -> None:
    """Only CLOUD_REGION says where; Google's metrics, which need a place, are global without one."""
    cloud = {"K_SERVICE": "x", "GOOGLE_CLOUD_REGION": "us-east4"}
    assert "cloud.region" not in resource_of("x", _settings(**cloud)).attributes
    google = {"TELEMETRY_EXPORTER": "google"}
    assert resource_of("x", _settings(**cloud, **google)).attributes["cloud.region"] == "global"
    said = resource_of("x", _settings(**cloud, **google, CLOUD_REGION="europe-west3"))
    assert said.attributes["cloud.region"] == "europe-west3"
