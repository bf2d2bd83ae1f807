"""Failures to sign in to Google, as google-auth makes them: which may pass, and what adapters make of them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from google.auth import exceptions
from google.auth.compute_engine import _metadata, credentials

from shared.credentials import may_pass
from shared.embedding import gemini_errors
from shared.errors import AuthenticationError, DependencyUnavailable
from shared.pubsub import errors as pubsub_errors
from shared.storage import errors as storage_errors


@pytest.fixture
def metadata_server_away(monkeypatch: pytest.MonkeyPatch) -> exceptions.GoogleAuthError:
    """What the credentials of Cloud Run raise when the metadata server does not answer."""

    def get(*_: object, **__: object) -> None:
        raise exceptions.TransportError("Compute Engine Metadata server unavailable")

    monkeypatch.setattr(_metadata, "get", get)
    with pytest.raises(exceptions.GoogleAuthError) as caught:
        credentials.Credentials().refresh(None)
    return caught.value


def test_a_metadata_server_that_does_not_answer_may_pass(metadata_server_away: exceptions.GoogleAuthError) -> None:
    """Every adapter takes it for a service that is away, although google-auth calls it not retryable."""
    assert not metadata_server_away.retryable
    assert may_pass(metadata_server_away)
    with pytest.raises(DependencyUnavailable), storage_errors.translated("a file"):
        raise metadata_server_away
    assert isinstance(pubsub_errors.ours(metadata_server_away, "a topic"), DependencyUnavailable)
    gemini = gemini_errors.translated(metadata_server_away, now=datetime(2026, 1, 1, tzinfo=UTC))
    assert isinstance(gemini, DependencyUnavailable)


@pytest.mark.parametrize(
    "error", [exceptions.RefreshError("invalid_grant"), exceptions.DefaultCredentialsError("none"), ValueError("x")]
)
def test_refused_or_missing_credentials_do_not(error: Exception) -> None:
    """These need a person."""
    assert not may_pass(error)


def test_a_flag_that_says_so_is_believed() -> None:
    """google-auth knows of some answers that they are passing."""
    assert may_pass(exceptions.RefreshError("503", retryable=True))
    gemini = gemini_errors.translated(exceptions.RefreshError("no"), now=datetime(2026, 1, 1, tzinfo=UTC))
    assert isinstance(gemini, AuthenticationError)
