"""Each error of the library has one meaning."""

import pytest
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.cloud.pubsub_v1.publisher import exceptions as publishing

from shared import errors
from shared.pubsub.errors import ours, translated


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (api.ServiceUnavailable("x"), errors.DependencyUnavailable),
        (api.DeadlineExceeded("x"), errors.DependencyUnavailable),
        (api.InternalServerError("x"), errors.DependencyUnavailable),
        (api.Cancelled("x"), errors.DependencyUnavailable),
        (api.Unknown("x"), errors.DependencyUnavailable),
        (api.RetryError("x", api.PermissionDenied("y")), errors.AuthenticationError),
        (api.ResourceExhausted("x"), errors.RateLimitError),
        (api.PermissionDenied("x"), errors.AuthenticationError),
        (api.Unauthenticated("x"), errors.AuthenticationError),
        (api.NotFound("x"), errors.NotFound),
        (api.Aborted("x"), errors.Conflict),
        (api.InvalidArgument("x"), errors.InvalidRequest),
        (publishing.MessageTooLargeError("x"), errors.InvalidRequest),
        (publishing.PublishToPausedOrderingKeyException("key"), errors.Conflict),
        (RuntimeError("Batch cancelled"), errors.DependencyUnavailable),
        (auth.TransportError("x"), errors.DependencyUnavailable),
        (auth.RefreshError("x", retryable=True), errors.DependencyUnavailable),
        (auth.RefreshError("x"), errors.AuthenticationError),
        (auth.DefaultCredentialsError("x"), errors.AuthenticationError),
    ],
    ids=lambda value: getattr(type(value), "__name__", None) if isinstance(value, Exception) else value.__name__,
)
def test_meaning(error: Exception, kind: type[errors.HeadraceError]) -> None:
    """The class decides what happens next; the sentence names the topic and not the vendor's text."""
    with pytest.raises(kind) as caught, translated("projects/p/topics/t"):
        raise error
    assert type(caught.value) is kind
    assert caught.value.__cause__ is error


def test_unknown_errors_are_unavailable_dependencies() -> None:
    """An error nobody has thought of is retryable."""
    assert isinstance(ours(OSError("?"), "t"), errors.RetryableError)
