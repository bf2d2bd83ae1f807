"""How fast a model may be called once it has refused a call (429): pure, so that one process and a fleet agree.

A refusal says when to come back, and that the pace was too high. Afterwards turns are taken one at a time, at a pace
that is sought from one call a second upwards; at the next refusal it falls, and then creeps up by a hundredth a call.
So about one call in forty meets a refusal, however much the model allows and however many processes share it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

FIRST_RATE = 1.0
FASTEST_RATE = 1000.0
SEEKING_GROWTH, CREEPING_GROWTH = 1.1, 1.01
SEEKING_DROP, CREEPING_DROP = 0.5, 0.7
LONGEST_WAIT_SECONDS = 86_400.0
"""A quota of a day is the longest there is; nobody is believed who asks for more."""

FORGOTTEN_SECONDS = 900.0
"""So long after the last refusal, nothing is held back any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """What is known about one model's limit. `rate` is in calls per second, of all processes together."""

    rate: float
    seeking: bool
    blocked_until: datetime
    next_turn_at: datetime
    refused_at: datetime

    def is_forgotten(self, now: datetime) -> bool:
        """Say whether the last refusal is so long ago that it means nothing any more."""
        return (now - max(self.refused_at, self.blocked_until)).total_seconds() > FORGOTTEN_SECONDS

    def wait_seconds(self, now: datetime) -> float:
        """Return how long it is until the next turn; 0 if it can be taken now."""
        return max((max(self.blocked_until, self.next_turn_at) - now).total_seconds(), 0.0)

    def after_turn(self, now: datetime) -> Pace:
        """Return the pace once a turn was taken. It grows only where it was what held the caller back."""
        due = max(self.blocked_until, self.next_turn_at)
        gap = timedelta(seconds=1 / self.rate)
        rate = self.rate
        if now - due < gap:
            rate = min(rate * (SEEKING_GROWTH if self.seeking else CREEPING_GROWTH), FASTEST_RATE)
        return replace(self, rate=rate, next_turn_at=max(due, now - gap) + timedelta(seconds=1 / rate))


def after_refusal(pace: Pace | None, *, now: datetime, wait_seconds: float) -> Pace:
    """Return the pace after a call was refused with the wish that nobody comes back for `wait_seconds`."""
    until = now + timedelta(seconds=min(wait_seconds, LONGEST_WAIT_SECONDS))
    if pace is None or pace.is_forgotten(now):
        return Pace(rate=FIRST_RATE, seeking=True, blocked_until=until, next_turn_at=until, refused_at=now)
    if now < pace.blocked_until or (now - pace.refused_at).total_seconds() < 1 / pace.rate:
        # Sent before the last refusal was known: the same burst, not a second sign of being too fast.
        return replace(pace, blocked_until=max(pace.blocked_until, until))
    drop = SEEKING_DROP if pace.seeking and pace.rate <= FIRST_RATE else CREEPING_DROP
    return replace(
        pace,
        rate=pace.rate * drop,
        seeking=pace.seeking and pace.rate <= FIRST_RATE,
        blocked_until=max(pace.blocked_until, until),
        refused_at=now,
    )
