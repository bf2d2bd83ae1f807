"""One notification: look, decide, record, ring. A malformed one is kept as a dead letter with its reason, once."""

from __future__ import annotations

import structlog

from services.ingest.notification import Notification
from shared.errors import InvalidRequest
from shared.model.decision import Nothing
from shared.model.outcome import DONE, DUPLICATE, REFUSED, Outcome
from shared.ports.broker import Delivery
from shared.ports.dead_letters import DeadLetterStore
from shared.ports.stores import Failure
from shared.telemetry.instruments import DEAD_LETTERS
from shared.telemetry.metrics import Metrics
from shared.worker.relay import Relay
from shared.worker.sync import Synchroniser

_log = structlog.get_logger(__name__)


class IngestNotification:
    """Bring the object that a notification hints at in step with the bucket."""

    def __init__(
        self,
        *,
        bucket: str,
        synchroniser: Synchroniser,
        dead_letters: DeadLetterStore,
        relay: Relay,
        metrics: Metrics,
    ) -> None:
        """Take the ports, and the only bucket whose notifications are believed."""
        self._bucket, self._metrics = bucket, metrics
        self._synchroniser, self._dead_letters, self._relay = synchroniser, dead_letters, relay

    async def __call__(self, delivery: Delivery) -> Outcome:
        """Return once everything that follows from the hint is committed and, if the broker answers, announced."""
        try:
            hint = Notification.read(delivery.attributes, bucket=self._bucket)
        except InvalidRequest as error:
            return await self._refuse(delivery, error)
        decision, committed = await self._synchroniser.bring_in_step(hint.ref)
        if isinstance(decision, Nothing):
            return DUPLICATE
        if committed.job_id is not None:
            await self._relay.flush(committed.job_id)
        return DONE

    async def _refuse(self, delivery: Delivery, error: InvalidRequest) -> Outcome:
        letter = await self._dead_letters.record_message(
            subscription=delivery.subscription,
            message_id=delivery.message_id,
            published_at=delivery.published_at,
            data=delivery.data,
            attributes=delivery.attributes,
            failure=Failure(code=error.code, message=error.message),
        )
        self._metrics.add(DEAD_LETTERS, origin="message", event="created")
        _log.warning("notification.refused", error_code=error.code, error=error.message, dead_letter_id=str(letter))
        return REFUSED
