"""Messages that Pub/Sub itself gives up on, with real processes: from its policy to the end of the letter."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.address import Address, published
from shared.ports.dead_letters import UNDELIVERABLE
from tests.infra.test_gcloud import BLOCKS, PATIENCE_SECONDS, with_gcloud
from tests.plugins.stack import Site, eventually

pytestmark = pytest.mark.slow

POISON = ["poison-1.txt", "poison-2.txt"]
HEALTHY = [f"healthy-{number}.txt" for number in range(3)]
ATTEMPTS = 5
PATH = "/api/v1/admin/dead-letters"


class Desk:
    """An operator with the command line, the api and gcloud, in front of four processes."""

    def __init__(self, site: Site, api: aiohttp.ClientSession, recover: aiohttp.ClientSession) -> None:
        self.site, self._api, self._recover = site, api, recover

    async def shown(self) -> dict[str, dict[str, Any]]:
        """Return the letters that the api lists, by the object that they are about."""
        async with self._api.get(PATH, params={"state": "open"}) as response:
            assert response.status == 200
            letters = (await response.json())["letters"]
        return {letter["attributes"]["objectId"]: letter for letter in letters}

    async def groups(self) -> list[dict[str, Any]]:
        """Return the causes that the api shows."""
        async with self._api.get(f"{PATH}/groups") as response:
            groups: list[dict[str, Any]] = (await response.json())["groups"]
        return groups

    async def run_recover(self) -> None:
        """Make a run, as the scheduler does."""
        async with self._recover.post("/") as response:
            summary = await response.json()
        assert summary["ok"], summary

    async def died(self, times: dict[str, int]) -> dict[str, dict[str, Any]]:
        """Let recover run until each object's letter is open and has failed so often; return the letters."""

        async def look() -> dict[str, dict[str, Any]] | None:
            await self.run_recover()
            letters = await self.shown()
            return letters if {name: letter["failures"] for name, letter in letters.items()} == times else None

        return await eventually(look)


@asynccontextmanager
async def poisoned(site: Site) -> AsyncIterator[Desk]:
    """Run the four services; ingest cannot record some files, whatever it does, and Pub/Sub gives up on those."""
    await site.rows(
        "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'a bug'; end $$"
    )
    await site.rows(
        "create trigger refuse before insert on documents for each row when (new.name like 'poison%')"
        " execute function refuse()"
    )
    await site.undeliverable_after("uploads-ingest", ATTEMPTS)
    async with AsyncExitStack() as stack:
        recover, api, _, _ = [
            await stack.enter_async_context(site.process(f"services.{name}", RECONCILE_EVERY_SECONDS=10**9))
            for name in ("recover", "api", "process", "ingest")
        ]
        sessions = [
            await stack.enter_async_context(aiohttp.ClientSession(service.address)) for service in (api, recover)
        ]
        address = Address(
            pid=os.getpid(), api=api.address, recover=recover.address, storage="http://127.0.0.1:1", project="p",
            bucket="b",
        )  # fmt: skip
        stack.enter_context(published(address, site.folder))
        desk = Desk(site, *sessions)
        await desk.run_recover()  # compares bucket and index once; from now on only letters bring anything back
        for name in [*POISON, *HEALTHY]:
            await site.upload(name, f"The gate of {name} closes in 75 seconds.".encode())
        await site.ended(*HEALTHY)
        yield desk


async def mend(site: Site) -> None:
    """Remove the cause."""
    await site.rows("drop trigger refuse on documents")


async def test_a_poison_message_is_listed_grouped_and_replayed_as_one_letter(site: Site) -> None:
    """Forwarded after its attempts, sent back once by recover and once by a person: the same letter, a higher count."""
    async with poisoned(site) as desk:
        # The first death, and a second one after the replay that nobody has to ask for.
        letters = await desk.died(dict.fromkeys(POISON, 2))
        poison = letters[POISON[0]]
        assert (poison["origin"], poison["code"], poison["deliveries"]) == ("message", UNDELIVERABLE, ATTEMPTS)
        assert (poison["subscription"], poison["replays"]) == ("uploads-ingest", 1)
        (group,) = await desk.groups()
        assert (group["code"], group["count"]) == (UNDELIVERABLE, len(POISON))

        listed = [json.loads(line) for line in (await site.command("dead-letters", "list", "--json")).splitlines()]
        assert {letter["id"] for letter in listed} == {letter["id"] for letter in letters.values()}
        assert UNDELIVERABLE in await site.command("dead-letters", "groups")
        assert POISON[0] in await site.command("dead-letters", "show", poison["id"])

        await site.command("dead-letters", "replay", poison["id"])
        again = await desk.died({POISON[0]: 3, POISON[1]: 2})
        assert {name: letter["id"] for name, letter in again.items()} == {
            name: letter["id"] for name, letter in letters.items()
        }
        assert await site.value("select count(*) from dead_letters") == len(POISON)

        await mend(site)
        await site.command("dead-letters", "replay", poison["id"])
        await site.ended(POISON[0])
        assert set(await desk.died({POISON[1]: 2})) == {POISON[1]}
        assert await site.value("select resolution from dead_letters where id = $1::uuid", poison["id"]) == "handled"


@with_gcloud
async def test_a_poison_message_is_replayed_by_gcloud_through_the_replay_topic(site: Site, tmp_path: Path) -> None:
    """The page's command asks for one letter: it dies again as itself, and is resolved once the cause is gone."""
    async with poisoned(site) as desk:
        letters = await desk.died(dict.fromkeys(POISON, 2))
        letter_id = letters[POISON[0]]["id"]
        await gcloud(site, tmp_path, "replay-one", DEAD_LETTER_ID=letter_id)
        again = await desk.died({POISON[0]: 3, POISON[1]: 2})
        assert again[POISON[0]]["id"] == letter_id
        await mend(site)
        await gcloud(site, tmp_path, "replay-one", DEAD_LETTER_ID=letter_id)
        await desk.died({POISON[1]: 2})
        await site.ended(POISON[0])


async def gcloud(site: Site, folder: Path, block: str, **variables: str) -> None:
    """Run a block of docs/operations.md against the site's broker."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "CLOUDSDK_CONFIG": str(folder / "gcloud"),
        "CLOUDSDK_CORE_PROJECT": site.servers.project,
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB": f"http://{site.servers.broker.address}/",
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
    }
    shell = await asyncio.create_subprocess_exec(
        "bash", "-euo", "pipefail", "-c", BLOCKS[block], env=environment | variables, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        _, complaints = await shell.communicate()
    assert shell.returncode == 0, complaints.decode()
