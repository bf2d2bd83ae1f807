"""A real worker that stands still for longer than its lease, and then goes on as if nothing had happened."""

from __future__ import annotations

from typing import Any

import psutil
import pytest

from services.ingest.app import build as build_ingest
from services.ingest.settings import IngestSettings
from tests.plugins.model_server import ModelServer, good, hang
from tests.plugins.stack import Site, eventually

LEASE_SECONDS = 60


@pytest.mark.slow
async def test_the_late_finish_of_a_worker_that_stood_still_changes_nothing(site: Site, model: ModelServer) -> None:
    """Stopped in the middle of a job, rescued and overtaken: when it goes on, it writes nothing and stays of use."""
    text = "The gate of a.txt closes in 75 seconds."
    model.answer = hang

    async def called() -> bool:
        return len(model.calls) > 0

    async with (
        site.service(build_ingest, IngestSettings),
        site.process("services.process", **environment(model)) as late,
    ):
        await site.upload("a.txt", text.encode())
        await eventually(called)
        psutil.Process(late.pid).suspend()  # the kernel's SIGSTOP: no heartbeat, no clock, nothing
        model.answer = good
        # There before the bell of the rescue, which would else be leased to the worker that stands still.
        async with site.process("services.process", **environment(model)):
            await site.shift_clock(LEASE_SECONDS + 1)
            assert (await site.recover_once())["duties"]["rescue"]["rescued"] == 1
            (ended,) = await site.ended("a.txt", within_seconds=150)
            moves = await ledger(site)
        psutil.Process(late.pid).resume()
        model.released.set()
        await late.logs("lease_lost")
        await site.upload("b.txt", b"Another text.")
        (other,) = await site.ended("b.txt")  # by the late one, which is the only worker now
    assert (ended["status"], ended["attempts"], ended["rescue_count"]) == ("completed", 1, 1)
    assert (other["status"], other["rescue_count"]) == ("completed", 0)
    again = await site.job("a.txt")
    assert again == ended
    assert [move for move in await ledger(site) if move["job_id"] == ended["id"]] == moves
    assert [chunk[1] for chunk in await site.chunks(ended["id"])] == [text]
    assert model.paid[text] <= 2  # what stood between the model's answer and the commit, once


def environment(model: ModelServer) -> dict[str, Any]:
    """Return the settings of a worker."""
    return {**model.environment(), "PROCESS_CONCURRENCY": 2}


async def ledger(site: Site) -> list[Any]:
    """Return all moves of all jobs, without when they were told: that is only just after the job has ended."""
    return await site.rows(
        "select job_id, seq, attempt, status, stage, occurred_at, detail from job_events order by job_id, seq"
    )
