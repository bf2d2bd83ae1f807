"""Starts a service while something it needs is away: live, not ready, and asking again until it is there.

A platform that starts us while the database restarts would otherwise see us exit, start us again with a growing wait,
and give up on the deployment.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

import structlog
from aiohttp import web

from shared.clock import Clock
from shared.errors import ConfigurationError, RetryableError
from shared.runtime.health import Ping, add_health_routes
from shared.runtime.problems import problem
from shared.settings import CommonSettings

_log = structlog.get_logger(__name__)

T = TypeVar("T")

WAITS_SECONDS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0)


async def when_possible(
    attempt: Callable[[], Awaitable[T]], settings: CommonSettings, *, stopping: asyncio.Event, clock: Clock
) -> T | None:
    """Return what the first attempt that succeeds returns, or None if the service is to stop before.

    After each `RetryableError` it waits, 10 s at most, for ever; meanwhile the service's address answers 200 on
    `/livez` and 503, with the code of that error, on `/readyz` and everything else. Other errors come out at once.

    Raises:
        ConfigurationError: the address cannot be listened on, or an attempt says so.
    """
    failed: list[RetryableError] = []

    async def not_open() -> None:
        raise failed[-1]

    async with AsyncExitStack() as room:
        for tried in itertools.count():
            try:
                return await attempt()
            except RetryableError as error:
                failed[:] = [error]
            if not tried:
                await room.enter_async_context(_waiting_room(settings, Ping("start", not_open)))
            wait_seconds = WAITS_SECONDS[min(tried, len(WAITS_SECONDS) - 1)]
            _log.warning(
                "service.waiting", error_code=failed[-1].code, error=failed[-1].message, again_in_seconds=wait_seconds
            )
            await _first(clock.sleep(wait_seconds), stopping.wait())
            if stopping.is_set():
                break
    return None


async def listen(runner: web.AppRunner, host: str, port: int) -> str:
    """Listen, and return the address as `http://host:port`.

    Raises:
        ConfigurationError: somebody else does, or it is no address of this machine.
    """
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another PORT, or 0 for a free one"
        ) from error
    name, number = runner.addresses[0][:2]
    return f"http://[{name}]:{number}" if ":" in name else f"http://{name}:{number}"


@asynccontextmanager
async def _waiting_room(settings: CommonSettings, start: Ping) -> AsyncIterator[None]:
    """Answer on the service's address for as long as it is not there itself."""
    application = web.Application()
    add_health_routes(application, ready=[start], metrics=None)
    application.router.add_route("*", "/{path:.*}", _not_ready)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        _log.info("service.listening", address=await listen(runner, settings.http_host, settings.port))
        yield
    finally:
        await runner.cleanup()


async def _not_ready(_request: web.Request) -> web.Response:
    return problem(503, "NOT_READY", "Not ready", "this service is starting", headers={"Retry-After": "5"})


async def _first(*waits: Awaitable[object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
