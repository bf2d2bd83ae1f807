"""How much of a model all processes together may use, where people have said so: pure, for one process and a fleet.

Turns are spread evenly: what a call takes pushes the next turn away by as long as it takes to earn it. So no window of
a minute holds more than a minute's allowance and the one call that it began with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import ClassVar

LOOK_SECONDS = 0.25
"""How often is looked for a free place among the calls under way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Quota:
    """Bounds on one model; None: no bound."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    concurrency: int | None = None
    """Calls under way at the same time."""

    def __post_init__(self) -> None:
        """Refuse bounds that let nothing through."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{field.name} must be a number above 0")

    def seconds_of_tokens(self, tokens: int) -> float:
        """Return how long it takes to earn so many tokens."""
        return 60 * tokens / self.tokens_per_minute if self.tokens_per_minute else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """Until when what was taken is being earned; None: nothing was taken yet."""

    requests_until: datetime | None = None
    tokens_until: datetime | None = None

    def wait_seconds(self, now: datetime) -> float:
        """Return how long it is until the next turn; 0 if it can be taken now."""
        return max(
            [0.0, *((until - now).total_seconds() for until in (self.requests_until, self.tokens_until) if until)]
        )

    def after_turn(self, quota: Quota, now: datetime, *, requests: int, tokens: int) -> Spent:
        """Return what is spent once a turn was taken for so much."""
        seconds = 60 * requests / quota.requests_per_minute if quota.requests_per_minute else 0.0
        return Spent(
            requests_until=max(self.requests_until or now, now) + timedelta(seconds=seconds),
            tokens_until=max(self.tokens_until or now, now) + timedelta(seconds=quota.seconds_of_tokens(tokens)),
        )

    def after_answer(self, quota: Quota, *, unused_tokens: int) -> Spent:
        """Return what is spent when a call has used fewer tokens than were taken for it; more, if it is negative."""
        if self.tokens_until is None:
            return self
        earned = timedelta(seconds=quota.seconds_of_tokens(unused_tokens))
        return Spent(requests_until=self.requests_until, tokens_until=self.tokens_until - earned)
