"""The answer to a delivery, and what is written about it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.contextvars import get_contextvars
from structlog.testing import capture_logs

from shared.errors import AuthenticationError, DependencyUnavailable, InvalidRequest, PoolExhausted
from shared.model.outcome import DONE, DUPLICATE, UNAVAILABLE, Outcome, Verdict
from shared.ports.broker import Delivery, Handler
from shared.telemetry.metrics import Metrics
from shared.telemetry.tracing import Tracing
from shared.worker.consumer import Consumer
from shared.worker.gate import Gate
from tests.plugins.clock import ManualClock

DELIVERY = Delivery(
    subscription="work-bulk",
    message_id="m1",
    published_at=None,
    data=b"the salaries",
    attributes={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
    delivery_attempt=3,
)


@dataclass
class Scene:
    """Everything a consumer writes to."""

    spans: InMemorySpanExporter
    tracing: Tracing
    metrics: Metrics

    async def consume(self, handler: Handler) -> Outcome:
        """Hand the delivery to a consumer around this handler."""
        return await Consumer(handler, tracing=self.tracing, metrics=self.metrics)(DELIVERY)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """A fresh one."""
    spans = InMemorySpanExporter()
    async with Tracing("test", processors=[SimpleSpanProcessor(spans)]) as tracing, Metrics("test") as metrics:
        yield Scene(spans, tracing, metrics)


def _raising(error: BaseException) -> Handler:
    async def handler(_delivery: Delivery) -> Outcome:
        raise error

    return handler


@pytest.mark.parametrize("outcome", [DONE, DUPLICATE, UNAVAILABLE], ids=lambda outcome: outcome.name)
async def test_outcome_is_the_answer(scene: Scene, outcome: Outcome) -> None:
    """What the handler says is passed on and counted under its word."""

    async def handler(_delivery: Delivery) -> Outcome:
        return outcome

    with capture_logs() as logs:
        assert await scene.consume(handler) is outcome
    assert logs == []
    labels = f'outcome="{outcome.name}",subscription="work-bulk",verdict="{outcome.verdict}"'
    assert f"headrace_deliveries_total{{{labels}}} 1.0" in scene.metrics.text()
    assert 'headrace_delivery_duration_seconds_count{subscription="work-bulk"} 1.0' in scene.metrics.text()


@pytest.mark.parametrize(
    ("error", "event", "level", "code"),
    [
        (DependencyUnavailable(), "delivery.failed", "warning", "DEPENDENCY_UNAVAILABLE"),
        (PoolExhausted(), "delivery.failed", "warning", "POOL_EXHAUSTED"),
        (InvalidRequest(code="MALFORMED_EVENT"), "delivery.refused_unrecorded", "error", "MALFORMED_EVENT"),
        (AuthenticationError(), "delivery.refused_unrecorded", "error", "AUTHENTICATION_FAILED"),
        (KeyError("?"), "delivery.failed", "error", "INTERNAL"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
async def test_exception_is_a_nack_logged_once(
    scene: Scene, error: Exception, event: str, level: str, code: str
) -> None:
    """Whatever a handler raises means "not recorded": bring it again. It is said once, with its code."""
    with capture_logs() as logs:
        outcome = await scene.consume(_raising(error))
    assert outcome.verdict is Verdict.NACK
    [line] = logs
    assert (line["event"], line["log_level"], line["error_code"]) == (event, level, code)
    assert 'outcome="raised"' in scene.metrics.text()
    [span] = scene.spans.get_finished_spans()
    assert dict(span.attributes or {})["headrace.error_code"] == code


@pytest.mark.parametrize(
    "error",
    [
        DependencyUnavailable(code="DATABASE_UNAVAILABLE"),
        PoolExhausted(),
        AuthenticationError(code="DATABASE_LOGIN_REFUSED"),
    ],
    ids=lambda error: error.code,
)
async def test_an_outage_of_the_database_is_waited_out(scene: Scene, error: Exception) -> None:
    """The delivery is held and handled again; a login that is refused is one too, while a password is being changed."""
    outcomes: list[Exception | None] = [error, None]

    async def handler(_delivery: Delivery) -> Outcome:
        if (failure := outcomes.pop(0)) is not None:
            raise failure
        return DONE

    async def answers() -> None:
        return None

    gate = Gate(answers, clock=ManualClock())
    assert await Consumer(handler, tracing=scene.tracing, metrics=scene.metrics, gate=gate)(DELIVERY) is DONE


async def test_cancellation_passes(scene: Scene) -> None:
    """An interrupted delivery is no failure: it is neither counted nor logged here."""
    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await scene.consume(_raising(asyncio.CancelledError()))
    assert logs == []
    assert "headrace_deliveries_total" not in scene.metrics.text()


async def test_context_is_bound_for_the_handler_only(scene: Scene) -> None:
    """Lines written by the handler carry the delivery's identity; nothing stays bound afterwards."""
    bound: dict[str, object] = {}

    async def handler(_delivery: Delivery) -> Outcome:
        bound.update(get_contextvars())
        return DONE

    await scene.consume(handler)
    assert bound == {"subscription": "work-bulk", "message_id": "m1", "delivery_attempt": 3}
    assert get_contextvars() == {}


async def test_span_goes_on_from_the_sender(scene: Scene) -> None:
    """The handler runs in the trace that the message carries, and the payload stays out of it."""
    seen: list[str | None] = []

    async def handler(_delivery: Delivery) -> Outcome:
        seen.append(scene.tracing.traceparent())
        return DONE

    await scene.consume(handler)
    [span] = scene.spans.get_finished_spans()
    assert seen[0] is not None
    assert seen[0].startswith("00-0af7651916cd43dd8448eb211c80319c-")
    assert dict(span.attributes or {})["headrace.outcome"] == "done"
    assert "salaries" not in span.to_json()


class Flaky:
    """A handler that fails so often with the database away, then works."""

    def __init__(self, failures: int, code: str = "DATABASE_UNAVAILABLE") -> None:
        self.failures, self.code, self.calls = failures, code, 0

    async def __call__(self, _delivery: Delivery) -> Outcome:
        self.calls += 1
        if self.calls <= self.failures:
            raise DependencyUnavailable(code=self.code)
        return DONE


async def _answers() -> None:
    return None


@pytest.mark.parametrize(("failures", "calls"), [(1, 2), (3, 4), (9, 4)])
async def test_a_delivery_is_held_through_an_outage(scene: Scene, failures: int, calls: int) -> None:
    """With a gate it is handled again once the database answers, without a nack; not for ever."""
    handler = Flaky(failures)
    clock = ManualClock()
    gate = Gate(_answers, clock=clock)
    consuming = asyncio.ensure_future(
        Consumer(handler, tracing=scene.tracing, metrics=scene.metrics, gate=gate)(DELIVERY)
    )
    while not consuming.done():
        await asyncio.sleep(0)
        clock.advance(1)
    assert (await consuming).verdict is (Verdict.ACK if failures < calls else Verdict.NACK)
    assert handler.calls == calls


async def test_only_an_outage_of_the_database_is_held(scene: Scene) -> None:
    """Another dependency's failure is nacked at once: the broker waits for it better than we do."""
    handler = Flaky(1, "DEPENDENCY_UNAVAILABLE")
    gate = Gate(_answers, clock=ManualClock())
    outcome = await Consumer(handler, tracing=scene.tracing, metrics=scene.metrics, gate=gate)(DELIVERY)
    assert (outcome.verdict, handler.calls) == (Verdict.NACK, 1)


async def test_what_is_held_is_given_back_at_a_stop(scene: Scene) -> None:
    """A service that stops while the database is away nacks what it holds, without handling it again."""
    asked = asyncio.Event()

    async def away() -> None:
        asked.set()
        raise PoolExhausted

    handler, gate = Flaky(9), Gate(away, clock=ManualClock())
    consuming = asyncio.ensure_future(
        Consumer(handler, tracing=scene.tracing, metrics=scene.metrics, gate=gate)(DELIVERY)
    )
    await asked.wait()
    await gate.stop()
    async with asyncio.timeout(5):
        assert (await consuming).verdict is Verdict.NACK
    assert handler.calls == 1
