"""A key that the model refuses: one call for each file, a clear end within seconds, and silence afterwards."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack

import aiohttp
import pytest

from services.api.app import build as build_api
from services.api.settings import ApiSettings
from services.ingest.app import build as build_ingest
from services.ingest.settings import IngestSettings
from services.process.app import build as build_process
from services.process.settings import ProcessSettings
from tests.plugins.model_server import Answer, ModelServer, api_key_invalid, refused
from tests.plugins.stack import Site

# The SDK's own class, which we cannot change.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

NAMES = ["a.txt", "b.txt", "c.txt", "d.txt"]


@pytest.mark.parametrize(
    "answer", [api_key_invalid, refused(401), refused(403)], ids=["400 API_KEY_INVALID", "401", "403"]
)
async def test_each_job_fails_after_exactly_one_call(site: Site, model: ModelServer, answer: Answer) -> None:
    """The end comes within seconds with its code; no call follows, and search says what is wrong, and no secret."""
    model.answer = answer
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(site.service(build_ingest, IngestSettings))
        await stack.enter_async_context(site.service(build_process, ProcessSettings, **model.environment()))
        for name in NAMES:
            await site.upload(name, f"The gate of {name} closes in 75 seconds.".encode())
        jobs = await site.ended(*NAMES, within_seconds=20)
        assert {(job["status"], job["error_code"], job["attempts"]) for job in jobs} == {
            ("failed", "AUTHENTICATION_FAILED", 1)
        }
        assert len(model.calls) == len(NAMES)
        assert sorted(text for call in model.calls for text in call.texts) == sorted(
            f"The gate of {name} closes in 75 seconds." for name in NAMES
        )

        for minutes in (1, 6, 61):
            await site.shift_clock(minutes * 60)
            assert (await site.recover_here())["ok"]
        assert len(model.calls) == len(NAMES)

        address = await stack.enter_async_context(site.service(build_api, ApiSettings, **model.environment()))
        async with (
            aiohttp.ClientSession(address) as session,
            session.post("/api/v1/search", json={"query": "gate"}) as response,
        ):
            problem = await response.json()
        assert (response.status, problem["code"]) == (503, "AUTHENTICATION_FAILED")
        assert response.content_type == "application/problem+json"
        assert len(model.calls) == len(NAMES) + 1
    told = json.dumps(problem) + "".join(job["error_message"] for job in jobs)
    assert "secret" not in told
