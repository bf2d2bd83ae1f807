"""All four services in one process, as a laptop runs them."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import asyncpg

from services.laptop import everything
from shared.local.stack import running_environment


async def test_each_service_has_its_own_database_user() -> None:
    """On a laptop too no service logs in as the owner of the tables, and each is in its own role only."""
    with TemporaryDirectory(prefix="headrace-tests-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        async with everything(folder / "data", durable=False) as address:
            environment = running_environment(folder / "data")
            assert environment is not None
            async with aiohttp.ClientSession(address.recover) as recover, recover.post("/") as response:
                assert (await response.json())["errors"] == {}
            connection = await asyncpg.connect(environment["DATABASE_URL"])
            try:
                found = await connection.fetch(
                    """select distinct usename::text, array(
                         select roleid::regrole::text from pg_auth_members where member = usesysid) as roles
                       from pg_stat_activity where application_name = 'headrace' order by usename"""
                )
            finally:
                await connection.close()
    assert {row["usename"]: row["roles"] for row in found} == {
        f"laptop_{service}": [f"headrace_{service}"] for service in ("api", "ingest", "process", "recover")
    }
