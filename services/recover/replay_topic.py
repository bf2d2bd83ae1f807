"""Replays asked for with a message, so that gcloud alone is enough: JSON in the body, or attributes.

    gcloud pubsub topics publish headrace-replay --attribute=all=true,canary=true
    gcloud pubsub topics publish headrace-replay --message='{"filter": {"code": "CORRUPT"}, "limit": 100}'

A message that cannot be read is refused for good, and kept as a dead letter with the reason.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID, uuid5

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from services.recover.budget import Budget
from shared.errors import HeadraceError, InvalidRequest, code_of
from shared.model.outcome import DONE, REFUSED, Outcome, Verdict
from shared.ports.broker import Delivery, Inbox, Taken
from shared.ports.dead_letters import (
    RATE_MAX_PER_SECOND,
    RATE_MIN_PER_SECOND,
    DeadLetterStore,
    LetterFilter,
    Origin,
    ReplayRequest,
    Since,
)
from shared.ports.stores import Failure
from shared.worker.replay import Replays

_log = structlog.get_logger(__name__)

WAIT_SECONDS = 1.0
_IDS = UUID("6f0a3a3e-6f0f-5d0b-9a1e-8a53b0c6a1d7")

Word = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Selection(_Strict):
    """Which letters; all that is given must hold."""

    code: Word | None = None
    stage: Word | Literal[""] | None = None
    """Empty: letters without one, such as those of messages."""
    origin: Origin | None = None
    organization_id: Word | None = None
    since: Since | None = None


class Order(_Strict):
    """What a message of the `replay` topic may say: one of `ids`, `filter` and `all`."""

    ids: list[UUID] | None = Field(None, min_length=1, max_length=1000)
    filter: Selection | None = None
    all: bool = False
    limit: int | None = Field(None, ge=1, le=1_000_000)
    rate: float = Field(10.0, ge=RATE_MIN_PER_SECOND, le=RATE_MAX_PER_SECOND, allow_inf_nan=False)
    dry_run: bool = False
    canary: bool = False
    force: bool = False

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if [self.ids is not None, self.filter is not None, self.all].count(True) != 1:
            raise ValueError("say which letters: one of ids, filter, all")
        if self.filter is not None and not self.filter.model_fields_set:
            raise ValueError("an empty filter means everything; say all")
        return self

    def request(self, by: str) -> ReplayRequest:
        """Return what is asked for."""
        chosen = self.filter or Selection()
        return ReplayRequest(
            filters=LetterFilter(**dict(chosen), ids=self.ids),
            by=by,
            max_letters=self.limit,
            rate_per_second=self.rate,
            canary=self.canary,
            force=self.force,
        )


_OPTIONS = frozenset({"all", "limit", "rate", "dry_run", "canary", "force"})
_FILTERS = frozenset(Selection.model_fields)


def read(delivery: Delivery) -> Order:
    """Return the order in a message.

    Raises:
        InvalidRequest: `MALFORMED_REPLAY`, with what is wrong; bringing it again changes nothing.
    """
    said = {key: value for key, value in delivery.attributes.items() if key in _OPTIONS | _FILTERS | {"id"}}
    body = delivery.data.strip()
    if body and said:
        raise _malformed("it says something in its body and in its attributes; use one of them")
    try:
        if body:
            return Order.model_validate_json(body)
        order: dict[str, object] = {key: value for key, value in said.items() if key in _OPTIONS}
        if "id" in said:
            order["ids"] = said["id"].split(",")
        if chosen := {key: value for key, value in said.items() if key in _FILTERS}:
            order["filter"] = chosen
        return Order.model_validate(order)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in problem["loc"])[:64]
        raise _malformed(f"{where}: {problem['msg']}" if where else problem["msg"]) from None


def _malformed(what: str) -> InvalidRequest:
    return InvalidRequest(f"this message asks for no replay: {what}.", code="MALFORMED_REPLAY")


class ReplayMessages:
    """Handles messages of the `replay` topic, by pull or push. The same message again is the same request."""

    def __init__(self, replays: Replays, letters: DeadLetterStore) -> None:
        """Take the ports."""
        self._replays, self._letters = replays, letters

    async def __call__(self, delivery: Delivery) -> Outcome:
        """Return once the request is written down and its first steps are taken."""
        try:
            order = read(delivery)
        except InvalidRequest as error:
            await self._letters.record_message(
                subscription=delivery.subscription,
                message_id=delivery.message_id,
                published_at=delivery.published_at,
                data=delivery.data,
                attributes=delivery.attributes,
                failure=Failure(code=error.code, message=error.message),
            )
            _log.warning("replay.refused", error_code=error.code, error=error.message)
            return REFUSED
        request = order.request("the replay topic")
        if order.dry_run:
            found = await self._replays.preview(request)
            _log.info(
                "replay.previewed",
                replayable=found.replayable,
                need_force=found.need_force,
                not_replayable=found.not_replayable,
                replaying=found.replaying,
            )
            return DONE
        await self._replays.request(request, batch_id=_batch_id(delivery.message_id, delivery.published_at))
        return DONE


def _batch_id(message_id: str, published_at: datetime | None) -> UUID:
    """Return the same id for the same message; the time tells apart what a broker that forgets counts anew."""
    return uuid5(_IDS, f"{message_id} {published_at and published_at.isoformat()}")


async def replay_topic(inbox: Inbox, handle: ReplayMessages, budget: Budget, *, batch_size: int) -> Counter[str]:
    """Take requests until none come or the budget is spent. One that fails comes again, and keeps no other back.

    Raises the first such error when the others are done.
    """
    counts: Counter[str] = Counter(done=0, refused=0)
    failure: Exception | None = None
    while not budget.spent:
        taken = await inbox.take(limit=batch_size, wait_seconds=WAIT_SECONDS)
        if not taken:
            break
        answered: list[Taken] = []
        try:
            for one in taken:
                if failure is not None and budget.left_seconds <= 0:  # perhaps nothing works, each after a wait
                    break
                try:
                    outcome = await handle(one.delivery)
                except Exception as error:  # noqa: BLE001 - one order must not stop the others; raised at the end
                    failure = failure or error
                    known = isinstance(error, HeadraceError)
                    _log.error("replay.order_failed", error_code=code_of(error), exc_info=None if known else error)
                    continue
                counts[outcome.name] += 1
                if outcome.verdict is Verdict.ACK:
                    answered.append(one)
        finally:
            await inbox.ack(answered)
            await inbox.nack([one for one in taken if one not in answered])
        if not answered:
            break
    if failure is not None:
        raise failure
    return counts
