"""While a file is overwritten again and again, whoever searches finds it: always one version, always a whole one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest
import structlog

from shared.ports.stores import SearchHit, SearchRequest
from tests.plugins.road import Road

OVERWRITES = 200
LINES = 4


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keep logs from being written: everything happens hundreds of times."""
    with structlog.testing.capture_logs():
        yield


def version(number: int) -> list[str]:
    """Return the lines of one version: each says which it belongs to, and one is in all of them."""
    return ["the gate stays", *(f"gate {line} of version {number}" for line in range(1, LINES))]


async def overwrite(road: Road, number: int, versions: dict[int, int]) -> None:
    """Write a version, remember its generation, and see it indexed."""
    live = road.bucket.put("manual.txt", "\n".join(version(number)).encode())
    versions[live.generation] = number
    await road.notify("manual.txt")
    assert (await road.ring()).name == "done"


async def found(road: Road) -> list[SearchHit]:
    """Search as the api does."""
    made = await road.embedder.embed(["gate"], purpose="query")
    return await road.index.search(
        SearchRequest(text="gate", vector=made.vectors[0], space=road.embedder.space, organization_id="acme", limit=50)
    )


async def test_a_search_during_an_overwrite_finds_exactly_one_version(road: Road) -> None:
    """A poller runs through 200 overwrites: never nothing, never two versions, never half of one."""
    versions: dict[int, int] = {}
    await overwrite(road, 0, versions)
    over = asyncio.Event()
    seen: Counter[int] = Counter()
    wrong: list[object] = []

    async def poll() -> None:
        while not over.is_set():
            hits = sorted(await found(road), key=lambda hit: hit.ordinal)
            generations = {hit.generation for hit in hits}
            texts = [hit.text for hit in hits]
            number = versions.get(next(iter(generations), None), -1)
            if len(generations) != 1 or texts != version(number):
                wrong.append((generations, texts))
            seen[number] += 1

    async with asyncio.TaskGroup() as group:
        group.create_task(poll())
        for number in range(1, OVERWRITES + 1):
            await overwrite(road, number, versions)
        over.set()
    assert wrong == []
    # The poller was there all the time: it saw a good part of the versions, from early ones to late ones.
    assert len(seen) > OVERWRITES / 4, seen
