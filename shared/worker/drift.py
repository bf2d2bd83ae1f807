"""Bucket and index, compared name by name: finds uploads and deletions whose notification was lost.

Both sides are listed in the same order and merged, a page at a time, so that memory stays flat however many objects
there are. A difference is only a hint: an object is decided on again, by itself, under the revision fence, so an
orphan is looked up once more before anything is removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeVar

import structlog

from shared.clock import Clock, SystemClock
from shared.errors import code_of, is_retryable
from shared.model.decision import UNKNOWN_ORGANIZATION, Nothing, Owner, is_abandoned
from shared.model.document import Document, ObjectMetadata, ObjectRef
from shared.model.job import Status
from shared.ports.storage import ObjectStore
from shared.worker.sync import Synchroniser

_log = structlog.get_logger(__name__)

PAGE = 500
"""Documents read at once."""

FAILURES_IN_A_ROW = 20
"""So many objects cannot be decided on one after the other: then it is not about them."""


TRY_AGAIN_SECONDS = (1.0, 2.0, 4.0)
"""A side that cannot be listed is asked again after so long; after the last of these waits the comparison ends."""


class DriftClass(StrEnum):
    """How bucket and index differ in one object."""

    MISSING = "missing"
    """In the bucket; the index neither shows it nor has a job for it."""
    STALE = "stale"
    """The index knows another generation, other metadata or no owner, or shows other bytes for good."""
    ORPHAN = "orphan"
    """In the index, no longer in the bucket, or only as a folder."""
    FAILED = "failed"
    """The live generation's job failed or was cancelled: reported, and left to a person."""


class Listed(Protocol):
    """An entry of either side."""

    @property
    def ref(self) -> ObjectRef:
        """Return which object it is about."""
        ...


T = TypeVar("T", bound=Listed)


class DocumentListing(Protocol):
    """The index, listed as the bucket is."""

    async def documents(self, bucket: str, *, after: str, limit: int) -> list[Document]:
        """Return the documents of a bucket whose object is believed to be live, by name (UTF-8 bytes), a page."""
        ...


@dataclass(kw_only=True, slots=True)
class DriftReport:
    """What a comparison found, and did.

    `settled` were in step when they were looked at again: they changed between listing and repair. `after` is the last
    name that was compared when there is more to compare, else None. `gave_up` is why a side could not be listed beyond
    it, or no object be decided on any more; what lies behind `after` can still be compared then.
    """

    compared: int = 0
    found: Counter[DriftClass] = field(default_factory=Counter)
    examples: dict[DriftClass, list[ObjectRef]] = field(default_factory=dict)
    repaired: int = 0
    settled: int = 0
    errors: int = 0
    after: str | None = None
    gave_up: Exception | None = None


class DriftCheck:
    """Compares one bucket with its index, from a name on, and repairs what it may."""

    def __init__(
        self,
        *,
        documents: DocumentListing,
        storage: ObjectStore,
        synchroniser: Synchroniser,
        bucket: str,
        clock: Clock | None = None,
    ) -> None:
        """Take both sides, and what decides about one object."""
        self._documents, self._storage, self._synchroniser = documents, storage, synchroniser
        self._clock = clock or SystemClock()
        self.bucket = bucket

    async def run(
        self,
        *,
        repair: bool,
        after: str = "",
        stop: Callable[[], bool] = lambda: False,
        limit: int | None = None,
        examples: int = 0,
    ) -> DriftReport:
        """Compare names beyond `after` until the end, until `stop()` or for `limit` names; safe to run at once.

        One object's failure is counted and does not stop the others; many in a row do. A side that cannot be listed is
        asked again where it failed; if that does not help either, the report says so, and what was compared stands.
        """
        report, failures, last = DriftReport(), 0, after
        merged = differences(
            self._storage,
            self._documents,
            self.bucket,
            after=after,
            owner_of=self._synchroniser.owner_of,
            clock=self._clock,
            stop=stop,
        )
        try:
            async with aclosing(merged):
                async for ref, difference in merged:
                    if stop() or report.compared == limit:
                        report.after = last
                        break
                    report.compared += 1
                    if difference is not None:
                        report.found[difference] += 1
                        named = report.examples.setdefault(difference, [])
                        if len(named) < examples:
                            named.append(ref)
                        if repair and difference is not DriftClass.FAILED:
                            failures = await self._repair(ref, difference, report, failures)
                    last = ref.name
                    if report.gave_up is not None:
                        # Whoever goes on begins behind these, so that names that always fail hide nothing for ever.
                        report.after = last
                        break
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a listing must not undo what was compared
            # Whoever goes on begins right here: nothing is known of what was not listed.
            report.after, report.gave_up = last, error
        return report

    async def _repair(self, ref: ObjectRef, difference: DriftClass, report: DriftReport, failures: int) -> int:
        """Decide on one object; return how many have failed in a row."""
        try:
            decision, _ = await self._synchroniser.bring_in_step(ref)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one object must not hide the others
            report.errors += 1
            _log.warning("drift.object_failed", difference=difference.value, error_code=code_of(error))
            if failures + 1 >= FAILURES_IN_A_ROW:
                report.gave_up = error
            return failures + 1
        if isinstance(decision, Nothing):
            report.settled += 1
        else:
            report.repaired += 1
        return 0


async def differences(
    storage: ObjectStore,
    documents: DocumentListing,
    bucket: str,
    *,
    after: str = "",
    owner_of: Callable[[ObjectMetadata], Owner | None] = lambda _: None,
    clock: Clock,
    stop: Callable[[], bool] = lambda: False,
) -> AsyncGenerator[tuple[ObjectRef, DriftClass | None], None]:
    """Yield every name beyond `after` that is on either side, in order, and how the sides differ in it (None: not).

    Raises:
        HeadraceError: a side cannot be listed, also when it is asked again. It is never taken for the end of that side.
    """
    objects = _patiently(lambda after: storage.list(bucket, start_after=after), after, clock, stop)
    rows = _patiently(lambda after: _listed(documents, bucket, after), after, clock, stop)
    there, here = await anext(objects, None), await anext(rows, None)
    while there is not None or here is not None:
        if here is None or (there is not None and _key(there.ref) < _key(here.ref)):
            assert there is not None
            yield there.ref, None if there.is_folder else DriftClass.MISSING
            there = await anext(objects, None)
        elif there is None or _key(here.ref) < _key(there.ref):
            yield here.ref, DriftClass.ORPHAN
            here = await anext(rows, None)
        else:
            yield there.ref, _compare(there, here, owner_of)
            there, here = await anext(objects, None), await anext(rows, None)


def _compare(
    there: ObjectMetadata, here: Document, owner_of: Callable[[ObjectMetadata], Owner | None]
) -> DriftClass | None:
    if there.is_folder:
        return DriftClass.ORPHAN
    if here.organization_id == UNKNOWN_ORGANIZATION and owner_of(there) is not None:
        return DriftClass.STALE  # the settings say by now whose it is
    # The metageneration too: it may have moved the object to another organization.
    if (here.generation, here.metageneration) != (there.generation, there.metageneration):
        return DriftClass.STALE
    if is_abandoned(here, there):
        return DriftClass.MISSING if here.live_job_id is None else DriftClass.STALE
    return DriftClass.FAILED if here.current_job_status in {Status.FAILED, Status.CANCELLED} else None


async def _listed(documents: DocumentListing, bucket: str, after: str) -> AsyncIterator[Document]:
    while page := await documents.documents(bucket, after=after, limit=PAGE):
        for document in page:
            yield document
        after = page[-1].ref.name


async def _patiently(
    listing: Callable[[str], AsyncIterator[T]], after: str, clock: Clock, stop: Callable[[], bool]
) -> AsyncIterator[T]:
    """Yield what is listed beyond `after`; where that fails, list anew from there, a few times, until `stop()`."""
    failures = 0
    while True:
        try:
            async for entry in listing(after):
                after, failures = entry.ref.name, 0
                yield entry
        except Exception as error:
            if failures == len(TRY_AGAIN_SECONDS) or not is_retryable(error) or stop():
                raise
            _log.info("drift.listed_again", error_code=code_of(error), failures=failures + 1)
            await clock.sleep(TRY_AGAIN_SECONDS[failures])
            failures += 1
        else:
            return


def _key(ref: ObjectRef) -> bytes:
    """The order in which Cloud Storage and the index both list."""
    return ref.name.encode("utf-8", "surrogatepass")
