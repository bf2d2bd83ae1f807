"""How a scheduler asks for a run: `POST /` or `POST /api/v1/cron/jobs` (GET too, for those that can only GET)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from services.recover.run import RecoverRun
from shared.runtime.problems import problems

Verify = Callable[[web.Request], Awaitable[object]]
"""Returns who calls, or raises."""


def routes(run: RecoverRun, verify: Verify | None = None) -> web.Application:
    """Return the routes; a run that had errors is answered 500 with the same summary, so that the scheduler sees it.

    With `verify`, a run is made only for callers that it lets pass.
    """

    async def run_now(request: web.Request) -> web.Response:
        if verify is not None:
            await verify(request)
        summary = await run(reconcile_now=request.query.get("reconcile") == "1")
        return web.json_response(summary, status=200 if summary["ok"] else 500)

    async def health(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    application = web.Application(middlewares=[problems])
    application.router.add_post("/", run_now)
    application.router.add_post("/api/v1/cron/jobs", run_now)
    application.router.add_get("/api/v1/cron/jobs", run_now)
    application.router.add_get("/health", health)
    return application
