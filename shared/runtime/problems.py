"""Errors as `application/problem+json` (RFC 9457). `code` is the stable code of `shared.errors`."""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from shared.errors import (
    AuthenticationError,
    Conflict,
    HeadraceError,
    InvalidRequest,
    NotFound,
    RateLimitError,
    RetryableError,
    UnprocessableContent,
)

_log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 1.0


def problem(
    status: int,
    code: str,
    title: str,
    detail: str | None = None,
    *,
    headers: dict[str, str] | None = None,
    **extra: Any,
) -> web.Response:
    """Return a problem document; `extra` become further members."""
    body = {"type": "about:blank", "status": status, "title": title, "code": code} | extra
    if detail:
        body["detail"] = detail
    return web.Response(status=status, text=json.dumps(body), content_type=CONTENT_TYPE, headers=headers)


def problem_of(error: HeadraceError) -> web.Response:
    """Return what a caller is told of one of our errors. Credentials of *ours* that failed are no fault of theirs."""
    status = status_of(error)
    headers: dict[str, str] = {}
    if isinstance(error, RetryableError) and status in {429, 503}:
        headers["Retry-After"] = str(math.ceil(error.retry_after_seconds or RETRY_AFTER_SECONDS))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    detail = error.message if status != 500 else None
    return problem(status, error.code, HTTPStatus(status).phrase, detail, headers=headers)


def status_of(error: HeadraceError) -> int:
    """Return the HTTP status of one of our errors."""
    match error:
        case InvalidRequest():
            return 400
        case AuthenticationError(code="FORBIDDEN"):
            return 403
        case AuthenticationError():
            return 401
        case NotFound():
            return 404
        case Conflict():
            return 409
        case UnprocessableContent():
            return 422
        case RateLimitError():
            return 429
        case RetryableError():
            return 503
    return 500


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error as a problem. What is not one of ours is logged with its trace and told as a bare 500."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400 or error.content_type == CONTENT_TYPE:
            raise
        phrase = HTTPStatus(error.status).phrase
        headers = {name: value for name, value in error.headers.items() if name in {"Allow", "Retry-After"}}
        return problem(error.status, phrase.upper().replace(" ", "_"), phrase, headers=headers)
    except HeadraceError as error:
        answer = problem_of(error)
        if answer.status >= 500:
            _log.warning("http.failed", path=_route(request), error_code=error.code, error=error.message)
        return answer
    except Exception:  # noqa: BLE001 - the last stop of a request; the caller learns nothing of it
        _log.exception("http.failed", path=_route(request), error_code="INTERNAL")
        return problem(500, "INTERNAL", HTTPStatus.INTERNAL_SERVER_ERROR.phrase)


def _route(request: web.Request) -> str:
    """Return the route's pattern, never the path itself: that may hold names of files."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unknown"
