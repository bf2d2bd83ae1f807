"""What the api service reads from the environment, and the one rule on where it may listen."""

from __future__ import annotations

import ipaddress
from typing import Literal

from pydantic import Field

from shared.errors import ConfigurationError
from shared.settings import ModelSettings, OwnerSettings


class ApiSettings(ModelSettings, OwnerSettings):
    """The settings of services that call models and decide about objects, and who stands in front of this service."""

    api_callers_verified_by: Literal["nobody", "platform"] = Field(
        "nobody", description="`platform`: a proxy in front verifies callers and sets the X-Headrace-* headers itself"
    )
    api_search_timeout_seconds: float = Field(15.0, gt=0, le=60, description="Bound on one search, embedding included")
    api_stream_seconds: float = Field(
        300.0, gt=0, le=3300, description="After this an event stream ends; clients resume"
    )
    api_streams_max: int = Field(100, ge=1, le=10_000, description="Event streams open at once; more are answered 503")


def refuse_unverified_exposure(settings: ApiSettings) -> None:
    """Return if nobody can reach this service with a name that nobody has verified.

    Raises:
        ConfigurationError: it would listen beyond loopback, or runs on Cloud Run, and nothing verifies its callers.
    """
    if settings.api_callers_verified_by == "platform":
        return
    if settings.k_service is not None:
        raise ConfigurationError(
            "the api takes the caller's name from request headers, so it does not start on Cloud Run; put a proxy that "
            "verifies callers in front and set API_CALLERS_VERIFIED_BY=platform"
        )
    if not is_loopback(settings.http_host):
        raise ConfigurationError(
            f"the api takes the caller's name from request headers, so it does not listen on {settings.http_host!r}; "
            "set HTTP_HOST=127.0.0.1, or put a proxy that verifies callers in front and set "
            "API_CALLERS_VERIFIED_BY=platform"
        )


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach that address; names other than `localhost` are not trusted to be."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
