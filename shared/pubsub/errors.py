"""What the errors of the Pub/Sub library mean to us. Decided only here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.cloud.pubsub_v1.publisher import exceptions as publishing

from shared.credentials import may_pass
from shared.errors import (
    AuthenticationError,
    Conflict,
    DependencyUnavailable,
    HeadraceError,
    InvalidRequest,
    NotFound,
    RateLimitError,
)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn the vendor's errors that leave the block into ours; `what` is the topic or subscription, for people."""
    try:
        yield
    except (
        api.GoogleAPIError,
        auth.GoogleAuthError,
        publishing.PublishToPausedOrderingKeyException,
        ValueError,
        RuntimeError,
    ) as error:
        raise ours(error, what) from error


def ours(error: BaseException, what: str) -> HeadraceError:  # noqa: C901, PLR0911, PLR0912 - a table, one line per meaning
    """Return our error for one of the vendor's; unknown ones count as "does not answer"."""
    match error:
        case HeadraceError():
            return error
        case publishing.MessageTooLargeError():
            return InvalidRequest(f"The message for {what} is larger than Pub/Sub takes.", code="MESSAGE_TOO_LARGE")
        case publishing.PublishToPausedOrderingKeyException():
            return Conflict(f"An earlier message of the same key could not be sent to {what}.")
        case RuntimeError():
            # The library's word for what it gave up: a batch behind a failed one of its key, or a stopped client.
            return DependencyUnavailable(f"A message for {what} was given up behind one that could not be sent.")
        case api.RetryError(cause=BaseException() as cause):
            return ours(cause, what)
        case api.TooManyRequests():  # gRPC says RESOURCE_EXHAUSTED
            return RateLimitError(f"Pub/Sub limits our calls for {what}.")
        case api.Forbidden() | api.Unauthorized():
            return AuthenticationError(f"Pub/Sub refused access to {what}; check the service account.")
        case api.NotFound():
            return NotFound(f"{what} does not exist.")
        case api.Conflict():
            return Conflict(f"{what} was changed at the same moment.")
        case api.ClientError() if not isinstance(error, api.Cancelled):
            return InvalidRequest(f"Pub/Sub calls the request for {what} wrong.")
        case auth.GoogleAuthError() if may_pass(error):
            return DependencyUnavailable("The service that gives out credentials does not answer.")
        case auth.GoogleAuthError():
            return AuthenticationError("No usable Google credentials; check the service account of this process.")
        case ValueError():
            return InvalidRequest(f"The message for {what} is not one that Pub/Sub takes.")
    return DependencyUnavailable(f"Pub/Sub did not answer for {what} ({type(error).__name__}).")
