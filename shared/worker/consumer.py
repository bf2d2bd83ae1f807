"""Around every handler of deliveries: log context, span, counting, and the answer when the handler raises.

This is the only place besides the handlers' own outcomes that decides between ack and nack, and it only ever decides
nack: an exception means that the end of this delivery could not be recorded, so the broker must bring it again and,
after the bounded number of attempts, hand it to the dead-letter topic. While the database is away, a `Gate` holds
deliveries instead, so that an outage of ours is not counted against them.
"""

from __future__ import annotations

import structlog
from opentelemetry.trace import SpanKind

from shared.clock import Clock, SystemClock
from shared.errors import HeadraceError, NonRetryableError, code_of
from shared.events.envelope import TRACE_PARENT
from shared.model.outcome import UNAVAILABLE, Outcome, Verdict
from shared.ports.broker import Delivery, Handler
from shared.telemetry.instruments import DELIVERIES, DELIVERY_SECONDS, REDELIVERIES
from shared.telemetry.metrics import Metrics
from shared.telemetry.tracing import Tracing
from shared.worker.gate import TRIES, Gate, is_outage

_log = structlog.get_logger(__name__)

RAISED = "raised"


class Consumer:
    """A handler that never raises but for cancellation. Works for pull and push alike; safe to call from many tasks."""

    def __init__(
        self,
        handler: Handler,
        *,
        tracing: Tracing,
        metrics: Metrics,
        gate: Gate | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Wrap one handler. With a gate, a delivery that meets an outage of the database is held, not nacked."""
        self._handler, self._tracing, self._metrics, self._gate = handler, tracing, metrics, gate
        self._clock = clock or SystemClock()

    async def __call__(self, delivery: Delivery) -> Outcome:
        """Return what the handler returned, or a nack named `raised`; the failure is logged here, once.

        Cancellation passes: who cancels (a shutdown) nacks, and an interrupted delivery is no failure.
        """
        started = self._clock.monotonic()
        with structlog.contextvars.bound_contextvars(
            subscription=delivery.subscription,
            message_id=delivery.message_id,
            delivery_attempt=delivery.delivery_attempt,
        ):
            outcome = await self._answer(delivery)
        self._metrics.add(
            DELIVERIES, subscription=delivery.subscription, verdict=outcome.verdict.value, outcome=outcome.name
        )
        if delivery.delivery_attempt > 1:
            self._metrics.add(REDELIVERIES, subscription=delivery.subscription)
        self._metrics.record(DELIVERY_SECONDS, self._clock.monotonic() - started, subscription=delivery.subscription)
        return outcome

    async def _answer(self, delivery: Delivery) -> Outcome:
        try:
            with self._tracing.span(
                f"receive {delivery.subscription}",
                parent=delivery.attributes.get(TRACE_PARENT),
                kind=SpanKind.CONSUMER,
                attributes={
                    "messaging.system": "gcp_pubsub",
                    "messaging.message.id": delivery.message_id,
                    "messaging.gcp_pubsub.message.delivery_attempt": delivery.delivery_attempt,
                },
            ) as span:
                try:
                    outcome = await self._handled(delivery)
                except Exception as error:
                    self._log_failure(error)  # within the span, so that the line carries its ids
                    raise
                span.set_attribute("headrace.outcome", outcome.name)
                return outcome
        except Exception:  # noqa: BLE001 - logged above; whatever it is, the answer to the broker is the same
            return Outcome(Verdict.NACK, RAISED)

    async def _handled(self, delivery: Delivery) -> Outcome:
        gate = self._gate
        if gate is None:
            return await self._handler(delivery)
        for left in reversed(range(TRIES)):
            if not await gate.passed():
                return UNAVAILABLE  # stopping while the database is away: others may take it
            try:
                return await self._handler(delivery)
            except HeadraceError as error:
                if not left or not is_outage(error) or not await gate.reopened(error):
                    raise
        raise AssertionError("the last try returns or raises")

    @staticmethod
    def _log_failure(error: Exception) -> None:
        if isinstance(error, NonRetryableError):
            # The handler should have recorded this end and said ack: bringing the message again changes nothing.
            _log.error("delivery.refused_unrecorded", error_code=code_of(error), error=error.message)
        elif code_of(error) == "INTERNAL":
            _log.error("delivery.failed", error_code="INTERNAL", exc_info=error)
        else:
            _log.warning("delivery.failed", error_code=code_of(error), error=str(error))
