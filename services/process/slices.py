"""Work in slices, where one delivery may not last as long as the work: a push is given up after ten minutes.

A handler that works in slices asks after each batch that it has committed. When the time is over it raises `SliceOver`;
the job goes back to the queue uncharged, and the next delivery goes on from the checkpoint.

A step may begin in time and still be at work when the delivery ends. Whoever then stops it asks whether anything was
committed before: a job that gets on is handed on as well, however long its steps are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from shared.clock import Clock

GRACE_SECONDS = 20.0
"""How much longer than its slice a step that cannot be cut may take before it is stopped."""


class SliceOver(Exception):
    """Not a failure: the time is over, and everything that was done is committed."""


class Paused(Exception):
    """Not a failure: the handler has put its job back itself, with everything that was done, to go on later."""


@dataclass(slots=True)
class Progress:
    """Whether anything was committed that a successor does not do again."""

    is_made: bool = False


_progress: ContextVar[Progress | None] = ContextVar("progress", default=None)


@contextmanager
def watched() -> Iterator[Progress]:
    """Give what the work within says of its progress; it is still told when the work was stopped."""
    progress = Progress()
    before = _progress.set(progress)
    try:
        yield progress
    finally:
        _progress.reset(before)


def got_on() -> None:
    """Tell whoever watches, if anybody does, that something new was committed."""
    if (progress := _progress.get()) is not None:
        progress.is_made = True


class Slice:
    """The time of one delivery; without a bound it is never over."""

    def __init__(self, clock: Clock, seconds: float | None) -> None:
        """Begin now."""
        self._clock = clock
        self._until = None if seconds is None else clock.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        """Whether to commit what there is and stop."""
        return self._until is not None and self._clock.monotonic() >= self._until

    def check(self, *, committed: bool = True) -> None:
        """Return while there is time; to be called right after a commit, so that every slice gets somewhere.

        Whoever watches hears of it, unless nothing was `committed`, or it was told with the commit itself.

        Raises:
            SliceOver: there is none left.
        """
        if committed:
            got_on()
        if self.is_over:
            raise SliceOver
