"""What a push is answered, and how many are handled at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
from aiohttp.test_utils import TestClient, TestServer

from shared.errors import AuthenticationError, DependencyUnavailable
from shared.model.outcome import BUSY, DONE, UNAVAILABLE, Outcome, Verdict
from shared.ports.broker import Delivery
from shared.runtime.push import PushEndpoint
from shared.telemetry.logs import configure_logs
from shared.worker.gate import Gate
from tests.acceptance.pushing import wrapped
from tests.plugins.clock import ManualClock
from tests.plugins.stack import eventually

SLOTS = 2


@dataclass
class Desk:
    """An endpoint of two lanes whose handler waits while it is told to, and a client of it."""

    outcome: Outcome = DONE
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    began: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    handled: list[Delivery] = field(default_factory=list)
    cancelled: int = 0
    began_count: int = 0
    refusal: Exception | None = None
    database: Exception | None = None
    client: Any = None
    endpoint: Any = None

    async def verify(self, _request: object) -> None:
        """Believe everybody, or nobody."""
        if self.refusal is not None:
            raise self.refusal

    async def probe(self) -> None:
        """Be the database."""
        if self.database is not None:
            raise self.database

    async def handle(self, delivery: Delivery) -> Outcome:
        """Take note, and wait to be let go."""
        self.handled.append(delivery)
        self.began.release()
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.outcome

    async def post(self, lane: str = "work-interactive", body: Any = None) -> int:
        """Push something; return the status."""
        async with self.client.post(f"/push/{lane}", json=wrapped(lane) if body is None else body) as response:
            await response.read()
            return int(response.status)


@asynccontextmanager
async def open_desk(**said: Any) -> AsyncIterator[Desk]:
    """Serve an endpoint."""
    desk = Desk()
    gate = Gate(desk.probe, clock=ManualClock())
    slots = asyncio.Semaphore(SLOTS)
    settings = {"drain_seconds": 0.05, "slot_seconds": 0.05} | said
    desk.endpoint = PushEndpoint(desk.verify, gate=gate, slots=slots, **settings)
    desk.endpoint.add("work-interactive", desk.handle, concurrency=SLOTS)
    desk.endpoint.add("work-bulk", desk.handle, concurrency=SLOTS - 1)
    desk.gate = gate
    async with TestClient(TestServer(desk.endpoint.application())) as desk.client:
        yield desk


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    """Give a desk whose handler does not wait."""
    async with open_desk() as opened:
        opened.let_go.set()
        yield opened


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (DONE, 204),
        (Outcome(Verdict.ACK, "failure_recorded"), 204),
        (Outcome(Verdict.NACK, "raised"), 500),
        (UNAVAILABLE, 503),
        (BUSY, 429),
    ],
)
async def test_the_outcome_is_the_answer(desk: Desk, outcome: Outcome, status: int) -> None:
    """What is acked is settled; what could not be recorded is not."""
    desk.outcome = outcome
    assert await desk.post() == status
    assert [delivery.message_id for delivery in desk.handled] == ["1"]


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (AuthenticationError(), 401),
        (AuthenticationError(code="FORBIDDEN"), 403),
        (DependencyUnavailable(), 503),
    ],
)
async def test_strangers_are_refused_before_anything_is_looked_at(desk: Desk, refusal: Exception, status: int) -> None:
    """Not even which subscriptions there are can be learned without a token."""
    desk.refusal = refusal
    for lane in ("work-interactive", "nothing-here"):
        assert await desk.post(lane, {"no": "push"}) == status
    assert desk.handled == []


async def test_what_is_no_push_is_refused_without_being_recorded(desk: Desk) -> None:
    """A body that is none, a subscription that nobody takes, another subscription's message."""
    assert await desk.post(body={"no": "push"}) == 400
    assert await desk.post("work-bulk", wrapped("work-interactive")) == 400
    assert await desk.post("stages-watch") == 404
    assert desk.handled == []


async def test_a_body_larger_than_any_message_is_not_read_to_its_end() -> None:
    """The size is bounded while reading, whatever the headers say."""
    async with open_desk(max_body_bytes=1000) as desk:
        desk.let_go.set()

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b" " * 100

        async with desk.client.post("/push/work-bulk", data=endless()) as response:
            assert response.status == 413
        assert desk.handled == []


async def test_the_bulk_lane_never_takes_the_last_slot() -> None:
    """Two slots: one bulk delivery is handled, the next is told to come later, an interactive one goes through."""
    async with open_desk() as desk:
        first = asyncio.ensure_future(desk.post("work-bulk"))
        await desk.began.acquire()
        assert await desk.post("work-bulk") == 429
        second = asyncio.ensure_future(desk.post("work-interactive"))
        await desk.began.acquire()
        assert await desk.post("work-interactive") == 429
        desk.let_go.set()
        assert [await first, await second] == [204, 204]
        assert await desk.post("work-bulk") == 204
        assert len(desk.handled) == 3


async def test_a_slot_that_becomes_free_in_time_is_taken() -> None:
    """A refusal slows the whole subscription down, so a push waits a moment first."""
    async with open_desk(slot_seconds=60.0) as desk:
        first = asyncio.ensure_future(desk.post("work-bulk"))
        await desk.began.acquire()
        second = asyncio.ensure_future(desk.post("work-bulk"))
        desk.let_go.set()
        assert [await first, await second] == [204, 204]


async def test_while_the_database_is_away_pushes_are_refused_until_one_has_seen_it_back(desk: Desk) -> None:
    """One push waits and asks, the others are sent off at once; then it is handled, and so are those after it."""
    desk.database = DependencyUnavailable(code="DATABASE_UNAVAILABLE")
    closing = asyncio.ensure_future(desk.gate.reopened(desk.database))

    async def closed() -> bool:
        return not desk.gate.is_open

    async def one_asks() -> bool:
        return bool(desk.endpoint._asking)

    async def seen_back() -> bool:
        desk.gate._clock.advance(10)
        return waiting.done()

    await eventually(closed)
    waiting = asyncio.ensure_future(desk.post())
    await eventually(one_asks)
    assert await desk.post() == 503
    assert desk.handled == []
    desk.database = None
    await eventually(seen_back)
    assert (await waiting, await closing) == (204, True)
    assert await desk.post() == 204


async def test_a_stop_answers_what_is_in_hand_and_refuses_the_rest() -> None:
    """What does not end in time is cancelled and refused, so that Pub/Sub brings it again at once."""
    async with open_desk() as desk:
        pushed = asyncio.ensure_future(desk.post())
        await desk.began.acquire()
        await desk.endpoint.stop()
        assert await desk.post() == 503
        assert await pushed == 503
        assert (desk.cancelled, len(desk.handled)) == (1, 1)


async def test_what_ends_in_time_after_a_stop_is_acked() -> None:
    """A handler has the drain time to finish."""
    async with open_desk(drain_seconds=60.0) as desk:
        pushed = asyncio.ensure_future(desk.post())
        await desk.began.acquire()
        await desk.endpoint.stop()
        desk.let_go.set()
        assert await pushed == 204


async def test_a_push_is_answered_before_pubsub_gives_it_up() -> None:
    """A handler that takes too long is cancelled rather than left behind by its caller."""
    async with open_desk(answer_seconds=0.05) as desk:
        assert await desk.post() == 503
        assert desk.cancelled == 1


async def test_the_last_delivery_in_hand_is_answered_after_the_idle_call() -> None:
    """Two at once: one call, when both are done and before the second is answered."""
    calls: list[int] = []

    async def idle() -> None:
        calls.append(desk.began_count)

    async with open_desk(idle=idle) as desk:
        desk.began_count = 0
        both = [asyncio.ensure_future(desk.post()) for _ in range(2)]
        for _ in both:
            await desk.began.acquire()
            desk.began_count += 1
        assert calls == []
        desk.let_go.set()
        assert await asyncio.gather(*both) == [204, 204]
        assert calls == [2]


async def test_a_body_that_is_not_encoded_as_it_says_is_refused(desk: Desk) -> None:
    """Something else under the name of gzip is the sender's mistake, and no failure of ours."""
    headers = {"Content-Encoding": "gzip"}
    async with desk.client.post("/push/work-bulk", data=b'{"no": "gzip"}', headers=headers) as response:
        assert response.status == 400
        assert (await response.json())["code"] == "MALFORMED_PUSH"
    assert desk.handled == []


async def test_a_payload_without_wrapper_and_metadata_is_told_its_setting(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    """Until it is dead-lettered somebody reads the log: it names the option that is missing."""
    configure_logs("INFO", "json")
    try:
        for body in (b"hello", b'{"lane": "bulk"}', b""):
            async with desk.client.post("/push/work-bulk", data=body) as response:
                assert response.status == 400
            assert "--push-no-wrapper-write-metadata" in capsys.readouterr().err
    finally:
        structlog.reset_defaults()
