"""Dead letters on Postgres: what handlers record, what intake brings, and what operators see."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from shared.clock import Clock, SystemClock
from shared.errors import InvalidRequest
from shared.ids import uuid7
from shared.ports.dead_letters import (
    UNDELIVERABLE,
    DeadLetter,
    Intake,
    LetterFilter,
    LetterGroup,
    LetterPage,
    LetterState,
    Origin,
    UndeliveredMessage,
    letter_id_of,
)
from shared.ports.stores import Failure
from shared.postgres import queries

if TYPE_CHECKING:
    from shared.postgres.pool import Connection, Database


class PostgresDeadLetterStore:
    """Implements `DeadLetterStore` and `LetterIntake` of `shared.ports.dead_letters`."""

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
        published_at = _to_milliseconds(published_at)
        async with self._db.transaction() as connection:
            own = letter_id_of(attributes)
            if own is not None and await self._sql.letter_exists.value(connection, id=own):
                await self._fail_again(connection, own, published_at, failure=failure)
                return own
            recorded = await self._sql.record_message.value(
                connection,
                id=uuid7(self._clock),
                identity=message_identity(subscription, published_at, data, attributes),
                organization_id=_storable(attributes).get("organization_id"),
                subscription=subscription,
                message_id=message_id,
                published_at=published_at,
                body=data,
                attributes=_storable(attributes),
                code=failure.code,
                message=failure.message,
            )
        return UUID(str(recorded))

    async def resolve(self, letter_id: UUID) -> bool:  # noqa: D102
        async with self._db.get_connection() as connection:
            return await self._sql.resolve_message.run(connection, id=letter_id) > 0

    async def take_in(self, message: UndeliveredMessage) -> Intake:  # noqa: D102
        published_at = _to_milliseconds(message.published_at)
        async with self._db.transaction() as connection:
            if message.letter_id is not None and await self._sql.letter_exists.value(connection, id=message.letter_id):
                again = await self._fail_again(
                    connection, message.letter_id, published_at, deliveries=message.deliveries
                )
                return Intake.FAILED_AGAIN if again else Intake.KNOWN
            taken = await self._sql.take_in.value(
                connection,
                id=uuid7(self._clock),
                identity=message_identity(message.subscription, published_at, message.data, message.attributes),
                organization_id=_storable(message.attributes).get("organization_id"),
                subscription=message.subscription or None,
                message_id=message.message_id,
                published_at=published_at,
                deliveries=message.deliveries,
                body=message.data,
                attributes=_storable(message.attributes),
                code=UNDELIVERABLE,
                message="Pub/Sub gave up on this message, and its handler never recorded why: it was away, "
                "or so was the database. Replay it when both are well.",
            )
        return Intake.KNOWN if taken is None else Intake.NEW

    async def is_known(self, letter_id: UUID) -> bool:  # noqa: D102
        async with self._db.get_connection() as connection:
            return bool(await self._sql.letter_exists.value(connection, id=letter_id))

    async def _fail_again(
        self,
        connection: Connection,
        letter_id: UUID,
        published_at: datetime | None,
        *,
        failure: Failure | None = None,
        deliveries: int | None = None,
    ) -> bool:
        changed = await self._sql.fail_again.value(
            connection,
            id=letter_id,
            code=failure and failure.code,
            message=failure and failure.message,
            deliveries=deliveries,
            published_at=published_at,
        )
        return changed is not None


class PostgresLetterDirectory:
    """See `shared.ports.dead_letters.LetterDirectory`."""

    def __init__(self, database: Database) -> None:
        """Take the pool."""
        self._db = database
        self._sql = queries.load("dead_letters")

    async def page(self, filters: LetterFilter, *, cursor: str | None, limit: int) -> LetterPage:  # noqa: D102
        async with self._db.get_connection() as connection:
            found = await self._sql.page_letters.all(
                connection, **arguments(filters), before_id=_read_cursor(cursor), limit=limit + 1
            )
        letters = [_letter(row) for row in found[:limit]]
        return LetterPage(letters=letters, next_cursor=letters[-1].id.hex if len(found) > limit else None)

    async def get(self, letter_id: UUID) -> DeadLetter | None:  # noqa: D102
        async with self._db.get_connection() as connection:
            row = await self._sql.get_letter.first(connection, id=letter_id)
        return None if row is None else _letter(row, body=row["body"])

    async def groups(self) -> list[LetterGroup]:  # noqa: D102
        async with self._db.get_connection() as connection:
            found = await self._sql.groups.all(connection)
        return [
            LetterGroup(
                code=row["code"],
                stage=row["stage"],
                count=row["letters"],
                replaying=row["replaying"],
                failures=row["failures"],
                first_seen_at=row["first_seen_at"],
                last_seen_at=row["last_seen_at"],
                newest_id=row["newest_id"],
                newest_message=row["newest_message"],
                note=row["note"],
            )
            for row in found
        ]

    async def note_group(self, *, code: str, stage: str | None, note: str) -> None:  # noqa: D102
        async with self._db.get_connection() as connection:
            if note:
                await self._sql.note_group.run(connection, code=code, stage=stage or "", note=note)
            else:
                await self._sql.forget_group_note.run(connection, code=code, stage=stage or "")

    async def discard(self, filters: LetterFilter, *, reason: str, limit: int) -> int:  # noqa: D102
        async with self._db.get_connection() as connection:
            return await self._sql.discard_letters.run(connection, **arguments(filters), reason=reason, limit=limit)


def message_identity(
    subscription: str, published_at: datetime | None, data: bytes, attributes: Mapping[str, str]
) -> str:
    """Return what stays the same however often a message dies: source, time and content.

    The attributes that Pub/Sub adds when it forwards a dead letter (`CloudPubSub…`) are left out. A message that was
    replayed is known by our own id instead.
    """
    digest = hashlib.sha256(data)
    for key in sorted(attributes):
        if not key.startswith("CloudPubSub"):
            digest.update(f"\0{key}={attributes[key]}".encode("utf-8", "surrogatepass"))
    return f"message:{subscription}:{published_at.isoformat() if published_at else ''}:{digest.hexdigest()}"


def arguments(filters: LetterFilter) -> dict[str, Any]:
    """Return a filter as the parameters of a query."""
    return asdict(filters) | {"ids": None if filters.ids is None else list(filters.ids)}


def _storable(attributes: Mapping[str, str]) -> dict[str, str]:
    """Replace the one character that Postgres cannot hold: a letter that cannot be kept would come for ever."""
    return {key.replace("\0", "\ufffd"): value.replace("\0", "\ufffd") for key, value in attributes.items()}


def _to_milliseconds(moment: datetime | None) -> datetime | None:
    """Return the moment as precisely as Pub/Sub tells it in the attributes of what it forwards."""
    if moment is None:
        return None
    moment = moment.astimezone(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _read_cursor(cursor: str | None) -> UUID | None:
    try:
        return None if cursor is None else UUID(hex=cursor)
    except ValueError:
        raise InvalidRequest("this cursor was not made by this API; start from the first page.") from None


def _letter(row: Any, *, body: bytes | None = None) -> DeadLetter:
    return DeadLetter(
        id=row["id"],
        origin=Origin(row["origin"]),
        state=LetterState(row["state"]),
        code=row["code"],
        message=row["message"],
        stage=row["stage"],
        organization_id=row["organization_id"],
        job_id=row["job_id"],
        file_path=row["file_path"],
        subscription=row["subscription"],
        message_id=row["message_id"],
        published_at=row["published_at"],
        deliveries=row["deliveries"],
        attributes=row["attributes"],
        size_bytes=row["size_bytes"],
        failures=row["failures"],
        replays=row["replays"],
        first_seen_at=row["first_seen_at"],
        last_seen_at=row["last_seen_at"],
        resolved_at=row["resolved_at"],
        resolution=row["resolution"],
        note=row["note"],
        body=body,
    )
