"""Budgets and estimates over HTTP and on the command line, on a real index and a simulated bucket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from services.api.callers import HeaderCallers
from services.api.routes.money import MoneyEndpoints
from services.api.web import application
from shared.clock import SystemClock
from shared.model.estimate import BYTES_OF_A_SCAN
from shared.model.price import PAGE_INPUT_TOKENS, PAGE_OUTPUT_TOKENS, Prices
from shared.postgres.budgets import PostgresBudgets
from shared.postgres.estimates import PostgresEstimates
from shared.worker.estimate import CostEstimate
from tests.fakes import BUCKET
from tests.plugins.road import Road
from tests.services.api.test_drift import headrace

MODELS = ["hash"]
"""Those that make vectors; a test may add one."""

ESTIMATE, BUDGETS = "/api/v1/admin/estimate", "/api/v1/admin/budgets"


@pytest.fixture
async def client(road: Road, request: pytest.FixtureRequest) -> AsyncIterator[TestClient]:
    """Give a client of an api that serves money only; a token costs two. A model reads pages where a test names one."""
    vision = getattr(request, "param", None)

    async def models() -> list[str]:
        return MODELS

    estimate = CostEstimate(
        known=PostgresEstimates(road.database),
        storage=road.bucket,
        bucket=BUCKET,
        models=models,
        prices=Prices({"hash": 2_000_000.0, "vision": 10.0, "vision:output": 100.0}),
        max_object_bytes=1 << 20 if vision else 1000,
        vision_model=vision,
    )
    routes = MoneyEndpoints(PostgresBudgets(road.database), estimate, SystemClock()).routes()
    callers = HeaderCallers(default_organization_id="acme")
    app = application(routes, callers, tracing=road.tracing, metrics=road.metrics)
    async with TestClient(TestServer(app)) as opened:
        yield opened


async def a_bucket(road: Road) -> None:
    """Index five text files of ten bytes and two tokens; then add what is new, changed, too large, of other kinds."""
    for number in range(5):
        road.bucket.put(f"old/{number}.txt", f"{number} fivesix".encode()[:9] + b".")
        await road.notify(f"old/{number}.txt")
    await road.work_off()
    road.bucket.put("old/0.txt", b"x" * 100)
    road.bucket.put("new/a.txt", b"x" * 500)
    road.bucket.put("new/b.TXT", b"x" * 1001)
    road.bucket.put("new/c.md", b"x" * 100)
    road.bucket.put("new/d", b"x" * 10)


async def test_an_estimate_subtracts_what_is_indexed_and_measures_by_the_index(road: Road, client: TestClient) -> None:
    """Ten bytes had two tokens, so 600 new ones have 120, for two each; kinds unknown here go by general ratios."""
    await a_bucket(road)
    kinds = (await (await client.get(ESTIMATE)).json())["kinds"]
    assert kinds[".txt"] == {
        "objects": 7, "size_bytes": 1641, "indexed": 4, "too_large": 1, "new_bytes": 600, "tokens": 120,
        "cost_micros": 240_000_000, "measured": True,
        "pages_least": 0, "pages_most": 0, "reading_micros_least": 0, "reading_micros_most": 0,
    }  # fmt: skip
    assert (kinds[".md"]["tokens"], kinds[".md"]["measured"]) == (24, False)
    assert kinds[""]["objects"] == 1
    MODELS.append("free")
    try:
        assert (await (await client.get(ESTIMATE)).json())["kinds"] == kinds
        MODELS.append("hash")
        twice = (await (await client.get(ESTIMATE)).json())["kinds"]
    finally:
        del MODELS[1:]
    assert twice[".txt"]["cost_micros"] == 480_000_000
    only = (await (await client.get(ESTIMATE, params={"prefix": "new/"})).json())["kinds"]
    assert only[".txt"]["objects"] == 2


async def test_folders_are_no_files(road: Road, client: TestClient) -> None:
    """What consoles show as folders would be neither read nor paid for, and is not counted."""
    for name, content in (("docs/", b""), ("docs/a.txt", b"alpha"), ("docs/b.txt", b"")):
        road.bucket.put(name, content)
    kinds = (await (await client.get(ESTIMATE)).json())["kinds"]
    assert {kind: figures["objects"] for kind, figures in kinds.items()} == {".txt": 2}


async def test_stretches_join_to_the_whole(road: Road, client: TestClient) -> None:
    """From cursor to cursor each name is counted once."""
    await a_bucket(road)
    counted, cursor = 0, None
    while True:
        params = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
        answer = await (await client.get(ESTIMATE, params=params)).json()
        counted += sum(kind["objects"] for kind in answer["kinds"].values())
        cursor = answer["next_cursor"]
        if cursor is None:
            break
    assert counted == 9


async def test_the_command_prints_a_table(
    road: Road, client: TestClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line a kind, dearest first, and a sum; as JSON the same numbers."""
    await a_bucket(road)
    capsys.readouterr()
    assert await headrace(client, tmp_path, "estimate") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ".txt 7 1.6 kB 4 1 120 240.00 this index".split()  # noqa: SIM905 - as it is printed
    assert lines[4].startswith("together")
    assert await headrace(client, tmp_path, "estimate", "old/", "--json") == 0
    assert json.loads(capsys.readouterr().out)["total"]["new_bytes"] == 100
    assert await headrace(client, tmp_path, "estimate", "none/") == 0
    assert "No such objects" in capsys.readouterr().out


PAGE_MICROS = PAGE_INPUT_TOKENS * 10 + PAGE_OUTPUT_TOKENS * 100
reads_pages = pytest.mark.parametrize("client", ["vision"], indirect=True)


def figures(kind: dict) -> tuple[int, ...]:
    """Return pages and their cost, from and to."""
    names = ("pages_least", "pages_most", "reading_micros_least", "reading_micros_most")
    return tuple(kind[name] for name in names)


@reads_pages
async def test_an_estimate_says_what_pages_would_cost_or_that_it_does_not_know(
    road: Road, client: TestClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An image is one page, a TIFF at least one; of a PDF, none to all of as many pages as its size has room for."""
    road.bucket.put("a.png", b"x" * 500)
    road.bucket.put("b.jpg", b"x" * 500_000)
    road.bucket.put("c.tiff", b"x" * BYTES_OF_A_SCAN * 4)
    road.bucket.put("d.pdf", b"x" * BYTES_OF_A_SCAN * 10)
    road.bucket.put("e.pdf", b"x" * 100)
    road.bucket.put("f.pdf", b"x" * ((1 << 20) + 1))
    road.bucket.put("g.txt", b"x" * 100_000)
    kinds = (await (await client.get(ESTIMATE)).json())["kinds"]
    assert figures(kinds[".png"]) == figures(kinds[".jpg"]) == (1, 1, PAGE_MICROS, PAGE_MICROS)
    assert figures(kinds[".tiff"]) == (1, 4, PAGE_MICROS, 4 * PAGE_MICROS)
    assert figures(kinds[".pdf"]) == (0, 11, 0, 11 * PAGE_MICROS)
    assert (kinds[".pdf"]["objects"], kinds[".pdf"]["too_large"]) == (3, 1)
    assert figures(kinds[".txt"]) == (0, 0, 0, 0)
    capsys.readouterr()
    assert await headrace(client, tmp_path, "estimate") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "3–17" in said
    assert "not known before it is opened" in said
    assert "too large is refused" in said


@reads_pages
async def test_an_estimate_of_pages_is_measured_where_the_index_knows_files_of_the_kind(
    road: Road, client: TestClient
) -> None:
    """Five PDF files of ten bytes with four scanned pages each: two pages in five bytes, at what those have cost."""
    for number in range(5):
        road.bucket.put(f"old/{number}.pdf", f"{number} fivesix".encode()[:9] + b".")
        await road.notify(f"old/{number}.pdf")
    await road.work_off()
    await road.fetch("update document_processing_jobs set pages_read = 4, page_tokens = 0, page_cost_micros = 28")
    road.bucket.put("new.pdf", b"x" * 500)
    road.bucket.put("new.tiff", b"x" * BYTES_OF_A_SCAN * 2)
    kinds = (await (await client.get(ESTIMATE, params={"prefix": "new"})).json())["kinds"]
    assert figures(kinds[".pdf"]) == (200, 200, 1400, 1400)
    assert figures(kinds[".tiff"]) == (1, 2, 7, 14)


async def test_budgets_are_set_listed_and_taken_away(
    road: Road, client: TestClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over HTTP and on the command line; what is no amount is refused."""
    assert (await (await client.get(BUDGETS)).json()) == {"budgets": []}
    answer = await client.put(f"{BUDGETS}/a%20b", json={"amount": 2.5})
    assert await answer.json() == {"organization_id": "a b", "amount": 2.5, "spent_today": 0.0, "waiting_jobs": 0}
    assert (await client.put(f"{BUDGETS}/acme", json={"amount": -1})).status == 400
    assert await headrace(client, tmp_path, "budgets", "set", "acme", "0.5") == 0
    await PostgresBudgets(road.database).reserve("acme", 120_000)
    capsys.readouterr()
    assert await headrace(client, tmp_path, "budgets", "list") == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["a", "b", "2.50", "0.00", "0", "jobs"],
        ["acme", "0.50", "0.12", "0", "jobs"],
    ]
    assert await headrace(client, tmp_path, "budgets", "unset", "acme") == 0
    assert "default" in capsys.readouterr().out
