"""What Google's SDK and its transport raise, as our own errors: the one place that knows theirs."""

from __future__ import annotations

import json
import re
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
from google.auth import exceptions as auth_errors
from google.genai import errors

from shared.credentials import may_pass
from shared.errors import (
    AuthenticationError,
    DependencyUnavailable,
    HeadraceError,
    InvalidRequest,
    NotFound,
    RateLimitError,
)

_RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"
_BAD_KEY_REASONS = {"API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_SERVICE_BLOCKED"}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)s")
_PASSING = {408, 409}
"""Besides 5xx: too slow, and aborted because somebody else was faster."""
_CANCELLED = 499
"""Where work had begun: given up by the service under load, although nobody here cancels a call and waits for it."""


class NoAnswer(DependencyUnavailable):
    """No answer of the model came, or none that makes sense; it may have worked for it all the same, and be paid.

    An answer that says no (4xx, 5xx) is not paid for (https://ai.google.dev/gemini-api/docs/billing); of work that was
    cancelled halfway nobody says so.
    """


def translated(error: Exception, *, now: datetime) -> HeadraceError | None:
    """Return our own error; None for what is no failure of a call. `now` is for waits that are given as a date."""
    if isinstance(error, errors.APIError):
        return _translated_answer(error, now)
    if isinstance(error, (aiohttp.ClientConnectorError, ConnectionRefusedError)):  # nothing was sent
        return DependencyUnavailable("Gemini cannot be reached; it will be tried again.")
    if isinstance(error, (TimeoutError, aiohttp.ClientError, ConnectionError)):
        return NoAnswer("Gemini does not answer; it will be tried again.")
    if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError)):
        return NoAnswer("Gemini's answer cannot be read; it will be tried again.")
    if isinstance(error, auth_errors.GoogleAuthError) and may_pass(error):
        return DependencyUnavailable("Google's sign-in does not answer; it will be tried again.")
    if isinstance(error, auth_errors.GoogleAuthError):
        return AuthenticationError("Google's credentials are missing or refused; check the service account.")
    if isinstance(error, (ValueError, TypeError, LookupError, AttributeError)):
        # What the SDK trips over when an answer has another shape; pydantic's errors are ValueErrors.
        return NoAnswer("Gemini's answer has an unknown shape; it will be tried again.")
    return None


def _translated_answer(error: errors.APIError, now: datetime) -> HeadraceError:
    details = _details_of(error)
    reasons = {str(detail.get("reason")) for detail in details}
    if error.code in {401, 403} or reasons & _BAD_KEY_REASONS:
        return AuthenticationError("Gemini refused the credentials; check the key or the service account.")
    wait_seconds = _asked_wait_seconds(error, details, now)
    if error.code == 429:
        return RateLimitError(retry_after_seconds=wait_seconds)
    if error.code in _PASSING or error.code == _CANCELLED or error.code >= 500:
        kind = NoAnswer if error.code == _CANCELLED else DependencyUnavailable
        return kind(f"Gemini answered {error.code}; it will be tried again.", retry_after_seconds=wait_seconds)
    if error.code == 404:
        return NotFound("Gemini knows no such model here (404); check the model's name, the project and the region.")
    return InvalidRequest(f"Gemini refused the request as wrong ({error.code} {error.status or ''}".rstrip() + ").")


def _details_of(error: errors.APIError) -> list[dict[str, Any]]:
    body = error.details if isinstance(error.details, dict) else {}
    inner = body.get("error", body)
    details = inner.get("details") if isinstance(inner, dict) else None
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _asked_wait_seconds(error: errors.APIError, details: list[dict[str, Any]], now: datetime) -> float | None:
    for detail in details:
        match = _DURATION.fullmatch(str(detail.get("retryDelay")))
        if detail.get("@type") == _RETRY_INFO and match:
            return float(match[1])
    headers = getattr(error.response, "headers", None) or {}
    value = str(headers.get("Retry-After", ""))
    if value.isdecimal():
        return float(value)
    try:
        return max((parsedate_to_datetime(value) - now).total_seconds(), 0.0)
    except (ValueError, TypeError):  # no date, or one without a zone
        return None
