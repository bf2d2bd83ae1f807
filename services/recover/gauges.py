"""What waits, as the last run saw it: shown on /metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from shared.model.job import Lane
from shared.ports.stores import QueueFigures
from shared.telemetry.instruments import OUTBOX_LAG_SECONDS, QUEUE_DEPTH
from shared.telemetry.metrics import Metrics


class Gauges:
    """The latest figures."""

    def __init__(self) -> None:
        """Nothing waits until a run has looked."""
        self.latest = QueueFigures(pending={}, due={}, outbox_lag_seconds=0.0)

    @contextmanager
    def shown(self, metrics: Metrics) -> Iterator[None]:
        """Show them for the length of the block."""
        with ExitStack() as stack:
            for lane in Lane:
                for state in ("pending", "due"):
                    stack.enter_context(
                        metrics.watching(QUEUE_DEPTH, self._reader(lane, state), lane=lane.value, state=state)
                    )
            stack.enter_context(metrics.watching(OUTBOX_LAG_SECONDS, lambda: self.latest.outbox_lag_seconds))
            yield

    def _reader(self, lane: Lane, state: str) -> Callable[[], float]:
        return lambda: (self.latest.pending if state == "pending" else self.latest.due).get(lane.value, 0)
