"""While a file is overwritten again and again, whoever asks the api finds it: always one whole version."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from services.api.app import build as build_api
from services.api.settings import ApiSettings
from services.ingest.app import build as build_ingest
from services.ingest.settings import IngestSettings
from services.process.app import build as build_process
from services.process.settings import ProcessSettings
from tests.plugins.model_server import ModelServer
from tests.plugins.stack import Site, eventually

# The SDK's own class, which we cannot change.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
]

OVERWRITES = 200
SECTIONS = 4
QUESTIONS = {
    "words and vector": {"query": "which sluice opens?", "limit": 50},
    "vector alone": {"query": "nothing of all this", "limit": 50},
}
_TEXT = re.compile(r"Sluice (\d+) opens in version (\d+)")


def manual(version: int) -> bytes:
    """Write one version, of which each section is a passage that says where it belongs."""
    return "\n\n".join(f"# Part {n}\n\nSluice {n} opens in version {version}." for n in range(SECTIONS)).encode()


def wrong(hits: list[dict[str, Any]]) -> str | None:
    """Say what is wrong with an answer; None if it is one version, whole."""
    found = [match.groups() for hit in hits if (match := _TEXT.search(hit["text"]))]
    versions = {version for _, version in found}
    if not hits:
        return "nothing"
    if len(versions) > 1 or len({hit["generation"] for hit in hits}) > 1:
        return f"versions {sorted(versions)}"
    if sorted(section for section, _ in found) != [str(number) for number in range(SECTIONS)]:
        return f"sections {found}"
    return None


async def test_a_search_through_the_api_finds_exactly_one_version(site: Site, model: ModelServer) -> None:
    """A poller runs through 200 overwrites, by words and by vector: never nothing, never two versions, never a half."""
    seen: dict[str, set[str]] = {kind: set() for kind in QUESTIONS}
    faults: Counter[tuple[str, str]] = Counter()
    over = asyncio.Event()

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(site.service(build_ingest, IngestSettings))
        await stack.enter_async_context(site.service(build_process, ProcessSettings, **model.environment()))
        address = await stack.enter_async_context(site.service(build_api, ApiSettings, **model.environment()))
        api = await stack.enter_async_context(aiohttp.ClientSession(address))

        async def ask(kind: str) -> list[dict[str, Any]]:
            async with api.post("/api/v1/search", json=QUESTIONS[kind]) as response:
                answer = await response.json()
                assert response.status == 200, answer
            hits: list[dict[str, Any]] = answer["hits"]
            return hits

        async def poll() -> None:
            while not over.is_set():
                for kind in QUESTIONS:
                    hits = await ask(kind)
                    if fault := wrong(hits):
                        faults[kind, fault] += 1
                    seen[kind] |= {match[2] for hit in hits if (match := _TEXT.search(hit["text"]))}

        async def overwrite(version: int) -> None:
            await site.upload("manual.md", manual(version))

            async def done() -> bool:
                ended = "select count(*) from document_processing_jobs where name = 'manual.md' and status ="
                return bool(await site.value(f"{ended} 'completed'") == version + 1)

            await eventually(done)

        await overwrite(0)
        assert all(hit["text_score"] for hit in await ask("words and vector"))
        assert not any(hit["text_score"] for hit in await ask("vector alone"))
        async with asyncio.TaskGroup() as group:
            group.create_task(poll())
            for version in range(1, OVERWRITES + 1):
                await overwrite(version)
            over.set()
    assert not faults, faults
    # The pollers were there all the time: they saw a good part of the versions.
    assert min(map(len, seen.values())) > OVERWRITES / 4, {kind: len(versions) for kind, versions in seen.items()}
