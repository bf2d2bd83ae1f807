"""The road with four database users, each a member of only its service's role: nobody misses a right, nobody owns."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.plugins.logins import logins
from tests.plugins.postgres import PostgresServer
from tests.plugins.stack import ServiceProcess, Site, eventually, new_site

FIRST = b"The sluice gate is painted green every spring.\n"
SECOND = b"The sluice gate is painted orange every autumn.\n"


@pytest.fixture
def addresses(postgres_server: PostgresServer, migrated_template: str) -> Iterator[dict[str, str]]:
    """Give a database: the owner's address, and one for each service's user."""
    with postgres_server.database(migrated_template) as name, logins(postgres_server) as users:
        yield {"owner": postgres_server.dsn(name)} | {
            role.removeprefix("headrace_"): postgres_server.server.dsn(name, login) for role, login in users.items()
        }


@asynccontextmanager
async def api_of(process: ServiceProcess) -> AsyncIterator[aiohttp.ClientSession]:
    """Open a client of the api, as an administrator of the default organization."""
    async with aiohttp.ClientSession(process.address, raise_for_status=True) as session:
        yield session


async def ask(api: aiohttp.ClientSession, method: str, path: str, **body: Any) -> Any:
    """Make a request and return the answer."""
    async with api.request(method, f"/api/v1{path}", json=body if method == "POST" else None) as response:
        return await response.json()


async def found(api: aiohttp.ClientSession, query: str) -> list[str]:
    """Return the texts that a search finds."""
    return [hit["text"] for hit in (await ask(api, "POST", "/search", query=query))["hits"]]


@pytest.mark.slow
async def test_every_service_has_the_rights_it_needs(addresses: dict[str, str]) -> None:
    """Upload, overwrite, another owner, failure, retry, replay, delete, cancel, drift and recover are all allowed."""
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(new_site(addresses["owner"]))
        running = {
            name: await stack.enter_async_context(site.process(f"services.{name}", DATABASE_URL=addresses[name]))
            for name in ("ingest", "api", "recover")
        }
        api = await stack.enter_async_context(api_of(running["api"]))
        async with site.process("services.process", DATABASE_URL=addresses["process"]) as running["process"]:
            await upload_and_overwrite(site, api)
            await fail_retry_and_replay(site, api, addresses)
            await site.delete("gate.txt")
            await eventually(lambda: none_found(api))
            users = await site.rows(
                "select distinct usename::text from pg_stat_activity where application_name = 'headrace' "
                "and datname = current_database()"
            )
            assert "headrace" not in {row[0] for row in users}
            assert len(users) == 4
        await cancel(site, api)
        assert (await ask(api, "POST", "/admin/drift"))["errors"] == 0
        async with aiohttp.ClientSession(running["recover"].address) as recover, recover.post("/") as response:
            summary = await response.json()
            assert (summary["ok"], summary["errors"]) == (True, {})
        for name, process in running.items():
            assert "ermission denied" not in process.log, name
            assert "InsufficientPrivilege" not in process.log, name


async def upload_and_overwrite(site: Site, api: aiohttp.ClientSession) -> None:
    """Index a file, another version of it, and the same version for another owner and back."""
    await site.upload("gate.txt", FIRST)
    (job,) = await site.ended("gate.txt")
    assert job["status"] == "completed", job["error_message"]
    assert any("green" in text for text in await found(api, "When is the gate painted?"))
    await site.upload("gate.txt", SECOND)
    await eventually(lambda: is_live(site, "orange", "default"))
    texts = await found(api, "When is the gate painted?")
    assert any("orange" in text for text in texts)
    assert not any("green" in text for text in texts)
    await site.upload("gate.txt", SECOND, organization_id="acme")
    await eventually(lambda: is_live(site, "orange", "acme"))
    assert await found(api, "When is the gate painted?") == []
    await site.upload("gate.txt", SECOND)
    await eventually(lambda: is_live(site, "orange", "default"))


async def fail_retry_and_replay(site: Site, api: aiohttp.ClientSession, addresses: dict[str, str]) -> None:
    """A broken file fails, fails again when a person retries it, and again when its dead letter is replayed."""
    await site.upload("broken.pdf", b"%PDF-1.7 and nothing else")
    (job,) = await site.ended("broken.pdf")
    assert job["status"] == "failed"
    await ask(api, "POST", f"/admin/jobs/{job['id']}/retry")
    await eventually(lambda: has_failed(site, 2))
    (letter,) = (await ask(api, "GET", "/admin/dead-letters?state=open"))["letters"]
    batch = await ask(api, "POST", f"/admin/dead-letters/{letter['id']}/replay")
    assert batch["id"]
    await eventually(lambda: has_failed(site, 3))
    assert (await ask(api, "GET", "/admin/dead-letters/groups"))["groups"]
    summary = await site.recover_once(DATABASE_URL=addresses["recover"])
    assert (summary["ok"], summary["errors"]) == (True, {})
    assert {"rescue", "replays", "reconcile", "prune", "publish"} <= set(summary["duties"])
    assert (await ask(api, "GET", "/admin/jobs/stats"))["documents"] == 1
    await ask(api, "POST", f"/admin/dead-letters/{letter['id']}/discard", reason="not a file")


async def cancel(site: Site, api: aiohttp.ClientSession) -> None:
    """A person cancels a job that nobody works on."""
    await site.upload("waiting.txt", FIRST)
    job = await eventually(lambda: site.job("waiting.txt"))
    answer = await ask(api, "DELETE", f"/admin/jobs/{job['id']}")
    assert answer["status"] == "cancelled"


async def is_live(site: Site, word: str, organization_id: str) -> bool:
    """Say whether the visible passages hold a word and belong to an organization."""
    texts = await site.rows(
        "select c.text from chunks c join documents d on d.live_job_id = c.job_id "
        "where d.organization_id = $1 and c.organization_id = $1",
        organization_id,
    )
    return bool(texts) and all(word in row["text"] for row in texts)


async def has_failed(site: Site, times: int) -> bool:
    """Say whether the letter of the broken file has been raised so often."""
    return await site.value("select max(failures) from dead_letters where state = 'open'") == times


async def none_found(api: aiohttp.ClientSession) -> bool:
    """Say whether a search finds nothing any more."""
    return await found(api, "When is the gate painted?") == []
