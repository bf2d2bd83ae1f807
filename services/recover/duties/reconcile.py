"""Bucket and index, compared name by name: finds uploads and deletions whose notification was lost.

Both sides are listed in the same order and merged, a page at a time, so that memory stays flat however many objects
there are. A difference is only a hint: the object is decided on again, by itself, under the revision fence, so an
orphan is looked up once more before anything is removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

import structlog

from services.recover.budget import Budget
from shared.errors import HeadraceError
from shared.model.document import Document, ObjectMetadata, ObjectRef
from shared.model.job import Status
from shared.ports.storage import ObjectStore
from shared.ports.stores import RecoverStore
from shared.worker.sync import Synchroniser

_log = structlog.get_logger(__name__)

PAGE = 500


async def reconcile(
    store: RecoverStore, storage: ObjectStore, synchroniser: Synchroniser, budget: Budget, *, bucket: str
) -> Counter[str]:
    """Bring every differing object in step; count what was found: missing, stale, orphan, failed.

    `failed` (the live generation's job failed or was cancelled) is only counted: no verdict is undone by a schedule.
    One object's failure is counted as `errors` and does not stop the others.
    """
    counts: Counter[str] = Counter(compared=0, missing=0, stale=0, orphan=0, failed=0, errors=0)
    async for ref, difference in _differences(store, storage, bucket, counts):
        if budget.spent:
            counts["unfinished"] = 1
            break
        if difference is None:
            continue
        counts[difference] += 1
        if difference == "failed":
            continue
        try:
            await synchroniser.bring_in_step(ref)
        except HeadraceError as error:
            counts["errors"] += 1
            _log.warning("reconcile.object_failed", difference=difference, error_code=error.code)
    return counts


async def _differences(
    store: RecoverStore, storage: ObjectStore, bucket: str, counts: Counter[str]
) -> AsyncIterator[tuple[ObjectRef, str | None]]:
    """Merge the two listings and name each difference."""
    objects, documents = storage.list(bucket), _documents(store, bucket)
    there, here = await anext(objects, None), await anext(documents, None)
    while there is not None or here is not None:
        counts["compared"] += 1
        if here is None or (there is not None and _key(there.ref) < _key(here.ref)):
            assert there is not None
            yield there.ref, "missing"
            there = await anext(objects, None)
        elif there is None or _key(here.ref) < _key(there.ref):
            yield here.ref, "orphan"
            here = await anext(documents, None)
        else:
            yield there.ref, _compare(there, here)
            there, here = await anext(objects, None), await anext(documents, None)


def _compare(there: ObjectMetadata, here: Document) -> str | None:
    # The metageneration too: it may have moved the object to another organization.
    if (here.generation, here.metageneration) != (there.generation, there.metageneration):
        return "stale"
    return "failed" if here.current_job_status in {Status.FAILED, Status.CANCELLED} else None


async def _documents(store: RecoverStore, bucket: str) -> AsyncIterator[Document]:
    after = ""
    while page := await store.documents(bucket, after=after, limit=PAGE):
        for document in page:
            yield document
        after = page[-1].ref.name


def _key(ref: ObjectRef) -> bytes:
    """The order in which Cloud Storage and the index both list."""
    return ref.name.encode("utf-8", "surrogatepass")
