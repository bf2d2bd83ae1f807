# mypy: disable-error-code="no-untyped-call"
"""Takes deliveries from one subscription by streaming pull and answers them, until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any

import structlog
from google.cloud.pubsub_v1 import SubscriberClient
from google.cloud.pubsub_v1.subscriber.futures import StreamingPullFuture
from google.cloud.pubsub_v1.types import FlowControl

from shared.clock import Clock, SystemClock
from shared.errors import HeadraceError
from shared.ports.broker import Handler
from shared.pubsub.errors import ours, translated
from shared.pubsub.scheduler import AsyncioScheduler, Slots
from shared.pubsub.subscriber import open_subscriber
from shared.pubsub.topics import subscription_path
from shared.telemetry.instruments import STREAM_RESTARTS
from shared.telemetry.metrics import Metrics

_log = structlog.get_logger(__name__)

_BACKOFF_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
_THREADS_SECONDS = 0.5
_LEFT_BEHIND_SECONDS = 120.0
_HEALTHY_SECONDS = 60.0  # a stream that lasted so long starts the backoff anew


class Puller:
    """Pulls one logical subscription. Each stream has a client of its own: a failing one blocks its whole channel.

    At most `concurrency` deliveries are handled at once, and no more than `prefetch` wait in this process: waiting ones
    come back with an attempt burned when we stop. `slots` bounds several pullers together.
    """

    def __init__(
        self,
        subscription: str,
        handler: Handler,
        *,
        project_id: str,
        metrics: Metrics,
        concurrency: int,
        emulator_host: str | None = None,
        prefetch: int = 0,
        drain_seconds: float = 7.0,
        slots: Slots | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Take `emulator_host` (host:port) to talk to a stand-in without credentials. Nothing is opened yet.

        Of the 10 s that Cloud Run leaves, `drain_seconds` are for handlers to finish; the next second is for those
        that are cancelled to hand their work back, and the rest for closing and flushing.
        """
        self._subscription, self._handler = subscription, handler
        self._path = subscription_path(project_id, subscription)
        self._metrics, self._emulator_host = metrics, emulator_host
        self._concurrency, self._prefetch = concurrency, prefetch
        self._drain_seconds, self._slots = drain_seconds, slots
        self._clock = clock or SystemClock()
        self._stopping = asyncio.Event()
        self._scheduler: AsyncioScheduler | None = None

    async def stop(self) -> None:
        """Ask `run` to stop taking, drain and return. Returns at once; may be called again, and before `run`."""
        self._stopping.set()
        if self._scheduler is not None:
            self._scheduler.start_no_more()

    async def run(self) -> None:
        """Pull until `stop` or cancellation; then those being handled have `drain_seconds` to finish.

        Handlers that need longer are cancelled and nacked, waiting deliveries are nacked at once. A stream that ends
        by itself (subscription missing, access refused) is opened again with a growing wait, for ever: the rest of the
        process is of use meanwhile. What is wrong is logged (`pull.ended`) and counted (`headrace.pull.restarts`). Not
        told by readiness: that would take a process out of use that has work in hand.
        """
        failures = 0
        while not self._stopping.is_set():
            started = self._clock.monotonic()
            error = await self._stream()
            if error is None:
                return
            if self._clock.monotonic() - started > _HEALTHY_SECONDS:
                failures = 0
            wait_seconds = _BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)]
            failures += 1
            self._metrics.add(STREAM_RESTARTS, subscription=self._subscription, code=error.code)
            _log.warning(
                "pull.ended",
                subscription=self._subscription,
                error_code=error.code,
                error=error.message,
                again_in_seconds=wait_seconds,
            )
            await self._stopped_within(wait_seconds)

    async def _stream(self) -> HeadraceError | None:
        """Pull on one stream; return why it ended by itself, or None if it was stopped."""
        loop = asyncio.get_running_loop()
        try:
            with translated(self._path):
                client = await asyncio.to_thread(open_subscriber, self._emulator_host)
        except HeadraceError as error:
            return error
        scheduler = self._scheduler = AsyncioScheduler(
            self._handler,
            subscription=self._subscription,
            concurrency=self._concurrency,
            drain_seconds=self._drain_seconds,
            slots=self._slots,
        )
        future = client.subscribe(
            self._path,
            callback=_never_called,
            flow_control=FlowControl(max_messages=self._concurrency + self._prefetch),
            scheduler=scheduler,  # type: ignore[arg-type]  # any Scheduler will do; the annotation is narrower
            await_callbacks_on_shutdown=True,
        )
        ended = asyncio.Event()
        future.add_done_callback(lambda _: _tell(loop, ended))
        try:
            await _first(ended, self._stopping)
        finally:
            scheduler.start_no_more()
            future.cancel()
            self._scheduler = None
            await _certainly(self._end(client, future, scheduler, ended))
        return self._reason(future)

    async def _end(
        self, client: SubscriberClient, future: StreamingPullFuture, scheduler: AsyncioScheduler, ended: asyncio.Event
    ) -> None:
        """Drain, then let the library's threads send the last acks and end; those that cannot are left behind.

        While the broker cannot be reached they repeat an ack for a minute, or sit out a throttle holding a lock.
        """
        await scheduler.drain()
        if await _within(_THREADS_SECONDS, ended):
            await asyncio.to_thread(client.close)
        else:
            _log.warning("pull.abandoned", subscription=self._subscription)
            threading.Thread(target=_close_behind, args=(client, future), name="pull close", daemon=True).start()

    def _reason(self, future: StreamingPullFuture) -> HeadraceError | None:
        if self._stopping.is_set():
            return None
        error = future.exception(timeout=0) if future.done() else None
        return ours(error or ConnectionError("closed"), self._path)

    async def _stopped_within(self, seconds: float) -> None:
        sleep = asyncio.ensure_future(self._clock.sleep(seconds))
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((sleep, stop), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            stop.cancel()


def _never_called(_message: object) -> None:
    """The library wants a callback; the scheduler runs the handler instead."""


async def _first(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def _within(seconds: float, event: asyncio.Event) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True


async def _certainly(work: Coroutine[Any, Any, object]) -> None:
    """Wait for bounded work even if we are cancelled (again) meanwhile, and then pass the cancellation on."""
    cancelled: asyncio.CancelledError | None = None
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


def _tell(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    """Set an event from a thread; threads that were left behind may find the loop gone."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(event.set)


def _close_behind(client: SubscriberClient, future: StreamingPullFuture) -> None:
    """Close a client once its threads have ended: on a closed channel they would end with stack traces instead."""
    with contextlib.suppress(Exception):  # how the stream ended was reported when it did
        future.result(timeout=_LEFT_BEHIND_SECONDS)
    client.close()
