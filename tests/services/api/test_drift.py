"""Drift over HTTP and on the command line, on a real index and a simulated bucket."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from cli.app import run
from services.address import Address, published
from services.api.callers import HeaderCallers
from services.api.routes.drift import DriftEndpoints
from services.api.web import application
from shared.clock import SystemClock
from shared.errors import DependencyUnavailable
from tests.plugins.road import Road
from tests.services.recover.test_drift import HastyClock, Unsteady, a_drifted_bucket, check_of

PATH = "/api/v1/admin/drift"


@pytest.fixture
async def client(road: Road) -> AsyncIterator[TestClient]:
    """Give a client of an api that serves drift only."""
    routes = DriftEndpoints(check_of(road), SystemClock()).routes()
    callers = HeaderCallers(default_organization_id="acme")
    app = application(routes, callers, tracing=road.tracing, metrics=road.metrics)
    async with TestClient(TestServer(app)) as opened:
        yield opened


async def headrace(client: TestClient, folder: Path, *arguments: str) -> int:
    """Run one command line in a thread, as a process of its own would."""
    url = str(client.make_url("")).rstrip("/")
    address = Address(pid=os.getpid(), api=url, recover=url, storage="http://127.0.0.1:1", project="p", bucket="b")
    with published(address, folder):
        return await asyncio.to_thread(run, [*arguments, "--data", str(folder)])


async def test_a_look_counts_and_names_examples(road: Road, client: TestClient) -> None:
    """GET answers with counts and a bounded number of examples per class, and changes nothing."""
    await a_drifted_bucket(road)
    answer = await (await client.get(PATH, params={"examples": "1"})).json()
    assert answer["found"] == {"missing": 1, "stale": 2, "orphan": 1, "failed": 2}
    assert answer["examples"]["stale"] == ["gs://uploads/changed"]
    assert (answer["compared"], answer["repaired"], answer["next_cursor"]) == (7, 0, None)
    assert await road.visible("gone") == ["gone"]


async def test_pages_join_to_the_whole(road: Road, client: TestClient) -> None:
    """From cursor to cursor each name is compared once, with names that need escaping."""
    for name in ("a", "a&b=c", "é ?#", "😀"):
        road.bucket.put(name, b"text")
    seen, cursor = [], None
    while True:
        params = {"limit": "1"} | ({"cursor": cursor} if cursor else {})
        answer = await (await client.get(PATH, params=params)).json()
        seen += answer["examples"].get("missing", [])
        if (cursor := answer["next_cursor"]) is None:
            break
    assert seen == [f"gs://uploads/{name}" for name in ("a", "a&b=c", "é ?#", "😀")]


async def test_a_repair_is_asked_for_with_post(road: Road, client: TestClient) -> None:
    """POST repairs what it may and says so."""
    await a_drifted_bucket(road)
    answer = await (await client.post(PATH)).json()
    assert (answer["repaired"], answer["settled"], answer["errors"]) == (4, 0, 0)
    await road.work_off()
    assert (await (await client.get(PATH)).json())["found"] == {"failed": 2}


async def test_a_bucket_that_cannot_be_listed_is_a_problem(road: Road) -> None:
    """Half a comparison is no answer: it is an error that says who did not answer."""
    for name in "abc":
        road.bucket.put(name, b"text")
    Unsteady(road, {"b": [DependencyUnavailable("The bucket is away.")] * 9})
    routes = DriftEndpoints(check_of(road, HastyClock()), SystemClock()).routes()
    callers = HeaderCallers(default_organization_id="acme")
    app = application(routes, callers, tracing=road.tracing, metrics=road.metrics)
    async with TestClient(TestServer(app)) as client:
        for answer in (await client.get(PATH), await client.post(PATH)):
            assert answer.status == 503
            assert (await answer.json())["code"] == "DEPENDENCY_UNAVAILABLE"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_only_an_administrator_may_ask(client: TestClient, method: str) -> None:
    """A bucket holds everybody's files."""
    assert (await client.request(method, PATH, headers={"X-Headrace-Role": "member"})).status == 403


async def test_the_command_says_by_its_exit_code_what_it_found(
    road: Road, client: TestClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0: in step; 1: drift; 3: repaired; 1 again when something failed is left."""
    road.bucket.put("a", b"text")
    await road.notify("a")
    await road.work_off()
    assert await headrace(client, tmp_path, "drift") == 0
    road.bucket.put("b", b"text")
    assert await headrace(client, tmp_path, "drift") == 1
    assert "gs://uploads/b" in capsys.readouterr().out
    assert await headrace(client, tmp_path, "drift", "--repair", "--json") == 3
    out = capsys.readouterr().out
    assert json.loads(out[out.index("{\n") :])["repaired"] == 1  # the log of this process's api stands before it
    await road.work_off()
    assert await headrace(client, tmp_path, "drift", "--repair") == 0
    await a_drifted_bucket(road)
    assert await headrace(client, tmp_path, "drift", "--repair") == 1
