"""Takes deliveries as HTTP requests of Pub/Sub and answers them, with the same handlers that are pulled for elsewhere.

What a status means to Pub/Sub is settled (2xx) or not; the others differ for people. An answer other than 2xx slows the
whole subscription down and burns a delivery attempt of its message, so a request waits a moment for a free slot, and
what meets an outage of the database is held as long as its time allows.

    204  handled, or its end is recorded
    401  no valid token     403  somebody else's token     404  nothing is pushed here under that name
    400  no push at all: nothing is recorded, because Pub/Sub, which has the whole message, does it better
    413  larger than any message                           429  all slots are taken
    500  the handler could not even record it              503  the database is away, we are stopping, or time is over
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from shared.errors import InvalidRequest, NotFound, RateLimitError, RetryableError
from shared.model.outcome import BUSY, UNAVAILABLE, Verdict
from shared.ports.broker import Handler
from shared.pubsub.push import MAX_BODY_BYTES, read
from shared.runtime.problems import problem, problem_of, problems
from shared.worker.gate import Gate

_log = structlog.get_logger(__name__)

ANSWER_SECONDS = 590.0
"""A push is given up by Pub/Sub after the subscription's ack deadline, of 600 s at most."""

SLOT_SECONDS = 5.0
GATE_SECONDS = 30.0  # longer than the gate's longest wait and question together, or it would never be asked


async def _nothing() -> None:
    return None


Verify = Callable[[web.Request], Awaitable[object]]
"""Returns who calls, or raises."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Route:
    subscription: str
    handler: Handler
    room: asyncio.Semaphore


class PushEndpoint:
    """`POST /push/{subscription}` for the subscriptions that were added.

    At most `concurrency` deliveries of each are handled at once, and no more than `slots` of all together.
    """

    def __init__(
        self,
        verify: Verify,
        *,
        gate: Gate,
        drain_seconds: float,
        slots: asyncio.Semaphore | None = None,
        answer_seconds: float = ANSWER_SECONDS,
        slot_seconds: float = SLOT_SECONDS,
        max_body_bytes: int = MAX_BODY_BYTES,
        idle: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        """Believe callers that `verify` lets pass. After `stop`, what is in hand has `drain_seconds` to finish.

        `idle` is called before the last delivery in hand is answered: after that answer the processor may stand still.
        """
        self._idle, self._in_hand = idle, 0
        self._verify, self._gate, self._slots = verify, gate, slots
        self._drain_seconds, self._answer_seconds, self._slot_seconds = drain_seconds, answer_seconds, slot_seconds
        self._max_body_bytes = max_body_bytes
        self._routes: dict[str, _Route] = {}
        self._at_work: set[asyncio.Timeout] = set()
        self._stopping = False
        self._asking = False

    def add(self, subscription: str, handler: Handler, *, concurrency: int) -> None:
        """Take the deliveries of one more logical subscription."""
        self._routes[subscription] = _Route(
            subscription=subscription, handler=handler, room=asyncio.Semaphore(concurrency)
        )

    def add_to(self, application: web.Application) -> None:
        """Add the route to an application."""
        application.router.add_post("/push/{subscription}", self._answer)

    def application(self) -> web.Application:
        """Return an application with nothing but the route."""
        application = web.Application(middlewares=[problems])
        self.add_to(application)
        return application

    async def stop(self) -> None:
        """Refuse what comes from now on, and see that what is in hand is answered in time. Returns at once."""
        self._stopping = True
        end = asyncio.get_running_loop().time() + self._drain_seconds
        for limit in self._at_work:
            when = limit.when()
            if when is not None and when > end and not limit.expired():
                limit.reschedule(end)

    async def _answer(self, request: web.Request) -> web.Response:
        await self._verify(request)  # first of all: nothing is read from strangers, and nothing told to them
        route = self._routes.get(request.match_info["subscription"])
        if route is None:
            raise NotFound("no subscription of this name is pushed here.")
        self._in_hand += 1
        try:
            return await self._answer_in_time(request, route)
        finally:
            self._in_hand -= 1
            if not self._in_hand and not self._stopping:
                await self._idle()

    async def _answer_in_time(self, request: web.Request, route: _Route) -> web.Response:
        if not await self._may_begin():
            return _unavailable()
        try:
            async with asyncio.timeout(self._answer_seconds) as limit:
                self._at_work.add(limit)
                try:
                    async with self._slot(route):
                        return await self._handle(request, route)
                finally:
                    self._at_work.discard(limit)
        except TimeoutError:
            if not limit.expired():
                raise
            _log.warning("push.interrupted", subscription=route.subscription, stopping=self._stopping)
            return _unavailable()

    async def _handle(self, request: web.Request, route: _Route) -> web.Response:
        try:
            delivery = read(route.subscription, request.headers, await self._body(request))
        except InvalidRequest as error:
            # Not ours to record: without the message's identity, each of its deliveries would be another letter.
            _log.error("push.malformed", subscription=route.subscription, error=error.message)
            return problem_of(error)
        outcome = await route.handler(delivery)
        if outcome == BUSY:
            raise _busy(route)
        if outcome.verdict is Verdict.ACK:
            return web.Response(status=204)
        return _unavailable() if outcome == UNAVAILABLE else problem(500, "INTERNAL", "Internal Server Error")

    async def _body(self, request: web.Request) -> bytes:
        body = bytearray()
        try:
            async for part in request.content.iter_any():
                body += part
                if len(body) > self._max_body_bytes:
                    raise web.HTTPRequestEntityTooLarge(self._max_body_bytes, len(body))
        except (BadHttpMessage, web.RequestPayloadError):
            raise InvalidRequest(
                "its body is not in the encoding that its headers say.", code="MALFORMED_PUSH"
            ) from None
        return bytes(body)

    async def _may_begin(self) -> bool:
        """Say whether the database is there. While it is away one request waits and asks, the others are sent off."""
        if self._stopping:
            return False
        if self._gate.is_open:
            return True
        if self._asking:
            return False
        self._asking = True
        try:
            async with asyncio.timeout(GATE_SECONDS):
                return await self._gate.passed() and not self._stopping
        except TimeoutError:
            return False
        finally:
            self._asking = False

    @asynccontextmanager
    async def _slot(self, route: _Route) -> AsyncIterator[None]:
        """Hold a place of the subscription and one of all.

        Raises:
            RateLimitError: none became free in time.
        """
        taken: list[asyncio.Semaphore] = []
        try:
            try:
                async with asyncio.timeout(self._slot_seconds) as patience:
                    for places in (route.room, self._slots):
                        if places is not None:
                            await places.acquire()
                            taken.append(places)
            except TimeoutError:
                if not patience.expired():
                    raise
                raise _busy(route) from None
            if self._stopping:
                raise RetryableError("this instance is stopping.")
            yield
        finally:
            for places in reversed(taken):
                places.release()


@dataclass(frozen=True, kw_only=True)
class Deliveries:
    """How a service takes its deliveries: the parts of it that `shared.runtime.app.Service` runs."""

    loops: Sequence[Callable[[], Awaitable[None]]] = ()
    on_stop: Sequence[Callable[[], Awaitable[None]]] = ()
    endpoint: PushEndpoint | None = None
    """Only where deliveries are pushed."""

    @property
    def application(self) -> web.Application | None:
        """An application with the route of pushes; None where there is none."""
        return None if self.endpoint is None else self.endpoint.application()

    def add_to(self, application: web.Application | None) -> None:
        """Add the route of pushes to an application that has others."""
        if self.endpoint is not None and application is not None:
            self.endpoint.add_to(application)


def _busy(route: _Route) -> RateLimitError:
    _log.info("push.busy", subscription=route.subscription)
    return RateLimitError("all slots are taken.", code="BUSY")


def _unavailable() -> web.Response:
    return problem(503, "SERVICE_UNAVAILABLE", "Service Unavailable", headers={"Retry-After": "10"})
