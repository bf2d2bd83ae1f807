"""Push: messages of a subscription as HTTP requests, no faster than the other side takes them."""

import asyncio
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from shared.clock import Clock
from shared.local.pubsub.broker import Broker
from shared.local.pubsub.lease import Consumer, Lease
from shared.local.pubsub.limits import MAX_MESSAGES
from shared.local.pubsub.push_request import request_of
from shared.local.pubsub.subscription import Subscription
from shared.local.pubsub.tokens import TokenIssuer

ACKNOWLEDGING = frozenset({102, 200, 201, 202, 204})
"""Statuses that settle a message; every other one, 203 and redirections among them, is a nack."""

SHORTEST_BACKOFF_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 60.0
FIRST_WINDOW = 8
LARGEST_WINDOW = 1000
"""Requests that are open at once; a subscription begins with the first and earns its way to the largest."""

_MAX_HEAD_BYTES = 64 * 1024
_CONTINUE = 100


class PushService:
    """Pushes for every subscription that wants it; `changed` says that there may be another one."""

    def __init__(self, broker: Broker, clock: Clock, tokens: TokenIssuer, changed: asyncio.Event) -> None:
        self._broker = broker
        self._clock = clock
        self._tokens = tokens
        self._changed = changed

    async def run(self) -> None:
        """Push until cancelled. What is in hand then stays leased until its deadline."""
        pushers: dict[Subscription, _Pusher] = {}
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._changed.clear()
                pushers = {subscription: pusher for subscription, pusher in pushers.items() if not pusher.ended}
                for subscription in self._broker.pushing():
                    if subscription not in pushers:
                        pusher = pushers[subscription] = _Pusher(subscription, self._clock, self._tokens, tasks)
                        tasks.create_task(pusher.run())
                await self._changed.wait()


class _Pusher:
    """Pushes for one subscription, until that is deleted or delivers in another way.

    The back-off is of the subscription, not of the message: one that is refused holds up all others, as in the
    service.
    """

    def __init__(self, subscription: Subscription, clock: Clock, tokens: TokenIssuer, tasks: asyncio.TaskGroup) -> None:
        self._subscription = subscription
        self._config = subscription.config.push_config
        self._clock = clock
        self._tokens = tokens
        self._tasks = tasks
        self._backoff_seconds = 0.0
        self._changed = asyncio.Event()
        self._consumer = Consumer(
            wake=self._changed.set,
            ack_deadline_seconds=subscription.ack_deadline_seconds,
            max_messages=FIRST_WINDOW,
        )
        self._consumer.one_of_a_key = True
        subscription.attach(self._consumer)

    @property
    def ended(self) -> bool:
        return self._consumer.closed_by is not None

    async def run(self) -> None:
        try:
            while not self.ended:
                await self._changed.wait()
                self._changed.clear()
                for lease in self._consumer.take(MAX_MESSAGES, 1 << 62):
                    self._tasks.create_task(self._deliver(lease))
        finally:
            self._subscription.detach(self._consumer)

    async def _deliver(self, lease: Lease) -> None:
        if await self._status(lease) in ACKNOWLEDGING:
            self._hurry()
            self._subscription.acknowledge([lease.ack_id])
        else:
            self._slow_down()  # first, or the nack would be followed by the next delivery at once
            self._subscription.modify_ack_deadline([lease.ack_id], 0)

    async def _status(self, lease: Lease) -> int:
        """Return the answer's status; zero if there was none before the message's ack deadline."""
        url, headers, body = request_of(self._subscription, self._config, lease, self._tokens)
        left_seconds = lease.deadline_seconds - self._clock.monotonic()
        request = asyncio.create_task(_post(url, headers, body))
        deadline = asyncio.create_task(self._clock.sleep(left_seconds))
        both: set[asyncio.Task[int] | asyncio.Task[None]] = {request, deadline}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            return request.result() if request.done() else 0
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            return 0  # nobody there, or nobody who speaks HTTP: both are what retries are for
        finally:
            for task in both:
                task.cancel()
            await asyncio.wait(both)

    def _hurry(self) -> None:
        self._consumer.max_messages = min(LARGEST_WINDOW, self._consumer.max_messages + 1)
        self._backoff_seconds /= 2
        if self._backoff_seconds < SHORTEST_BACKOFF_SECONDS:
            self._backoff_seconds = 0.0

    def _slow_down(self) -> None:
        self._consumer.max_messages = max(1, self._consumer.max_messages // 2)
        if not self._consumer.paused:  # several that fail together are one reason to wait
            self._consumer.paused = True
            self._backoff_seconds = min(
                LONGEST_BACKOFF_SECONDS, max(SHORTEST_BACKOFF_SECONDS, self._backoff_seconds * 2)
            )
            self._tasks.create_task(self._resume(self._clock.monotonic() + self._backoff_seconds))

    async def _resume(self, due_seconds: float) -> None:
        await self._clock.sleep(due_seconds - self._clock.monotonic())
        self._consumer.paused = False
        self._subscription.dispatch()


async def _post(url: str, headers: Mapping[str, str], body: bytes) -> int:
    """Send one request on a connection of its own and return the status of the answer, whose body nobody reads.

    By hand, because 102 is an answer here, which HTTP clients take for an announcement of one and wait on.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    reader, writer = await asyncio.open_connection(
        parts.hostname,
        parts.port or (443 if secure else 80),
        ssl=ssl.create_default_context() if secure else None,
        limit=_MAX_HEAD_BYTES,
    )
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        host = parts.netloc.rpartition("@")[2]
        lines = [f"POST {target} HTTP/1.1", f"Host: {host}", "Connection: close", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()
        while (status := int((await reader.readuntil(b"\r\n")).split()[1])) == _CONTINUE:
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass
    except IndexError:
        raise ValueError("the answer is no HTTP") from None
    else:
        return status
    finally:
        writer.close()
