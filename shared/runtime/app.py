"""Runs a service: its HTTP routes and its loops, from the first to the last breath.

The same `running` serves production, the laptop's single process and component tests. `run` adds what only a process
of its own has: settings from the environment, logs, signals, an exit code.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

import structlog
from aiohttp import web

from shared import collector
from shared.clock import SystemClock
from shared.errors import ConfigurationError, HeadraceError, code_of
from shared.runtime.health import Ping, add_health_routes
from shared.runtime.opening import listen, when_possible
from shared.settings import CommonSettings, load, misspelt
from shared.telemetry.export import export_of, resource_of
from shared.telemetry.logs import configure_logs, secret_values
from shared.telemetry.metrics import Metrics
from shared.telemetry.tracing import Tracing

_log = structlog.get_logger(__name__)

S = TypeVar("S", bound=CommonSettings)

DRAIN_SECONDS = 8.0
"""Cloud Run kills 10 s after SIGTERM; the rest is for closing and flushing."""

GRACE_SECONDS = 9.7
"""After so long the process ends whatever still hangs: an exit code of ours says more than a SIGKILL."""

EXIT_FAILED = 1
EXIT_CONFIGURATION = 2


@dataclass(kw_only=True)
class Service:
    """What `build` hands back: opened, wired, and not yet running. What it opened is closed by the exit stack."""

    name: str
    application: web.Application | None = None
    """Its routes; the health routes are added to them."""
    loops: Sequence[Callable[[], Awaitable[None]]] = field(default=())
    """Run until `on_stop` makes them return, or until they are cancelled. One that raises ends the service."""
    on_stop: Sequence[Callable[[], Awaitable[None]]] = field(default=())
    """Called first at a stop, in order: "take nothing more". Must return at once."""
    ready: Sequence[Ping] = field(default=())
    metrics: Metrics | None = None


Build = Callable[[S, AsyncExitStack], Awaitable[Service]]


@asynccontextmanager
async def telemetry(name: str, settings: CommonSettings) -> AsyncIterator[tuple[Tracing, Metrics]]:
    """Open tracing and metrics of one service, as its settings say; for the first line of each `build`."""
    # In a thread: default credentials may ask the platform's metadata server.
    export = await asyncio.to_thread(export_of, settings)
    resource = resource_of(name, settings)
    tracing = Tracing(name, exporter=export.spans(), resource=resource, sample_ratio=settings.trace_sample_ratio)
    metrics = Metrics(name, exporter=export.metrics(), resource=resource)
    try:
        yield tracing, metrics
    finally:
        # Side by side: a collector that is away costs its time-out once, out of the two seconds left after the drain.
        await asyncio.gather(tracing.close(), metrics.close())


@asynccontextmanager
async def running(
    service: Service, settings: CommonSettings, *, drain_seconds: float = DRAIN_SECONDS
) -> AsyncIterator[str]:
    """Serve and loop for as long as the block lasts; yields the address, `http://host:port`.

    Leaving stops listening, calls `on_stop`, and gives requests and loops together `drain_seconds` before they are
    cancelled. A loop that raises cancels the block and comes out of it in an `ExceptionGroup`.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    application = service.application if service.application is not None else web.Application()
    add_health_routes(application, ready=service.ready, metrics=service.metrics)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=drain_seconds)
    await runner.setup()
    try:
        address = await listen(runner, settings.http_host, settings.port)
        _log.info("service.started", service=service.name, address=address)
        async with asyncio.TaskGroup() as group:
            loops = [group.create_task(_turn(loop), name=f"{service.name} loop") for loop in service.loops]
            try:
                yield address
            finally:
                await _drain(service, runner, loops, drain_seconds)
    finally:
        if runner.server is not None:  # not drained, because it never listened
            await runner.cleanup()
        _log.info("service.stopped", service=service.name)


def run(build: Build[S], kind: type[S]) -> NoReturn:
    """Be the process of one service, and exit: 0 after a signal, 1 when it failed, 2 when the settings are wrong.

    What is away while it starts (the database) is waited for; meanwhile it is live and not ready.
    """
    try:
        settings = load(kind)
    except ConfigurationError as error:
        sys.stderr.write(f"{error.message}\n")
        sys.exit(EXIT_CONFIGURATION)
    configure_logs(
        settings.log_level,
        settings.log_format,
        project_id=settings.google_cloud_project_id,
        secrets=secret_values(settings),
    )
    for name, meant in misspelt(kind).items():
        _log.warning("settings.misspelt", variable=name, meant=meant)
    code = asyncio.run(_main(build, settings))
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads that wait for a network read would keep the interpreter from ending; nothing of ours is open any more.
    os._exit(code)


async def _main(build: Build[S], settings: S) -> int:
    stop = asyncio.Event()
    _on_signals(stop)
    try:
        async with AsyncExitStack() as stack:

            async def opened() -> Service:
                try:
                    async with AsyncExitStack() as attempt:
                        service = await build(settings, attempt)
                        await stack.enter_async_context(attempt.pop_all())
                finally:
                    collector.resume()  # also where it failed: what is waited for may be away for hours
                return service

            service = await when_possible(opened, settings, stopping=stop, clock=SystemClock())
            if service is not None:
                async with running(service, settings):
                    await stop.wait()
    except ConfigurationError as error:
        _log.error("service.misconfigured", error=error.message)
        return EXIT_CONFIGURATION
    except HeadraceError as error:  # what `build` could not open
        _log.error("service.failed", error_code=error.code, error=error.message)
        return EXIT_FAILED
    except Exception as error:  # noqa: BLE001 - the end of the process: said once, and turned into its exit code
        _log.error("service.failed", error_codes=sorted(_codes(error)), exc_info=error)
        return EXIT_FAILED
    finally:
        _end_within(GRACE_SECONDS)
    return 0


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def handle(number: signal.Signals) -> None:
        if stop.is_set():
            os._exit(128 + number)
        _log.info("service.stopping", signal=number.name)
        stop.set()
        _end_within(GRACE_SECONDS)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, handle, number)


def _end_within(seconds: float) -> None:
    # A thread, because a loop that is blocked is among the reasons why a stop does not end.
    last = threading.Timer(seconds, os._exit, (EXIT_FAILED,))
    last.daemon = True
    last.start()


def _codes(error: BaseException) -> set[str]:
    if isinstance(error, BaseExceptionGroup):
        return {code for inner in error.exceptions for code in _codes(inner)}
    return {code_of(error)}


async def _turn(loop: Callable[[], Awaitable[None]]) -> None:
    await loop()


async def _drain(
    service: Service, runner: web.AppRunner, loops: Sequence[asyncio.Task[None]], drain_seconds: float
) -> None:
    for site in list(runner.sites):
        await site.stop()
    for stop in service.on_stop:
        await stop()
    # Requests in flight have the same time as the loops: cleaning up the runner waits for them, and is bounded.
    cleanup = asyncio.ensure_future(runner.cleanup())
    _, late = await asyncio.wait((cleanup, *loops), timeout=drain_seconds)
    for task in late - {cleanup}:
        task.cancel()
    await cleanup
