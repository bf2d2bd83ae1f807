"""Documents into every space that is wanted, and whole spaces from text that is stored: no file is read again.

What search needs is the active space. A space that is being filled gets the texts of new files beside it; a model that
fails there holds no file up, since the switch to that space refuses as long as anything is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import structlog

from services.process.document import LOOK_SECONDS, PATIENCE_SECONDS, TEXTS_PER_LOOK, Bill, IndexDocument
from services.process.slices import Paused, Slice, SliceOver
from shared.clock import Clock
from shared.errors import Conflict, InvalidRequest, LeaseLost, NotFound, Superseded, code_of
from shared.model.job import Job, Stage
from shared.model.space import EmbeddingSpace, SpaceState
from shared.ports.models import Embedder, Embedders
from shared.ports.spaces import SpaceStore
from shared.ports.stores import WorkQueue
from shared.ports.tasks import TaskStore

_log = structlog.get_logger(__name__)

UNIT = "texts"

HOPELESS = 3
"""So many texts refused and none accepted: it is not the texts that are wrong."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """What a model made of the texts that it was sent."""

    texts: int = 0
    """Those that have a vector by it."""
    shortened: frozenset[bytes] = frozenset()
    """Of these, those whose vector is of their beginning, since it refuses the whole."""
    refused: frozenset[bytes] = frozenset()
    """Those that have none, since it refuses that too."""


class SpaceWork(IndexDocument):
    """The work on a document whose texts go into one space, and into those of `others` besides."""

    others: Sequence[SpaceWork] = ()

    async def send(self, job: Job, batch: Sequence[tuple[bytes, str]], *, patient: bool, before: Sent) -> Sent:
        """Give texts of a batch a vector, each committed; return what was sent by now, with what was `before`.

        With patience, those that another job is sending at this moment are left to it. One that the model refuses takes
        no other along.

        Raises:
            InvalidRequest: it refuses one text after the other, and has accepted none before.
        """
        ours = await self._claimed(job, batch) if patient and batch else batch
        sent = before
        for request in await self._requests(ours):
            sent = await self._send_apart(job, request, sent)
        return sent

    async def _send_apart(self, job: Job, batch: Sequence[tuple[bytes, str]], before: Sent) -> Sent:
        """Send texts; if the model refuses them, each half by itself, and of a single one its beginning."""
        try:
            return replace(before, texts=before.texts + (await self._embed_batch(job, batch)).texts)
        except InvalidRequest as error:
            refusal = error
        if len(batch) > 1:
            middle = len(batch) // 2
            return await self._send_apart(job, batch[middle:], await self._send_apart(job, batch[:middle], before))
        ((text_hash, text),) = batch
        _log.warning("space.text_refused", space=self._embedder.space.key, text_hash=text_hash.hex())
        if await self._send_beginning(job, text_hash, text):
            return replace(before, texts=before.texts + 1, shortened=before.shortened | {text_hash})
        sent = replace(before, refused=before.refused | {text_hash})
        if not sent.texts and len(sent.refused) >= HOPELESS:
            raise refusal
        return sent

    async def _send_beginning(self, job: Job, text_hash: bytes, text: str) -> bool:
        """Give a text the vector of as much of its beginning as the model takes; say whether it takes any."""
        while text := text[: len(text) // 2].rstrip():
            with suppress(InvalidRequest):
                await self._embed_batch(job, [(text_hash, text)])
                return True
        return False

    async def _embed_batch(self, job: Job, batch: Sequence[tuple[bytes, str]]) -> Bill:
        """Send a batch, request by request: what one has brought is committed before the next can fail."""
        bill = Bill()
        for request in await self._requests(batch):
            bill += await super()._embed_batch(job, request)
        return bill

    async def _requests(self, batch: Sequence[tuple[bytes, str]]) -> list[Sequence[tuple[bytes, str]]]:
        sizes = await asyncio.to_thread(self._embedder.requests, [text for _, text in batch])
        return [batch[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]

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
            InvalidRequest: the model refuses all texts.
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
        sent = Sent(texts=state["sent"], refused=frozenset(map(bytes.fromhex, state["refused"])))
        moved_at = self._clock.monotonic()
        while True:
            passed = 0  # texts that were missing in this pass
            while missing := await self._store.missing(
                job.organization_id, space, after=bytes.fromhex(state["after"]), limit=TEXTS_PER_LOOK
            ):
                for start in range(0, len(missing), embedder.batch_size):
                    looked_at = missing[start : start + embedder.batch_size]
                    batch = [(text_hash, text) for text_hash, text in looked_at if text_hash not in sent.refused]
                    patient = self._clock.monotonic() - moved_at < PATIENCE_SECONDS
                    before, sent = sent, await work.send(job, batch, patient=patient, before=sent)
                    if sent.texts > before.texts:
                        moved_at = self._clock.monotonic()
                    passed += len(batch)
                    state |= {
                        "after": looked_at[-1][0].hex(),
                        "sent": sent.texts,
                        "cut": state["cut"] + _not_read_whole(batch, sent, embedder),
                        "refused": [text_hash.hex() for text_hash in sorted(sent.refused)],
                        "done": min(state["total"], state["done"] + sent.texts - before.texts),
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
        await self._end(job, space, state)

    async def _begin(self, job: Job, space: EmbeddingSpace) -> dict[str, Any]:
        state: dict[str, Any] = {"after": "", "sent": 0, "cut": 0, "refused": [], "full_pass": True}
        if job.checkpoint:
            return state | job.checkpoint | {"full_pass": False}
        texts, missing = await self._store.count(job.organization_id, space)
        state |= {"done": texts - missing, "total": texts}
        await self._tasks.save(job.lease, **_progress(state))
        return state

    async def _end(self, job: Job, space: EmbeddingSpace, state: dict[str, Any]) -> None:
        texts, missing = await self._store.count(job.organization_id, space)
        refused = min(len(state["refused"]), missing)  # those whose files are still there
        if refused and missing == texts:
            raise InvalidRequest("The model refuses all texts; look whether it is one for embeddings, of this size.")
        state |= {"total": texts, "done": texts - refused}
        await self._tasks.save(job.lease, **_progress(state))
        result = {"space": space.key, "texts": texts, "sent": state["sent"], "reused": texts - refused - state["sent"]}
        result |= {"longer_than_the_model_reads": state["cut"]} | ({"refused": refused} if refused else {})
        await self._tasks.finish(job.lease, result=result)


def _not_read_whole(batch: Sequence[tuple[bytes, str]], sent: Sent, embedder: Embedder) -> int:
    return sum(
        text_hash in sent.shortened or embedder.count_tokens(text) > embedder.max_tokens for text_hash, text in batch
    )


def _progress(state: dict[str, Any]) -> dict[str, Any]:
    return {"checkpoint": state, "done": state["done"], "total": state["total"], "unit": UNIT}
