"""All routes as one aiohttp application, with what surrounds every request: span, duration, errors as problems."""

from __future__ import annotations

import json
from collections.abc import Sequence
from time import perf_counter
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from opentelemetry.trace import SpanKind

from services.api.callers import CallerVerifier
from services.api.index_page import render
from services.api.openapi import describe
from services.api.route import BODY_LIMIT_BYTES, Route
from shared.errors import InvalidRequest
from shared.runtime.problems import problem, problems
from shared.telemetry.instruments import REQUESTS
from shared.telemetry.metrics import Metrics
from shared.telemetry.tracing import Tracing

_STATE_CODES = frozenset(
    {
        "NOT_RETRYABLE_STATE", "NOT_CANCELLABLE_STATE", "SUPERSEDED",
        "REPLAY_OUTSTANDING", "REPLAYED_TOO_OFTEN", "NOT_REPLAYABLE", "LETTER_ENDED",
    }
)  # fmt: skip
_PAGE_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}


def application(
    routes: Sequence[Route[Any, Any]], callers: CallerVerifier, *, tracing: Tracing, metrics: Metrics
) -> web.Application:
    """Return the application; the health routes are added by whoever runs it."""
    app = web.Application(
        client_max_size=BODY_LIMIT_BYTES, middlewares=[_observed(tracing, metrics), problems, _state_conflicts]
    )
    for route in routes:
        app.router.add_route(route.method, route.path, route.bound_to(callers))
    document = json.dumps(describe(routes)).encode()
    page = render(routes).encode()

    async def openapi(_request: web.Request) -> web.Response:
        return web.Response(body=document, content_type="application/json")

    async def index(_request: web.Request) -> web.Response:
        return web.Response(body=page, content_type="text/html", charset="utf-8", headers=_PAGE_HEADERS)

    app.router.add_get("/openapi.json", openapi)
    app.router.add_get("/", index)
    app.on_response_prepare.append(_no_sniffing)
    return app


def _observed(tracing: Tracing, metrics: Metrics) -> Middleware:
    """Return the middleware that gives each request a span and counts it, by the route's pattern."""

    @web.middleware
    async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        pattern = resource.canonical if resource is not None else "unknown"
        started = perf_counter()
        status = 500
        with tracing.span(
            f"{request.method} {pattern}",
            kind=SpanKind.SERVER,
            parent=request.headers.get("traceparent"),
            attributes={"http.request.method": request.method, "http.route": pattern},
        ) as span:
            try:
                response = await handler(request)
                status = response.status
            except web.HTTPException as answer:  # a redirect, which the problems middleware leaves as it is
                status = answer.status
                raise
            else:
                return response
            finally:
                span.set_attribute("http.response.status_code", status)
                metrics.record(
                    REQUESTS, perf_counter() - started, method=request.method, route=pattern, status=str(status)
                )

    return observe


@web.middleware
async def _state_conflicts(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 409 where the request is right and the job's state is not: the caller may look again and decide."""
    try:
        return await handler(request)
    except InvalidRequest as error:
        if error.code not in _STATE_CODES:
            raise
        return problem(409, error.code, "Conflict", error.message)


async def _no_sniffing(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["X-Content-Type-Options"] = "nosniff"
