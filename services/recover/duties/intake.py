"""What Pub/Sub gave up on becomes a row: insert, commit, then ack. Taken in twice, it is there once.

A bell does not: what it rang for stands in the database, and is rung for again by the run that finds this. While a
backlog is worked off, pushed bells are answered "busy" until their attempts are used up, and nothing is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime

import structlog

from services.recover.budget import Budget
from shared.errors import HeadraceError, InvalidRequest, RetryableError, code_of
from shared.events.catalogue import DeadLettered, WorkBell
from shared.events.envelope import EVENT_TYPE, read
from shared.model.job import Lane
from shared.ports.broker import Delivery, Inbox, Taken
from shared.ports.dead_letters import LetterIntake, UndeliveredMessage, letter_id_of

_log = structlog.get_logger(__name__)

SOURCE = "CloudPubSubDeadLetterSourceSubscription"
SOURCE_TIME = "CloudPubSubDeadLetterSourceTopicPublishTime"
SOURCE_COUNT = "CloudPubSubDeadLetterSourceDeliveryCount"
"""Attributes that Pub/Sub adds when it forwards, https://cloud.google.com/pubsub/docs/handling-failures."""

BELLS = frozenset(f"work-{lane}" for lane in Lane)
"""The subscriptions that bring bells."""

WAIT_SECONDS = 1.0


async def intake(
    inbox: Inbox, letters: LetterIntake, budget: Budget, *, subscriptions: Mapping[str, str], batch_size: int
) -> Counter[str]:
    """Take letters in until none come or the budget is spent; one that cannot be kept is left where it is.

    `subscriptions` translates resource ids to the names that the product uses. Bells are counted as `bells`.
    """
    counts: Counter[str] = Counter(new=0, failed_again=0, known=0, confirmed=0, bells=0, errors=0)
    while not budget.spent:
        taken = await inbox.take(limit=batch_size, wait_seconds=WAIT_SECONDS)
        if not taken:
            break
        kept: list[Taken] = []
        try:
            for one in taken:
                if await _keep(one.delivery, letters, subscriptions, counts):
                    kept.append(one)  # noqa: PERF401 - what was kept before an error is acked too
        finally:
            await inbox.ack(kept)
            await inbox.nack([one for one in taken if one not in kept])
        if not kept:
            break
    return counts


async def _keep(
    delivery: Delivery, letters: LetterIntake, subscriptions: Mapping[str, str], counts: Counter[str]
) -> bool:
    try:
        counts[await _take_in(delivery, letters, subscriptions)] += 1
    except RetryableError:
        raise
    except Exception as error:  # noqa: BLE001 - one letter must not keep the others out; it stays on its subscription
        counts["errors"] += 1
        known = isinstance(error, HeadraceError)
        _log.error("letter.not_kept", error_code=code_of(error), exc_info=None if known else error)
        return False
    return True


async def _take_in(delivery: Delivery, letters: LetterIntake, subscriptions: Mapping[str, str]) -> str:
    message = undelivered(delivery, subscriptions)
    told_by_us = SOURCE not in delivery.attributes and delivery.attributes.get(EVENT_TYPE) == DeadLettered.TYPE
    if told_by_us and message.letter_id is not None and await letters.is_known(message.letter_id):
        return "confirmed"
    if message.subscription in BELLS and _is_bell(delivery):
        if message.letter_id is not None:
            await letters.resolve(message.letter_id)
        return "bells"
    return (await letters.take_in(message)).value


def _is_bell(delivery: Delivery) -> bool:
    try:
        read(WorkBell, delivery.data, delivery.attributes)
    except InvalidRequest:
        return False
    return True


def undelivered(delivery: Delivery, subscriptions: Mapping[str, str]) -> UndeliveredMessage:
    """Return what a message of the dead-letter topic is about. Without a source its own facts have to do."""
    attributes = delivery.attributes
    source = attributes.get(SOURCE, "").rpartition("/")[2]
    return UndeliveredMessage(
        subscription=subscriptions.get(source, source),
        message_id=delivery.message_id,
        published_at=moment(attributes.get(SOURCE_TIME)) or delivery.published_at,
        deliveries=_count(attributes.get(SOURCE_COUNT)),
        data=delivery.data,
        attributes=attributes,
        letter_id=letter_id_of(attributes),
    )


def moment(text: str | None) -> datetime | None:
    """Return a time as Pub/Sub writes it: `2022-08-12T15:56:29.732+00:00`, or with a `Z`; None for anything else."""
    try:
        said = datetime.fromisoformat(text or "")
        return (said if said.tzinfo else said.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _count(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else None
