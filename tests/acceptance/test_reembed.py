"""Another embedding space on real services: filled through a kill -9, compared, switched to, the old one dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from services.ingest.app import build as build_ingest
from services.ingest.settings import IngestSettings
from tests.acceptance.blockade import blockade, counting
from tests.plugins.model_server import DIMENSIONS, ModelServer
from tests.plugins.stack import Site, eventually

LEASE_SECONDS = 60
BATCH = 8
SECTIONS = 15
OLD = f"gemini-embedding-001/{DIMENSIONS}/cosine/RETRIEVAL_DOCUMENT/n1"
NEW = f"gemini-embedding-002/{DIMENSIONS}/cosine/RETRIEVAL_DOCUMENT/n1"
SPACES = "/api/v1/admin/spaces"


def manual(what: str) -> bytes:
    """Write a file of sections that are each a chunk with its own text."""
    return "\n\n".join(
        f"# {what} {number}\n\n{what} number {number} opens at {number} bar." for number in range(SECTIONS)
    ).encode()


class Client:
    """Asks the api, and searches all the time in the background."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self.seen: list[str] = []
        """The space of each answer of the poller."""

    async def ask(self, method: str, path: str, body: dict[str, object] | None = None) -> tuple[int, Any]:
        async with self._session.request(method, path, json=body) as response:
            return response.status, await response.json()

    async def found(self, query: str) -> tuple[str, list[str]]:
        status, answer = await self.ask("POST", "/api/v1/search", {"query": query, "limit": 5})
        assert status == 200, answer
        return answer["space"], [hit["name"] for hit in answer["hits"]]

    @asynccontextmanager
    async def polling(self) -> AsyncIterator[None]:
        async def poll() -> None:
            while True:
                space, names = await self.found("Valve number 3 opens at 3 bar.")
                assert "valves.md" in names, (space, names)
                self.seen.append(space)

        async with asyncio.TaskGroup() as group:
            poller = group.create_task(poll())
            yield
            poller.cancel()

    async def seen_more(self) -> None:
        """Wait until the poller has had two more answers: the second was asked for after this call."""
        until = len(self.seen) + 2

        async def look() -> bool:
            return len(self.seen) >= until

        await eventually(look)


async def test_a_space_is_filled_and_switched_to_while_search_answers(site: Site, model: ModelServer) -> None:
    """No file is read again, each text is sent once (the batch of a killed worker twice), and search never pauses."""
    said = model.environment() | {"GEMINI_EMBEDDING_BATCH_SIZE": BATCH}
    async with (
        site.service(build_ingest, IngestSettings),
        site.process("services.api", **said) as api,
        aiohttp.ClientSession(api.address) as session,
    ):
        client = Client(session)
        async with site.process("services.process", **said) as first:
            await site.upload("valves.md", manual("Valve"))
            await site.upload("pumps.md", manual("Pump"))
            jobs = await site.ended("valves.md", "pumps.md")
            assert {job["status"] for job in jobs} == {"completed"}
            texts = {row["text"] for row in await site.rows("select text from chunks")}
            assert set(model.paid) >= texts
            model.paid.clear()

            async with client.polling():
                second_batch = f"(select count(*) from embeddings where space_id > 1) >= {BATCH} and new.space_id > 1"
                async with blockade(site, "embeddings", "insert", second_batch) as blocked:
                    status, filling = await client.ask(
                        "POST", SPACES, {"model": "gemini-embedding-002", "dimensions": DIMENSIONS}
                    )
                    assert (status, filling["space"], filling["started"]) == (200, NEW, 1), filling
                    await blocked.held()
                    status, answer = await client.ask("POST", f"{SPACES}/{filling['id']}/switch", {})
                    assert (status, answer["code"]) == (400, "SPACE_INCOMPLETE")
                    await first.child.kill9()
                    await blocked.lift()
                status, again = await client.ask("POST", SPACES, {"space": NEW})
                assert (again["jobs"], again["started"]) == (filling["jobs"], 0)

        await site.shift_clock(LEASE_SECONDS + 1)
        assert (await site.recover_once())["duties"]["rescue"]["rescued"] == 1
        async with (
            counting(site, "chunks") as chunks_written,
            site.process("services.process", **said),
            client.polling(),
        ):
            task = await ended(site, filling["jobs"][0])
            assert (task["status"], task["result"] is not None, task["rescue_count"]) == ("completed", True, 1), task
            assert (task["progress_done"], task["progress_total"]) == (len(texts), len(texts))
            sent = {text: count for text, count in model.paid.items() if text in texts}
            assert set(sent) == texts
            assert set(sent.values()) <= {1, 2}
            assert sum(count == 2 for count in sent.values()) <= BATCH

            assert await chunks_written() == 0, "no file was read again"
            await site.upload("late.md", manual("Late lock"))
            await site.ended("late.md")
            both = "select count(distinct space_id) from embeddings join chunks using (text_hash) where text ~ 'Late'"
            assert await site.value(both) == 2

            status, overlap = await client.ask("POST", f"{SPACES}/{filling['id']}/check", {"nearest": 5})
            assert (status, overlap["mean"]) == (200, 1.0), overlap
            assert overlap["compared"] > 10
            await client.seen_more()
            assert set(client.seen) == {OLD}
            status, _ = await client.ask("POST", f"{SPACES}/{filling['id']}/switch", {"min_overlap": 0.9})
            assert status == 200
            await client.seen_more()
            assert client.seen[-1] == NEW
            assert client.seen == sorted(client.seen), "once switched, no answer is of the old space"
            status, _ = await client.ask("DELETE", f"{SPACES}/1")
            assert status == 200
            await client.seen_more()
            status, left = await client.ask("GET", SPACES)
            assert [(space["space"], space["state"]) for space in left["spaces"]] == [(NEW, "active")]
            assert (await client.found("Late lock number 3 opens at 3 bar."))[0] == NEW

            await site.upload("after.md", manual("After"))
            (after,) = await site.ended("after.md")
            assert after["status"] == "completed"
            assert await site.value("select count(distinct space_id) from embeddings") == 1


async def ended(site: Site, job_id: str) -> Any:
    """Wait until a task has ended."""

    async def look() -> Any:
        found = await site.rows(
            "select * from document_processing_jobs where id = $1 and completed_at is not null", job_id
        )
        return found[0] if found else None

    return await eventually(look)
