"""Jobs without a document ("tasks"): the same queue, lanes, leases, retries and ledger, for work about many files.

A task is claimed, renewed, retried, deferred, released and failed through `WorkQueue`, as every job is. Here is what
only tasks do: be asked for by a person or a service, keep a checkpoint of their own, and end with a result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from shared.model.job import JobType, Lane, Lease


@dataclass(frozen=True, kw_only=True, slots=True)
class NewTask:
    """What is to be done, and for whom. Type and id say what it is about; one such task at most is unfinished."""

    job_type: JobType
    organization_id: str
    entity_type: str
    entity_id: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    user_id: str | None = None
    lane: Lane = Lane.BULK
    priority: int = 0
    max_attempts: int = 4
    trace_parent: str | None = None


class TaskStore(Protocol):
    """Every method is one transaction, and raises what the stores of `shared.ports.stores` raise."""

    async def add(self, task: NewTask) -> tuple[UUID, bool]:
        """Add a task with its bell; return its id, and whether it is new.

        One of the same type, organization and entity that has not ended is returned instead; its payload stays.
        """
        ...

    async def save(
        self, lease: Lease, *, checkpoint: Mapping[str, Any], done: int, total: int | None, unit: str
    ) -> None:
        """Record where a successor goes on, and how far the work is. Raises `LeaseLost`, and writes nothing then."""
        ...

    async def pause(
        self,
        lease: Lease,
        *,
        checkpoint: Mapping[str, Any],
        done: int,
        total: int | None,
        unit: str,
        delay_seconds: float = 0,
    ) -> None:
        """Save as `save` does and put the task back, due after the delay, so that others get the worker meanwhile.

        A task that got somewhere has proved itself: it goes on with fresh attempts, and need not run alone any more.
        Raises `LeaseLost`, and writes nothing then.
        """
        ...

    async def waiting(self, task_id: UUID, *, limit: int) -> int:
        """Return how many jobs that this import made have not ended; counted up to `limit`."""
        ...

    async def outcomes(self, task_id: UUID) -> Mapping[str, int]:
        """Return how many jobs this import made, by status; costs time with their number."""
        ...

    async def finish(self, lease: Lease, *, result: Mapping[str, Any]) -> None:
        """Set `completed` with a result; its dead letters are resolved. Raises `LeaseLost`, and writes nothing then."""
        ...
