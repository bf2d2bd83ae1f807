"""`DeadLetterStore` on Postgres."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from shared.clock import Clock, SystemClock
from shared.ids import uuid7
from shared.ports.stores import Failure
from shared.postgres import queries

if TYPE_CHECKING:
    from shared.postgres.pool import Database


class PostgresDeadLetterStore:
    """See `shared.ports.stores.DeadLetterStore`."""

    def __init__(self, database: Database, *, clock: Clock | None = None) -> None:
        """Take the pool."""
        self._db = database
        self._clock = clock or SystemClock()
        self._sql = queries.load("dead_letters")

    async def record_message(  # noqa: D102
        self,
        *,
        subscription: str,
        message_id: str,
        published_at: datetime | None,
        data: bytes,
        attributes: Mapping[str, str],
        failure: Failure,
    ) -> UUID:
        async with self._db.get_connection() as connection:
            recorded = await self._sql.record_message.value(
                connection,
                id=uuid7(self._clock),
                identity=message_identity(subscription, published_at, data, attributes),
                subscription=subscription,
                message_id=message_id,
                published_at=published_at,
                body=data,
                attributes=dict(attributes),
                code=failure.code,
                message=failure.message,
            )
        return UUID(str(recorded))


def message_identity(
    subscription: str, published_at: datetime | None, data: bytes, attributes: Mapping[str, str]
) -> str:
    """Return what stays the same however often a message dies: our own id, else source, time and content.

    The attributes that Pub/Sub adds when it forwards a dead letter (`CloudPubSub…`) are left out.
    """
    if own := attributes.get("dead_letter_id"):
        return f"letter:{own}"
    digest = hashlib.sha256(data)
    for key in sorted(attributes):
        if not key.startswith("CloudPubSub"):
            digest.update(f"\0{key}={attributes[key]}".encode())
    return f"message:{subscription}:{published_at.isoformat() if published_at else ''}:{digest.hexdigest()}"
