"""Documents into every space that is wanted, and whole spaces from text that is stored: no file is read again.

What search needs is the active space. A space that is being filled gets the texts of new files beside it; a model that
fails there holds no file up, since the switch to that space refuses as long as anything is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import structlog

from services.process.document import LOOK_SECONDS, PATIENCE_SECONDS, TEXTS_PER_LOOK, Bill, IndexDocument
from services.process.slices import Paused, Slice, SliceOver
from shared.clock import Clock
from shared.errors import Conflict, LeaseLost, NotFound, Superseded, code_of
from shared.model.job import Job, Stage
from shared.model.space import EmbeddingSpace, SpaceState
from shared.ports.models import Embedder, Embedders
from shared.ports.spaces import SpaceStore
from shared.ports.stores import WorkQueue
from shared.ports.tasks import TaskStore

_log = structlog.get_logger(__name__)

UNIT = "texts"


class SpaceWork(IndexDocument):
    """The work on a document whose texts go into one space, and into those of `others` besides."""

    others: Sequence[SpaceWork] = ()

    async def send(self, job: Job, batch: Sequence[tuple[bytes, str]], *, patient: bool) -> int:
        """Give texts of a batch a vector, each committed; return how many were sent.

        With patience, those that another job is sending at this moment are left to it.
        """
        ours = await self._claimed(job, batch) if patient else batch
        return (await self._embed_batch(job, ours)).texts if ours else 0

    async def _embed_batch(self, job: Job, batch: Sequence[tuple[bytes, str]]) -> Bill:
        """Send a batch, request by request: what one has brought is committed before the next can fail."""
        bill, start = Bill(), 0
        for size in await asyncio.to_thread(self._embedder.requests, [text for _, text in batch]):
            bill += await super()._embed_batch(job, batch[start : start + size])
            start += size
        return bill

    async def _embed(self, job: Job, time: Slice) -> Bill:
        bill = await super()._embed(job, time)
        for other in self.others:
            try:
                await other._embed(job, time)  # noqa: SLF001 - of the same class
            except (LeaseLost, Superseded, SliceOver):
                raise
            except Exception as error:  # noqa: BLE001 - no file waits for a space that nobody searches
                _log.warning("space.not_filled", space=other._embedder.space.key, error_code=code_of(error))  # noqa: SLF001
        return bill


MakeWork = Callable[[Embedder], SpaceWork]


class IndexInEverySpace:
    """The handler of `document_processing`: which spaces those are is asked for each job."""

    def __init__(self, make: MakeWork, store: SpaceStore, embedders: Embedders) -> None:
        """Take what makes the work for a model, and where the spaces and their models are known."""
        self._make, self._store, self._embedders = make, store, embedders

    async def __call__(self, job: Job) -> None:
        """Return when the job is completed; raises what `IndexDocument` raises."""
        while True:
            wanted = await self._store.wanted(self._embedders.default)
            work = self._make(await self._embedders.of(wanted.active))
            work.others = [made for space in wanted.filling if (made := await self._other(space)) is not None]
            try:
                await work(job)
            except Conflict as error:
                if error.code != "SPACE_SWITCHED":
                    raise
                # Nobody asks for a space before all is read and stored; what is left is to embed it there.
                _log.info("job.space_switched", space=wanted.active.key)
                job = replace(job, checkpoint={**(job.checkpoint or {}), "extracted": True})
            else:
                return

    async def _other(self, space: EmbeddingSpace) -> SpaceWork | None:
        try:
            return self._make(await self._embedders.of(space))
        except Exception as error:  # noqa: BLE001 - as above
            _log.warning("space.not_filled", space=space.key, error_code=code_of(error))
            return None


class FillSpace:
    """The handler of `embedding_generation`: one organization's findable texts into one space, each sent once."""

    def __init__(
        self,
        make: MakeWork,
        store: SpaceStore,
        embedders: Embedders,
        *,
        queue: WorkQueue,
        tasks: TaskStore,
        clock: Clock,
        slice_seconds: float | None = None,
    ) -> None:
        """Take the ports, and how long one call may go on where calls are bounded."""
        self._make, self._store, self._embedders = make, store, embedders
        self._queue, self._tasks, self._clock = queue, tasks, clock
        self._slice_seconds = slice_seconds

    async def __call__(self, job: Job) -> None:
        """Return when no text is missing; a successor goes on after the last batch, past what has a vector.

        Raises:
            NotFound: `UNKNOWN_SPACE`: the space is gone, or was left behind.
            SliceOver: the time of this call is over; at least one batch of it is new.
            Paused: put back after the first batch, to go on beside other jobs: it was alone in its worker.
        """
        space = EmbeddingSpace.parse(job.entity_id or "")
        if await self._store.find(space) not in {SpaceState.FILLING, SpaceState.ACTIVE}:
            raise NotFound(f"{space.key} is not to be filled any more.", code="UNKNOWN_SPACE")
        time = Slice(self._clock, self._slice_seconds)
        embedder = await self._embedders.of(space)
        work = self._make(embedder)
        await self._queue.enter(job.lease, Stage.EMBEDDING)
        state = await self._begin(job, space)
        moved_at = self._clock.monotonic()
        while True:
            passed = 0  # texts that were missing in this pass
            while missing := await self._store.missing(
                job.organization_id, space, after=bytes.fromhex(state["after"]), limit=TEXTS_PER_LOOK
            ):
                for start in range(0, len(missing), embedder.batch_size):
                    batch = missing[start : start + embedder.batch_size]
                    patient = self._clock.monotonic() - moved_at < PATIENCE_SECONDS
                    if sent := await work.send(job, batch, patient=patient):
                        moved_at = self._clock.monotonic()
                    cut = sum(embedder.count_tokens(text) > embedder.max_tokens for _, text in batch)
                    passed += len(batch)
                    state |= {
                        "after": batch[-1][0].hex(),
                        "sent": state["sent"] + sent,
                        "cut": state["cut"] + cut,
                        "done": min(state["total"], state["done"] + sent),
                    }
                    if job.quarantined:  # it has got somewhere, so nobody has to wait for it to be alone
                        await self._tasks.pause(job.lease, **_progress(state))
                        raise Paused
                    await self._tasks.save(job.lease, **_progress(state))
                    time.check()
            if not passed and state["full_pass"]:
                break
            # Texts that came behind this place, and those that others were sending, are looked for once more.
            state |= {"after": "", "full_pass": True}
            if passed:
                await self._clock.sleep(LOOK_SECONDS)
        texts, _ = await self._store.count(job.organization_id, space)
        state |= {"total": texts, "done": texts}
        await self._tasks.save(job.lease, **_progress(state))
        result = {"space": space.key, "texts": texts, "sent": state["sent"], "reused": texts - state["sent"]}
        await self._tasks.finish(job.lease, result=result | {"longer_than_the_model_reads": state["cut"]})

    async def _begin(self, job: Job, space: EmbeddingSpace) -> dict[str, Any]:
        if job.checkpoint:
            return dict(job.checkpoint) | {"full_pass": False}
        texts, missing = await self._store.count(job.organization_id, space)
        state = {"after": "", "sent": 0, "cut": 0, "done": texts - missing, "total": texts, "full_pass": True}
        await self._tasks.save(job.lease, **_progress(state))
        return state


def _progress(state: dict[str, Any]) -> dict[str, Any]:
    return {"checkpoint": state, "done": state["done"], "total": state["total"], "unit": UNIT}
