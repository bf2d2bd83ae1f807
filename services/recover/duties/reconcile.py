"""Bucket and index, once an hour: every difference is repaired, and a run that ends early is gone on with."""

from __future__ import annotations

from collections import Counter

from services.recover.budget import Budget
from services.recover.duties.cursor import Cursor
from services.recover.duties.partly import PartlyDone
from shared.worker.drift import DriftCheck, DriftClass


async def reconcile(check: DriftCheck, budget: Budget, cursor: Cursor) -> Counter[str]:
    """Bring every differing object in step; count what was found: missing, stale, orphan, failed.

    `failed` (the live generation's job failed or was cancelled) is only counted: no verdict is undone by a schedule.
    The counts are those of the whole comparison, also when it took several runs.

    Raises:
        PartlyDone: with why many objects in a row could not be decided on, or a side not be listed; the next run goes
            on behind the last name that was compared.
    """
    counts: Counter[str] = Counter(compared=0, **dict.fromkeys(DriftClass, 0), repaired=0, settled=0, errors=0)
    start = cursor.start or {}
    counts.update(start.get("counts", {}))
    report = await check.run(repair=True, after=start.get("after", ""), stop=lambda: budget.spent)
    counts.update(compared=report.compared, repaired=report.repaired, settled=report.settled, errors=report.errors)
    counts.update({difference.value: number for difference, number in report.found.items()})
    if report.after is not None:
        cursor.stopped = {"after": report.after, "counts": dict(counts)}
        counts["unfinished"] = 1
    if report.gave_up is not None:
        raise PartlyDone(counts, report.gave_up)
    return counts
