"""What the api service reads from the environment, and the one rule on where it may listen."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from shared.settings import ModelSettings, OwnerSettings, rule


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

    @rule
    def _callers_are_verified(self) -> Iterator[str]:
        """Whoever can reach this service can say any name, unless somebody verifies it."""
        if self.api_callers_verified_by == "platform":
            return
        if self.k_service is not None:
            yield (
                "the api takes the caller's name from request headers, so it does not start on Cloud Run; put a proxy "
                "that verifies callers in front and set API_CALLERS_VERIFIED_BY=platform"
            )
        elif not is_loopback(self.http_host):
            yield (
                f"the api takes the caller's name from request headers, so it does not listen on {self.http_host!r}; "
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
