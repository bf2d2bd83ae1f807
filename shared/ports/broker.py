"""Events in and out. The broker only wakes people up: what it loses, the recover service finds in the database."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from shared.model.outcome import Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """Something to publish. `topic` is a logical name of `shared.pubsub.topics`, not a resource path."""

    topic: str
    data: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)
    ordering_key: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """A message that arrived, by pull or push. `delivery_attempt` is 0 where the subscription does not count."""

    subscription: str
    message_id: str
    published_at: datetime | None
    data: bytes
    attributes: Mapping[str, str]
    ordering_key: str = ""
    delivery_attempt: int = 0


class Publisher(Protocol):
    """Sends messages; safe to call from many tasks.

    Publishing the same thing twice is allowed and consumers must cope: ids, not the broker, make work idempotent.
    """

    async def publish(self, message: Message) -> str:
        """Return the message id once the broker has stored it. Messages of one ordering key keep the order of calls.

        Raises:
            RetryableError: it may or may not be stored; publish again. The ordering key is usable again.
            NonRetryableError: the topic does not exist, or the message is too large; it is not stored.
        """
        ...


Handler = Callable[[Delivery], Awaitable[Outcome]]
"""What a service does with a delivery. Expected ends are outcomes; anything raised means "could not even record it"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """A delivery that was asked for, and what it is answered with."""

    delivery: Delivery
    ack_id: str


class Inbox(Protocol):
    """One subscription from which a batch is taken now and then, for those who do not listen all the time.

    All methods raise what `Publisher.publish` does. What is not acked in time comes again.
    """

    async def take(self, *, limit: int, wait_seconds: float) -> Sequence[Taken]:
        """Return messages, `limit` at most; none if none came within the wait. There may be more than were given."""
        ...

    async def ack(self, taken: Sequence[Taken]) -> None:
        """Have these messages forgotten. One whose time was over comes again."""
        ...

    async def nack(self, taken: Sequence[Taken]) -> None:
        """Have these messages brought again, as soon as the subscription's backoff allows."""
        ...
