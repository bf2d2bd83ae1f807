"""Brings one object in step with the bucket. Ingest does it for each hint; recover for each difference it finds."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import structlog

from shared.errors import Conflict
from shared.model.decision import Decision, Nothing, Owner, decide
from shared.model.document import ObjectMetadata, ObjectRef
from shared.ports.storage import ObjectStore
from shared.ports.stores import Committed, DocumentStore
from shared.telemetry.tracing import Tracing

_log = structlog.get_logger(__name__)

TRIES = 10
"""Each lost race means that somebody else has just decided about the same object, so this many never happen in a row
but to a file that changes all the time; then the broker brings the hint again."""


class Synchroniser:
    """Decides about one object and commits the decision under the document's revision as fence."""

    def __init__(
        self,
        documents: DocumentStore,
        storage: ObjectStore,
        *,
        owner_of: Callable[[ObjectMetadata], Owner | None],
        tracing: Tracing,
    ) -> None:
        """`owner_of` says to whom an object belongs."""
        self._documents, self._storage, self.owner_of = documents, storage, owner_of
        self._tracing = tracing

    async def bring_in_step(self, ref: ObjectRef, *, import_id: UUID | None = None) -> tuple[Decision, Committed]:
        """Return what was decided and done. May be called for any reason, at any time, by anybody, at once.

        A new job that an import makes waits in the bulk lane and names the import (`import_id`).

        Raises:
            Conflict: others decided about the same object all the time; nothing was written by this call.
            RetryableError: Storage or Postgres does not answer.
        """
        for _ in range(TRIES):
            document = await self._documents.read(ref)
            # Storage is asked after the revision was read: what it says is at least as new as the row.
            live = await self._storage.stat(ref)
            decision = decide(document, live, None if live is None else self.owner_of(live))
            if isinstance(decision, Nothing):
                return decision, Committed(document_id=None if document is None else document.id, job_id=None)
            committed = await self._documents.commit(
                ref,
                decision,
                expected_revision=0 if document is None else document.revision,
                trace_parent=self._tracing.traceparent(),
                import_id=import_id,
            )
            if committed is not None:
                _log.info(
                    "object.decided",
                    decision=type(decision).__name__.lower(),
                    document_id=str(committed.document_id),
                    job_id=None if committed.job_id is None else str(committed.job_id),
                    cancelled_jobs=committed.cancelled_jobs,
                )
                return decision, committed
        raise Conflict("the file changes faster than it can be decided on; it is tried again.")
