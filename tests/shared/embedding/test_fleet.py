"""Several processes and one model: what they may use of it together is kept, also when one of them dies."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest
from aiohttp import web

from shared.postgres.pool import open_database
from tests.plugins.fleet_member import MODEL
from tests.plugins.model_server import Call, ModelServer, good, model_server

# The SDK's own class, which we cannot change.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

ROOT = Path(__file__).parents[3]
PATIENCE_SECONDS = 120


async def start(name: str, database_url: str, model: ModelServer, quota: dict[str, float], texts: int) -> Process:
    """Start one process of the fleet."""
    task = {"name": name, "database_url": database_url, "model_url": model.url, "quota": quota, "texts": texts}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.plugins.fleet_member", json.dumps(task)),
        stdout=PIPE,
        env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=ROOT,
    )


async def finished(*processes: Process) -> int:
    """Return how many calls the processes made in all, once each has ended well."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        outputs = [(await process.communicate())[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return sum(int(output.split()[-1]) for output in outputs)


async def test_three_processes_keep_one_quota_of_requests(database_url: str) -> None:
    """Their calls together stay within a tenth of the quota, and the model, which allows little more, is never hurt."""
    per_second, texts = 10, 15
    async with model_server() as model:
        model.allowance_per_second = per_second * 1.5
        quota = {"requests_per_minute": per_second * 60}
        fleet = [await start(f"member-{number}", database_url, model, quota, texts) for number in range(3)]
        calls = await finished(*fleet)
        assert calls == len(model.calls)
        assert model.statuses()[200] == 3 * texts
        passed_seconds = model.calls[-1].at - model.calls[0].at
        assert len(model.calls) - 1 <= passed_seconds * per_second * 1.1
        assert model.statuses()[429] <= 3 * texts * 0.1
        assert model.repeated == {}


@pytest.mark.slow
async def test_three_processes_keep_to_what_a_model_allows_that_told_nobody(database_url: str) -> None:
    """Without a quota, what the model says with 429 and RetryInfo is enough: hardly more calls than it allows."""
    async with model_server() as model:
        model.allowance_per_second = 5
        fleet = [await start(f"member-{number}", database_url, model, {}, 15) for number in range(3)]
        await finished(*fleet)
        statuses = model.statuses()
        assert statuses[200] == 45
        passed_seconds = model.calls[-1].at - model.calls[0].at
        # Those under way at the first refusal could not know of it.
        burst = sum(call.at - model.calls[0].at < 1 for call in model.calls)
        assert len(model.calls) <= burst + passed_seconds * model.allowance_per_second * 1.1
        assert model.repeated == {}


async def test_what_a_dead_process_held_is_free_again(database_url: str) -> None:
    """Never more calls than two are under way; those of a killed process count until they would be over, then not."""
    arrived = asyncio.Queue[None]()
    under_way, most = 0, 0

    async def answer(server: ModelServer, call: Call) -> web.StreamResponse:
        nonlocal under_way, most
        arrived.put_nowait(None)
        if call.texts[0].startswith("dying"):
            await server.released.wait()
        under_way += 1
        most = max(most, under_way)
        try:
            await asyncio.sleep(0)  # whoever else is here may come in
            return await good(server, call)
        finally:
            under_way -= 1

    quota = {"concurrency": 2}
    async with model_server() as model, open_database(database_url, size=2) as database:
        model.answer = answer
        dying = await start("dying", database_url, model, quota, 6)
        async with asyncio.timeout(PATIENCE_SECONDS):
            for _ in range(2):
                await arrived.get()
        dying.kill()
        await dying.communicate()
        async with database.get_connection() as connection:
            assert await connection.fetchval("select count(*) from model_calls where model = $1", MODEL) == 2
            assert len(model.calls) == 2
            # As if the longest time that a call may take had passed.
            await connection.execute("update model_calls set until = until - interval '1 hour'")
        assert await finished(await start("living", database_url, model, quota, 10)) == 10
        async with database.get_connection() as connection:
            assert await connection.fetchval("select count(*) from model_calls") == 0
    assert most <= 2
