# mypy: disable-error-code="no-untyped-call"
"""The bridge between the Pub/Sub library's threads and our event loop: deliveries run as tasks, acks survive a stop.

The library calls `schedule` and `shutdown` from its own threads; everything else happens on the loop. `shutdown` must
not return before the last ack or nack is said: what is said later goes into a queue that nobody reads any more, and
the broker waits for the ack deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import structlog
from google.cloud.pubsub_v1.subscriber.message import Message as Received
from google.cloud.pubsub_v1.subscriber.scheduler import Scheduler

from shared.model.outcome import Verdict
from shared.ports.broker import Delivery, Handler

_log = structlog.get_logger(__name__)

_STREAM_END_SECONDS = 1.0
_CANCEL_SECONDS = 1.0  # for handlers to clean up once they are cancelled; afterwards their deliveries are nacked anyway


class Slots(Protocol):
    """What bounds several pullers together; an `asyncio.Semaphore` is one."""

    async def acquire(self) -> object:
        """Return when there is room."""
        ...

    def release(self) -> None:
        """Make room."""
        ...


class AsyncioScheduler(Scheduler):
    """Runs at most `concurrency` deliveries at once, each in a task of its own. One per stream; not to be used again.

    The tasks belong to no task group: they outlive the cancellation of the puller by the drain, which bounds them.
    """

    def __init__(
        self, handler: Handler, *, subscription: str, concurrency: int, drain_seconds: float, slots: Slots | None
    ) -> None:
        """Bind to the running loop."""
        self._handler, self._subscription = handler, subscription
        self._concurrency, self._drain_seconds, self._slots = concurrency, drain_seconds, slots
        self._loop = asyncio.get_running_loop()
        self._queue: queue.Queue[Any] = queue.Queue()
        self._waiting: deque[Received] = deque()
        self._tasks: dict[asyncio.Task[None], Received] = {}
        self._unanswered: list[Received] = []
        self._at_work: set[asyncio.Task[None]] = set()
        self._draining = False
        self._drain_task: asyncio.Task[None] | None = None
        self._stream_ended = asyncio.Event()

    @property
    def queue(self) -> queue.Queue[Any]:
        """What the library's dispatcher reads acks and nacks from."""
        return self._queue

    def schedule(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Take a message; called from the library's threads."""
        self._waiting.append(args[0])
        self._loop.call_soon_threadsafe(self._start_tasks)

    def shutdown(self, await_msg_callbacks: bool = False) -> list[Received]:  # noqa: ARG002
        """Wait for the drain and return what was never started; called from a thread of the library, never the loop."""
        if not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result()
        dropped = list(self._waiting)
        self._waiting.clear()
        return dropped

    async def _shut_down(self) -> None:
        self._stream_ended.set()
        await self.drain()

    async def drain(self) -> None:
        """Let those at work finish within the time and end the others; afterwards every delivery has its answer.

        The library and the puller both ask for it, and share one drain: the library may be stuck in its own shutdown.
        """
        if self._drain_task is None:
            self._drain_task = self._loop.create_task(self._drain(), name=f"drain {self._subscription}")
        await asyncio.shield(self._drain_task)

    def start_no_more(self) -> None:
        """Leave what waits where it is, from this moment on; called on the loop, before the stream is told to end."""
        self._draining = True

    def _start_tasks(self) -> None:
        while self._waiting and len(self._tasks) < self._concurrency and not self._draining:
            message = self._waiting.popleft()
            task = self._loop.create_task(self._carry(message), name=f"delivery {self._subscription}")
            self._tasks[task] = message
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        message = self._tasks.pop(task, None)
        self._at_work.discard(task)
        if message is not None and (task.cancelled() or task.exception() is not None):
            if self._draining:
                self._unanswered.append(message)
            else:
                message.nack()
        self._start_tasks()

    async def _carry(self, message: Received) -> None:
        if self._slots is not None:
            await self._slots.acquire()
        try:
            self._at_work.add(asyncio.current_task())  # type: ignore[arg-type]  # we are in a task
            await self._handle(message)
        finally:
            if self._slots is not None:
                self._slots.release()

    async def _handle(self, message: Received) -> None:
        try:
            outcome = await self._handler(_delivery(message, self._subscription))
        except Exception:  # noqa: BLE001 - the consumer should have decided; a mistake in wiring must not lose the answer
            _log.exception("delivery.unhandled", subscription=self._subscription)
            message.nack()
            return
        if self._draining:
            await self._end_of_stream()
        message.ack() if outcome.verdict is Verdict.ACK else message.nack()

    async def _drain(self) -> None:
        self.start_no_more()
        for task in self._tasks.keys() - self._at_work:
            task.cancel()
        late = set(self._tasks)
        if late:
            _, late = await asyncio.wait(late, timeout=self._drain_seconds)
        for task in late:
            task.cancel()
        if late:
            _log.warning("delivery.interrupted", subscription=self._subscription, count=len(late))
            _, late = await asyncio.wait(late, timeout=_CANCEL_SECONDS)
        self._unanswered += [message for task in late if (message := self._tasks.pop(task, None)) is not None]
        if self._unanswered:
            await self._end_of_stream()
        while self._unanswered:
            self._unanswered.pop().nack()

    async def _end_of_stream(self) -> None:
        """Wait, for a moment at most, until the stream takes nothing any more.

        An answer makes room at the broker, and a nacked message comes again. Said while the stream still ends, that
        would bring messages that nobody here takes any more, and that stay leased to us until their deadline.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stream_ended.wait(), _STREAM_END_SECONDS)


def _delivery(message: Received, subscription: str) -> Delivery:
    return Delivery(
        subscription=subscription,
        message_id=message.message_id,
        published_at=message.publish_time,
        data=message.data,
        attributes=dict(message.attributes),
        ordering_key=message.ordering_key or "",
        delivery_attempt=message.delivery_attempt or 0,
    )
