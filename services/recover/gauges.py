"""What waits, as the last run saw it: shown on /metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from shared.model.job import Lane
from shared.ports.stores import QueueFigures
from shared.telemetry.instruments import (
    DEAD_LETTERS_OPEN,
    DRIFT,
    OUTBOX_LAG_SECONDS,
    QUEUE_AGE_SECONDS,
    QUEUE_DEPTH,
    STUCK_JOBS,
)
from shared.telemetry.metrics import Metrics
from shared.worker.drift import DriftClass


class Gauges:
    """The latest figures."""

    def __init__(self) -> None:
        """Nothing waits until a run has looked."""
        self.latest = QueueFigures(pending={}, due={}, outbox_lag_seconds=0.0)
        self._drift: Mapping[str, int] = {}

    def compared(self, counts: Mapping[str, int] | None) -> None:
        """Take what a comparison of bucket and index found, if it came to its end."""
        if counts is not None and "unfinished" not in counts:
            self._drift = counts

    @contextmanager
    def shown(self, metrics: Metrics) -> Iterator[None]:
        """Show them for the length of the block."""
        with ExitStack() as stack:
            for lane in Lane:
                for state in ("pending", "due"):
                    stack.enter_context(
                        metrics.watching(QUEUE_DEPTH, self._reader(lane, state), lane=lane.value, state=state)
                    )
                stack.enter_context(metrics.watching(QUEUE_AGE_SECONDS, self._age(lane), lane=lane.value))
            for difference in DriftClass:
                stack.enter_context(metrics.watching(DRIFT, self._found(difference), difference=difference.value))
            stack.enter_context(metrics.watching(OUTBOX_LAG_SECONDS, lambda: self.latest.outbox_lag_seconds))
            stack.enter_context(metrics.watching(STUCK_JOBS, lambda: self.latest.stuck))
            stack.enter_context(metrics.watching(DEAD_LETTERS_OPEN, lambda: self.latest.dead_letters_open))
            yield

    def _age(self, lane: Lane) -> Callable[[], float]:
        return lambda: self.latest.oldest_due_seconds.get(lane.value, 0.0)

    def _reader(self, lane: Lane, state: str) -> Callable[[], float]:
        return lambda: (self.latest.pending if state == "pending" else self.latest.due).get(lane.value, 0)

    def _found(self, difference: DriftClass) -> Callable[[], float]:
        return lambda: self._drift.get(difference.value, 0)
