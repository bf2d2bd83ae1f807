"""A key that the model refuses: one call for each file, a clear end, and silence afterwards; with real processes.

The model is a server on the same machine; it is asked through Google's own SDK.
"""

from __future__ import annotations

import json
from contextlib import AsyncExitStack

import aiohttp
import pytest

from tests.plugins.model_server import Answer, ModelServer, api_key_invalid, good, refused
from tests.plugins.stack import Site, eventually

NAMES = ["a.txt", "b.txt", "c.txt", "d.txt"]
MINUTES_LATER = (1, 6, 61)
"""Beyond every wait that a retry could have, and beyond the age at which a bell is rung again."""


def text_of(name: str) -> str:
    """Return what stands in a file."""
    return f"The gate of {name} closes in 75 seconds."


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        pytest.param(api_key_invalid, "AUTHENTICATION_FAILED", id="400 API_KEY_INVALID"),
        pytest.param(refused(401), "AUTHENTICATION_FAILED", id="401"),
        pytest.param(refused(403), "AUTHENTICATION_FAILED", id="403", marks=pytest.mark.slow),
        pytest.param(refused(400), "INVALID_REQUEST", id="400 for another reason", marks=pytest.mark.slow),
    ],
)
async def test_each_job_fails_after_exactly_one_call(site: Site, model: ModelServer, answer: Answer, code: str) -> None:
    """The end comes with its code and no secret; recover runs of the next minutes and hour cause no other call."""
    model.answer = answer
    async with AsyncExitStack() as stack:
        for service in ("ingest", "process"):
            await stack.enter_async_context(site.process(f"services.{service}", **model.environment()))
        for name in NAMES:
            await site.upload(name, text_of(name).encode())
        jobs = await site.ended(*NAMES)
        assert {(job["status"], job["error_code"], job["attempts"]) for job in jobs} == {("failed", code, 1)}
        assert sorted(text for call in model.calls for text in call.texts) == sorted(map(text_of, NAMES))
        assert len(model.calls) == len(NAMES)

        for minutes in MINUTES_LATER:
            await site.shift_clock(minutes * 60)
            assert (await site.recover_here())["ok"]
        # The workers are there and take what is due: a file with a text that the model takes is completed meanwhile.
        model.answer = good
        await site.upload("later.txt", b"The sluice opens at noon.")
        (later,) = await site.ended("later.txt")
        assert later["status"] == "completed"
        assert [call.texts for call in model.calls[len(NAMES) :]] == [["The sluice opens at noon."]]
        assert await site.value("select count(*) from dead_letters where state = 'open'") == len(NAMES)
    told = "".join(job["error_message"] for job in jobs)
    logs = "".join(path.read_text() for path in site.folder.glob("services.*.log"))
    assert "secret" not in told + logs


async def test_a_search_says_that_the_key_is_refused(site: Site, model: ModelServer) -> None:
    """The api answers 503 with the code, after one call; and it searches again once the key is good."""
    model.answer = api_key_invalid
    async with (
        site.process("services.api", **model.environment()) as api,
        aiohttp.ClientSession(api.address) as session,
    ):
        async with session.post("/api/v1/search", json={"query": "gate"}) as response:
            problem = await response.json()
        assert (response.status, problem["code"]) == (503, "AUTHENTICATION_FAILED")
        assert response.content_type == "application/problem+json"
        assert "secret" not in json.dumps(problem)
        assert len(model.calls) == 1
        model.answer = good

        async def found() -> bool:
            async with session.post("/api/v1/search", json={"query": "gate"}) as response:
                return response.status == 200

        await eventually(found)
