"""`/livez`, `/readyz` and `/metrics`, the same on every service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
from aiohttp import web

from shared.errors import code_of
from shared.runtime.problems import problem
from shared.telemetry.metrics import TEXT_CONTENT_TYPE, Metrics

_log = structlog.get_logger(__name__)

PING_TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Ping:
    """A thing the service cannot work without, and how to see that it is there: returns, or raises."""

    name: str
    check: Callable[[], Awaitable[object]]


def add_health_routes(application: web.Application, *, ready: Sequence[Ping], metrics: Metrics | None) -> None:
    """Add the routes. They carry no authentication: on Cloud Run, IAM stands in front of the private services.

    `/livez` says that the loop turns, and nothing else: a database that is away is no reason to restart us.
    `/readyz` runs all pings at once, 2 s at most, and names those that failed, by code, without details.
    """

    async def livez(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_request: web.Request) -> web.Response:
        codes = await asyncio.gather(*(_code(ping) for ping in ready))
        failed = {ping.name: code for ping, code in zip(ready, codes, strict=True) if code is not None}
        if failed:
            return problem(503, "NOT_READY", "Not ready", f"no answer from: {', '.join(failed)}", failed=failed)
        return web.json_response({"status": "ok", "checked": [ping.name for ping in ready]})

    async def show_metrics(_request: web.Request) -> web.Response:
        text = await asyncio.to_thread(metrics.text) if metrics is not None else ""
        return web.Response(body=text.encode(), headers={"Content-Type": TEXT_CONTENT_TYPE})

    application.router.add_get("/livez", livez)
    application.router.add_get("/readyz", readyz)
    application.router.add_get("/metrics", show_metrics)


async def _code(ping: Ping) -> str | None:
    try:
        async with asyncio.timeout(PING_TIMEOUT_SECONDS):
            await ping.check()
    except TimeoutError:
        return "TIMEOUT"
    except Exception as error:  # noqa: BLE001 - whatever a ping raises, its meaning is "not ready"
        _log.warning("ready.failed", ping=ping.name, error_code=code_of(error), error=str(error))
        return code_of(error)
    return None
