"""A text that is on its way to the model is not sent a second time, and nobody waits for somebody who is gone."""

from __future__ import annotations

import asyncio

import pytest

from services.process import document
from shared.errors import DependencyUnavailable
from shared.model.outcome import Outcome
from shared.postgres.prune import PostgresPruningStore
from tests.plugins.road import Road

PATIENCE_SECONDS = 30.0
LINES = b"one\ntwo\nthree"


class HeldModel:
    """Holds the road's model at its first call, and tells when a job finds its texts claimed by another."""

    def __init__(self, road: Road) -> None:
        self.reached, self.go_on, self.refused = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.error: Exception | None = None
        embed, claim = road.embedder.embed, road.queue.claim_texts

        async def held_embed(*arguments: object, **named: object) -> object:
            if not self.reached.is_set():
                self.reached.set()
                await self.go_on.wait()
                if self.error is not None:
                    raise self.error
            return await embed(*arguments, **named)

        async def watched_claim(*arguments: object) -> set[bytes]:
            claimed = await claim(*arguments)
            if not claimed:
                self.refused.set()
            return claimed

        road.embedder.embed = held_embed
        road.queue.claim_texts = watched_claim


async def two_files(road: Road) -> tuple[asyncio.Task[Outcome], asyncio.Task[Outcome], HeldModel]:
    """Have two workers at two files with the same lines: the first stands at the model, the second waits for it."""
    for name in ("a.txt", "b.txt"):
        road.bucket.put(name, LINES)
        await road.notify(name)
    model = HeldModel(road)
    first = asyncio.create_task(road.ring())
    await model.reached.wait()
    second = asyncio.create_task(road.ring())
    await model.refused.wait()
    assert not second.done()
    return first, second, model


async def test_the_same_text_in_two_jobs_at_once_is_paid_for_once(road: Road) -> None:
    """The second job waits for the vectors of the first, and completes with them."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        first, second, model = await two_files(road)
        model.go_on.set()
        assert [(await task).name for task in (first, second)] == ["done", "done"]
    assert sorted(road.embedder.texts) == ["one", "three", "two"]
    assert await road.in_step()
    assert await road.value("select count(*) from embedding_claims") == 0


async def test_texts_of_an_attempt_that_failed_are_anybodys(road: Road) -> None:
    """The first job's call fails: it goes back to the queue, and the second sends the texts at once."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        first, second, model = await two_files(road)
        model.error = DependencyUnavailable()
        model.go_on.set()
        assert [(await task).name for task in (first, second)] == ["retrying", "done"]
    await road.shift_clock(61)
    await road.work_off()
    assert sorted(road.embedder.texts) == ["one", "three", "two"]
    assert await road.in_step()


async def test_texts_of_a_dead_worker_are_anybodys_once_its_lease_is_over(road: Road) -> None:
    """A worker that died in the middle of a call holds others up no longer than its lease lasts."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        first, second, model = await two_files(road)
        await road.fetch(
            "update document_processing_jobs set lease_until = headrace_now() - interval '1 second' "
            "where name = 'a.txt'"
        )
        assert (await second).name == "done"
        model.go_on.set()
        await first  # not dead after all: what it has is there already, and does no harm
    assert await road.visible("b.txt") == ["one", "two", "three"]


async def test_patience_has_an_end(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing comes of waiting for a worker that lives, the texts are sent a second time."""
    monkeypatch.setattr(document, "PATIENCE_SECONDS", 0.3)
    async with asyncio.timeout(PATIENCE_SECONDS):
        first, second, model = await two_files(road)
        assert (await second).name == "done"
        model.go_on.set()
        assert (await first).name == "done"
    assert len(road.embedder.texts) == 6


async def test_claims_that_are_worth_nothing_are_removed(road: Road) -> None:
    """What failed attempts leave behind goes with the next pruning; claims of work in hand stay."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        first, second, model = await two_files(road)
        store = PostgresPruningStore(road.database)
        assert await store.prune_claims(limit=100) == 0
        model.error = DependencyUnavailable()
        model.go_on.set()
        await first
        await second
    road.bucket.put("c.txt", b"four")
    await road.notify("c.txt")
    road.embedder.errors = [DependencyUnavailable()]
    await road.ring()
    assert await road.value("select count(*) from embedding_claims") == 1
    assert await store.prune_claims(limit=100) == 1
