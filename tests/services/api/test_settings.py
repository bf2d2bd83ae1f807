"""Where the api may listen."""

import pytest

from services.api.settings import ApiSettings
from shared.errors import ConfigurationError
from shared.settings import load

REQUIRED = {"DATABASE_URL": "postgresql://x@127.0.0.1/x", "GOOGLE_CLOUD_PROJECT_ID": "test", "BUCKET": "uploads"}


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_it_starts_on_loopback(host: str) -> None:
    """On loopback, headers are believed."""
    load(ApiSettings, REQUIRED | {"HTTP_HOST": host})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.7", "example.test", "127.0.0.1.example.test"])
def test_it_does_not_start_where_others_reach_it(host: str) -> None:
    """Anywhere else it refuses to start, and says how to do it."""
    with pytest.raises(ConfigurationError, match="API_CALLERS_VERIFIED_BY=platform"):
        load(ApiSettings, REQUIRED | {"HTTP_HOST": host})


def test_it_does_not_start_in_the_cloud() -> None:
    """On Cloud Run even loopback is no excuse: the platform forwards to it."""
    with pytest.raises(ConfigurationError, match="Cloud Run"):
        load(ApiSettings, REQUIRED | {"K_SERVICE": "api"})


def test_it_starts_anywhere_behind_a_platform_that_verifies() -> None:
    """Whoever puts a verifying proxy in front says so, and it starts."""
    said = {"K_SERVICE": "api", "HTTP_HOST": "0.0.0.0", "API_CALLERS_VERIFIED_BY": "platform"}
    load(ApiSettings, REQUIRED | said)
