"""Where spans and metrics go: nowhere, to an OTLP collector, or to Google Cloud; and who says they come from.

Google Cloud takes OTLP itself (Cloud Trace and Cloud Monitoring behind one address), so that both roads are the same
exporters and the same data; Google's differs by credentials that sign each request.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExporter

from shared.errors import ConfigurationError
from shared.settings import CommonSettings

if TYPE_CHECKING:
    import requests
    from google.auth.credentials import Credentials

EXPORT_TIMEOUT_SECONDS = 1.0  # a collector that is away must not eat the grace time at shutdown
GOOGLE_ENDPOINT = "https://telemetry.googleapis.com"
_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)


@dataclass(frozen=True, slots=True)
class Export:
    """Makes exporters. `credentials` sign each request; None for a collector that asks for none."""

    endpoint: str | None = None
    """Base URL, without `/v1/traces` and `/v1/metrics`; None sends nothing."""
    credentials: Credentials | None = None

    def spans(self) -> SpanExporter | None:
        """Return a new exporter of spans, or None."""
        if self.endpoint is None:
            return None
        from opentelemetry.exporter.otlp.proto.http import Compression  # noqa: PLC0415 - only where it is used
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - as above

        return OTLPSpanExporter(
            endpoint=f"{self.endpoint.rstrip('/')}/v1/traces",
            timeout=EXPORT_TIMEOUT_SECONDS,
            compression=Compression.Gzip,
            session=self._session(),
        )

    def metrics(self) -> MetricExporter | None:
        """Return a new exporter of metrics, or None."""
        if self.endpoint is None:
            return None
        from opentelemetry.exporter.otlp.proto.http import Compression  # noqa: PLC0415 - only where it is used
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415 - as above

        return OTLPMetricExporter(
            endpoint=f"{self.endpoint.rstrip('/')}/v1/metrics",
            timeout=EXPORT_TIMEOUT_SECONDS,
            compression=Compression.Gzip,
            session=self._session(),
        )

    def _session(self) -> requests.Session | None:
        if self.credentials is None:
            return None
        from google.auth.transport.requests import AuthorizedSession  # noqa: PLC0415 - only where it is used

        session: requests.Session = AuthorizedSession(  # type: ignore[no-untyped-call]  # the library has no types
            self.credentials, refresh_timeout=EXPORT_TIMEOUT_SECONDS
        )
        return session


def export_of(settings: CommonSettings) -> Export:
    """Return what the settings say. Reads Google's default credentials where they are needed, which may block.

    Raises:
        ConfigurationError: Google's exporter is wanted and this process has no credentials.
    """
    match settings.exporter:
        case "otlp":
            return Export(settings.otlp_endpoint)
        case "google":
            return Export(GOOGLE_ENDPOINT, _default_credentials())
    return Export()


def _default_credentials() -> Credentials:
    import google.auth  # noqa: PLC0415 - only where it is used
    from google.auth.exceptions import DefaultCredentialsError  # noqa: PLC0415 - only where it is used

    try:
        credentials, _ = google.auth.default(scopes=_SCOPES)
    except DefaultCredentialsError as error:
        raise ConfigurationError(
            "TELEMETRY_EXPORTER=google needs the default credentials of a service account; there are none"
        ) from error
    return credentials


def resource_of(service: str, settings: CommonSettings) -> Resource:
    """Return what every span and metric says of its origin, by OpenTelemetry's names.

    On Cloud Run the platform's own facts are added; without a place and an instance Google's metrics are refused.
    """
    attributes: dict[str, str] = {
        "service.name": service,
        "service.namespace": "headrace",
        "service.version": _version(),
        "service.instance.id": settings.worker_name,
    }
    if settings.exporter == "google":
        attributes |= {
            "gcp.project_id": settings.google_cloud_project_id,
            "cloud.region": settings.cloud_region or "global",
        }
    if settings.platform_name is not None:
        attributes |= {
            "cloud.provider": "gcp",
            "cloud.platform": "gcp_cloud_run",
            "cloud.account.id": settings.google_cloud_project_id,
            "faas.name": settings.platform_name,
            "faas.instance": settings.worker_name,
            "faas.version": settings.k_revision or "unknown",
        }
    if settings.cloud_region is not None:
        attributes["cloud.region"] = settings.cloud_region
    return Resource.create(attributes)


def _version() -> str:
    try:
        return importlib.metadata.version("headrace")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "unreleased"
