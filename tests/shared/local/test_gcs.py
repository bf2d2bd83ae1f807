"""The embedded Cloud Storage: persistent, confined to its folder, back under the same address."""

from __future__ import annotations

import signal
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest

from shared.local.confine import landlock_version
from shared.local.gcs import EmbeddedStorage

NOBODY_LISTENS = "127.0.0.1:1"


def storage(root: Path) -> EmbeddedStorage:
    """Describe a server whose events go nowhere."""
    return EmbeddedStorage(
        root, pubsub_address=NOBODY_LISTENS, project="demo", topic="headrace-uploads", buckets=["uploads", "more"]
    )


async def put(url: str, name: str, content: bytes) -> int:
    """Upload one object and return the status of the answer."""
    target = f"{url}/upload/storage/v1/b/uploads/o?uploadType=media&name={quote(name, safe='')}"
    async with aiohttp.ClientSession() as session, session.post(target, data=content) as answer:
        return answer.status


async def get(url: str, name: str) -> bytes:
    """Download one object."""
    target = f"{url}/storage/v1/b/uploads/o/{quote(name, safe='')}?alt=media"
    async with aiohttp.ClientSession(raise_for_status=True) as session, session.get(target) as answer:
        return await answer.read()


async def test_objects_survive_a_restart_and_a_kill(tmp_path: Path) -> None:
    """What was uploaded is there after kill -9 at the same address, and in the next run at another one."""
    async with storage(tmp_path / "gcs") as server:
        url = server.url
        assert await put(url, "in/a.txt", b"kept") == 200
        await server.kill9()
        assert await server.wait_ended() == -signal.SIGKILL
        await server.start()
        assert server.url == url
        assert await get(url, "in/a.txt") == b"kept"
    async with storage(tmp_path / "gcs") as server:
        assert await get(server.url, "in/a.txt") == b"kept"


async def test_the_buckets_are_there_from_the_start(tmp_path: Path) -> None:
    """Every named bucket answers, also when it existed before."""
    for _ in range(2):
        async with (
            storage(tmp_path / "gcs") as server,
            aiohttp.ClientSession(server.url, raise_for_status=True) as session,
        ):
            for bucket in ("uploads", "more"):
                async with session.get(f"/storage/v1/b/{bucket}") as answer:
                    assert (await answer.json())["name"] == bucket


@pytest.mark.skipif(not landlock_version(), reason="this kernel cannot confine a process (no Landlock)")
@pytest.mark.parametrize("name", ["../../../escaped.txt", "a/../../../../escaped.txt"])
async def test_an_object_name_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    """Uploading a name that climbs out fails, and nothing appears outside."""
    async with storage(tmp_path / "data" / "gcs") as server:
        assert await put(server.url, name, b"x") >= 400
        assert await put(server.url, "harmless.txt", b"x") == 200
    assert not list(tmp_path.rglob("*escaped*"))
