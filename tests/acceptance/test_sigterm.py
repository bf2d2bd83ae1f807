"""SIGTERM under load: what was in hand is not lost, what was committed not repeated, and every caller is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from services.ingest.app import build as build_ingest
from services.ingest.settings import IngestSettings
from shared.events.catalogue import WorkBell
from shared.events.envelope import attributes_of, body_of
from shared.model.job import Lane
from tests.acceptance.pushing import Signer, publishing, push_settings, wrapped
from tests.plugins.model_server import Call, ModelServer, good
from tests.plugins.stack import ServiceProcess, Site, eventually

# The SDK's own class, which we cannot change.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

SECTIONS, TEXTS_PER_CALL = 33, 32
IN_FLIGHT, OWNERS = 200, ("acme", "zenith")
"""The first fifty jobs of each owner are interactive, the others are bulk: more or less, as uploads at once cannot see
each other while they are counted."""

WORKERS, AT_ONCE = 2, 65
"""Of each lane a worker holds as many bells as jobs it may have in hand (one less of the bulk lane): enough for both
lanes, also when a few more than half of the jobs are interactive."""

CALLS_AT_ONCE = 8
"""Of a worker, to the model."""


def manual(name: str) -> bytes:
    """Write a file of more short sections than fit into one call to the model."""
    return "\n\n".join(
        f"# Valve {number}\n\nValve {number} of {name} opens at {number} bar." for number in range(SECTIONS)
    ).encode()


async def second_calls_hang(server: ModelServer, call: Call) -> web.StreamResponse:
    """Answer whole batches, and let the rest of each file wait until the test lets go."""
    if len(call.texts) < TEXTS_PER_CALL:
        await server.released.wait()
    return await good(server, call)


async def jobs_by_state(site: Site) -> dict[tuple[str, int, int], int]:
    """Count the jobs by status, attempts and rescues."""
    rows = await site.rows(
        "select status, attempts, rescue_count, count(*) as number from document_processing_jobs group by 1, 2, 3"
    )
    return {(row["status"], row["attempts"], row["rescue_count"]): row["number"] for row in rows}


@pytest.mark.slow
async def test_two_hundred_messages_in_flight_survive_sigterm(site: Site, model: ModelServer) -> None:
    """Two workers that hold 200 bells are told to stop: both end with 0, and every job is handed back uncharged.

    The workers after them complete every file; no text that was answered is sent again, and each chunk is there once.
    """
    names = {f"{owner}/valves-{number}.md": owner for owner in OWNERS for number in range(IN_FLIGHT // len(OWNERS))}
    model.answer = second_calls_hang
    async with site.service(build_ingest, IngestSettings):
        for name, owner in names.items():
            await site.upload(name, manual(name), organization_id=owner)
        await has_jobs(site, {("pending", 0, 0): IN_FLIGHT})
        async with workers(site, model, PROCESS_CONCURRENCY=AT_ONCE) as processes:

            async def held() -> bool:
                calls = {tuple(call.texts) for call in model.calls if len(call.texts) < TEXTS_PER_CALL}
                return len(calls) == WORKERS * CALLS_AT_ONCE and await jobs_by_state(site) == {
                    ("processing", 1, 0): WORKERS * AT_ONCE,
                    ("pending", 0, 0): IN_FLIGHT - WORKERS * AT_ONCE,
                }

            async def in_flight() -> bool:
                return await are_held(site, "work-interactive", "work-bulk")

            await eventually(held, within_seconds=80)  # after ninety, a call that hangs is given up
            await eventually(in_flight)
            for process in processes:
                process.terminate()
            assert [await ended(process) for process in processes] == [0] * WORKERS
        assert await jobs_by_state(site) == {("pending", 0, 0): IN_FLIGHT}
        assert await site.value("select count(*) from embeddings") == model.paid.total() > 0
        model.answer = good
        async with workers(site, model):
            jobs = await site.ended(*names, within_seconds=300)
    assert {(job["status"], job["attempts"], job["rescue_count"]) for job in jobs} == {("completed", 1, 0)}
    assert set(model.paid.values()) == {1}
    assert len(model.paid) == IN_FLIGHT * SECTIONS
    shown = await site.rows(
        "select count(*) as number, count(distinct c.ordinal) as places "
        "from documents d left join chunks c on c.job_id = d.live_job_id group by d.id"
    )
    assert [(row["number"], row["places"]) for row in shown] == [(SECTIONS, SECTIONS)] * IN_FLIGHT
    assert await site.value("select count(*) from dead_letters") == 0
    ledgers = await site.rows("select count(*) - max(seq) as gaps from job_events group by job_id")
    assert [row["gaps"] for row in ledgers] == [0] * IN_FLIGHT


@asynccontextmanager
async def workers(site: Site, model: ModelServer, **said: object) -> AsyncIterator[list[ServiceProcess]]:
    """Run process services as processes."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                site.process("services.process", WORKER_NAME=f"worker-{number}", **model.environment(), **said)
            )
            for number in range(WORKERS)
        ]


async def are_held(site: Site, *subscriptions: str) -> bool:
    """Say whether nothing is left to be pulled: every bell is held by somebody. One that was not is rung again."""
    for subscription in subscriptions:
        async with site.subscriber(subscription) as take:
            try:
                async with asyncio.timeout(1):  # what is there comes at once
                    left = await take()
            except TimeoutError:
                continue
        for bell in left:
            await site.publish("work", bell.data, dict(bell.attributes))
        if left:
            return False
    return True


async def has_jobs(site: Site, states: dict[tuple[str, int, int], int]) -> None:
    """Wait until there are just these jobs, by status, attempts and rescues."""

    async def look() -> bool:
        return await jobs_by_state(site) == states

    await eventually(look)


async def ended(worker: ServiceProcess) -> int:
    """Wait for the end of a process, which was told to; far longer than it may take, since the code says it all."""
    async with asyncio.timeout(60):  # one that is killed from within, after its grace time, ends with 1
        return await worker.child.wait_ended()


@asynccontextmanager
async def pushed_to(site: Site, model: ModelServer, **more: object) -> AsyncIterator[tuple[ServiceProcess, Signer]]:
    """Run ingest here and process as a process that is pushed to, by a test that holds a good key."""
    signer = Signer()
    async with publishing(signer) as keys, site.service(build_ingest, IngestSettings):
        said = model.environment() | push_settings(site, "process") | {"PUSH_CERTS_URL": keys.url} | more
        async with site.process("services.process", **said) as process:
            yield process, signer


async def ring(process: ServiceProcess, signer: Signer) -> int:
    """Push a bell; return the status of the answer."""
    bell = WorkBell(lane=Lane.INTERACTIVE)
    body = wrapped("work-interactive", body_of(bell), **attributes_of(bell))
    headers = {"Authorization": f"Bearer {signer.token(aud='headrace-process')}"}
    url = f"{process.address}/push/work-interactive"
    async with aiohttp.ClientSession() as session, session.post(url, json=body, headers=headers) as response:
        return response.status


@pytest.mark.parametrize("in_time", [True, False])
async def test_pushes_in_flight_are_answered_at_sigterm(site: Site, model: ModelServer, in_time: bool) -> None:
    """Work that ends within the grace time is acked; the rest is handed back uncharged and its push refused."""
    names = ["a.md", "b.md", "c.md"]
    model.answer = second_calls_hang
    # Short where time has to run out; as long as it may be where it must not.
    async with pushed_to(site, model, DRAIN_SECONDS=8 if in_time else 0.5) as (process, signer):
        for name in names:
            await site.upload(name, manual(name))

        async def in_hand() -> bool:
            return len([call for call in model.calls if len(call.texts) < TEXTS_PER_CALL]) == len(names)

        await has_jobs(site, {("pending", 0, 0): len(names)})
        async with asyncio.TaskGroup() as group:
            pushes = [group.create_task(ring(process, signer)) for _ in names]
            await eventually(in_hand)
            process.terminate()
            await process.logs("service.stopping")
            if in_time:
                model.released.set()
        assert await ended(process) == 0
    assert [push.result() for push in pushes] == [204 if in_time else 503] * len(names)
    state = ("completed", 1, 0) if in_time else ("pending", 0, 0)
    assert await jobs_by_state(site) == {state: len(names)}
    assert set(model.paid.values()) == {1}
