"""The outbox: what was committed together with the truth, and is still to be told to the broker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from shared.ports.broker import Message


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """What a round of publishing did; `refused` are the topics that did not take all."""

    published: int = 0
    failed: int = 0
    refused: frozenset[str] = frozenset()

    def __add__(self, other: Sent) -> Sent:
        """Return both rounds as one."""
        return Sent(
            published=self.published + other.published,
            failed=self.failed + other.failed,
            refused=self.refused | other.refused,
        )


Publish = Callable[[Sequence[Message]], Awaitable[Sequence[bool]]]
"""Publishes messages in order and says, for each, whether the broker has stored it. Does not raise for a message."""


class Outbox(Protocol):
    """What was committed and is still to be told to the broker."""

    async def send(
        self,
        publish: Publish,
        *,
        limit: int,
        job_id: UUID | None = None,
        older_than_seconds: float = 0,
        without: frozenset[str] = frozenset(),
    ) -> Sent:
        """Publish unsent bells, dead letters and stage events (of one job, or of all) and mark them.

        Of all: topic by topic, each in a transaction of its own, bells first, so that a topic that refuses, or is slow,
        holds up no other; at most `limit` of each, oldest first, and no more at once than fits into some megabytes;
        topics in `without` are left out. A row is published at least once. Stage events of one job go in the order of
        their `seq`, never past one that failed. Rows that another sender holds are skipped.
        """
        ...

    async def forget_bells(self) -> int:
        """Take it that the broker has lost every message: each pending job is rung for anew; return how many."""
        ...

    async def ring_due(self, *, limit: int) -> int:
        """Write a bell for jobs that became due since their last one (retries, deferrals); return how many."""
        ...
