"""Where bucket and index differ, and repair of it: a bounded stretch of names a request, in pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.api.route import Call, Route
from services.api.schemas import DriftParams, DriftView
from shared.clock import Clock
from shared.worker.drift import DriftCheck

SECONDS = 15.0
"""After this a request answers with what it has; whoever asks goes on from its cursor."""


class DriftEndpoints:
    """Needs the role of an administrator: a bucket holds the files of all organizations."""

    def __init__(self, check: DriftCheck, clock: Clock) -> None:
        self._check, self._clock = check, clock

    def routes(self) -> Sequence[Route[Any, Any]]:
        """Return the endpoints."""
        return (
            Route(
                method="GET",
                path="/api/v1/admin/drift",
                summary="Compare a stretch of the bucket with the index: counts and examples of each difference",
                params=DriftParams,
                answer=DriftView,
                handler=self.look,
                admin=True,
            ),
            Route(
                method="POST",
                path="/api/v1/admin/drift",
                summary="The same, and repair what is missing, stale or orphaned; each object is looked at once more",
                params=DriftParams,
                answer=DriftView,
                handler=self.repair,
                admin=True,
            ),
        )

    async def look(self, call: Call[DriftParams, None]) -> DriftView:
        """Answer with what was found."""
        return await self._run(call.params, repair=False)

    async def repair(self, call: Call[DriftParams, None]) -> DriftView:
        """Answer with what was found and done."""
        return await self._run(call.params, repair=True)

    async def _run(self, asked: DriftParams, *, repair: bool) -> DriftView:
        until = self._clock.monotonic() + SECONDS
        report = await self._check.run(
            repair=repair,
            after=asked.cursor or "",
            stop=lambda: self._clock.monotonic() >= until,
            limit=asked.limit,
            examples=asked.examples,
        )
        if report.gave_up is not None:
            raise report.gave_up
        return DriftView.of(self._check.bucket, report)
