"""How much time a run has left."""

from __future__ import annotations

from shared.clock import Clock


class Budget:
    """Time that is spent once; duties look at it between batches and stop when it is gone."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        """Start now."""
        self._clock = clock
        self._until = clock.monotonic() + seconds

    @property
    def left_seconds(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._until - self._clock.monotonic())

    def half(self) -> Budget:
        """Return half of what is left, for a duty that could use up all of it and goes on in the next run."""
        return Budget(self._clock, self.left_seconds / 2)

    @property
    def spent(self) -> bool:
        """Whether a duty must not begin another batch."""
        return self.left_seconds <= 0
