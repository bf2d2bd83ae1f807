"""What the errors of the storage library, and of the three libraries below it, mean to us. Decided only here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import requests
import urllib3
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.cloud.storage.exceptions import DataCorruption

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

_RATE_REASONS = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "dailyLimitExceeded"})
_VENDOR = (
    api.GoogleAPIError,
    auth.GoogleAuthError,
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    DataCorruption,
    ConnectionError,
    TimeoutError,
)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn the vendors' errors that leave the block into ours; `what` is the thing asked for, for people."""
    try:
        yield
    except _VENDOR as error:
        _raise_ours(error, what)


def _raise_ours(error: BaseException, what: str) -> NoReturn:
    raise _ours(error, what) from error


def _ours(error: BaseException, what: str) -> HeadraceError:
    match error:
        case api.GoogleAPICallError():
            return _of_answer(error, what)
        case api.RetryError(cause=BaseException() as cause):
            return _ours(cause, what)
        case DataCorruption():
            return DependencyUnavailable(f"{what} arrived damaged; it will be fetched again.", code="CHECKSUM_MISMATCH")
        case auth.GoogleAuthError() if may_pass(error):
            return DependencyUnavailable("The service that gives out credentials does not answer.")
        case auth.GoogleAuthError():
            return AuthenticationError("No usable Google credentials; check the service account of this process.")
    return DependencyUnavailable(f"Cloud Storage did not answer for {what} ({type(error).__name__}).")


def _of_answer(error: api.GoogleAPICallError, what: str) -> HeadraceError:
    status = int(error.code or 0)
    if status == 429 or (status == 403 and _reasons(error) & _RATE_REASONS):
        return RateLimitError("Cloud Storage limits our calls.", retry_after_seconds=_retry_after_seconds(error))
    if status in {401, 403}:
        return AuthenticationError(f"Cloud Storage refused access to {what} ({status}); check the service account.")
    if status == 404:
        return NotFound(f"{what} does not exist.")
    if status == 412:
        return Conflict(f"{what} changed at the same moment.")
    if status == 408 or status >= 500 or status == 0:
        return DependencyUnavailable(
            f"Cloud Storage answered {status} for {what}.", retry_after_seconds=_retry_after_seconds(error)
        )
    return InvalidRequest(f"Cloud Storage calls the request for {what} wrong ({status}).")


def _reasons(error: api.GoogleAPICallError) -> set[str]:
    entries = list(error.errors or ())
    if not entries and error.response is not None:  # uploads and downloads hand on the answer unread
        with contextlib.suppress(ValueError, LookupError, TypeError):
            entries = list(error.response.json()["error"]["errors"])
    return {str(entry.get("reason")) for entry in entries if isinstance(entry, dict)}


def _retry_after_seconds(error: api.GoogleAPICallError) -> float | None:
    value = getattr(error.response, "headers", {}).get("Retry-After")
    try:
        return max(0.0, float(value)) if value is not None else None
    except ValueError:  # the other legal form is a date; we then wait as long as we would have anyway
        return None
