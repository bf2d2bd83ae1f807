"""A road whose work has a model read pages: asked by the real SDK, and the pages come from a real child process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from services.process.document import IndexDocument
from services.process.extract.extractor import ChildExtractor
from services.process.extract.reading import PicturesFirst
from services.process.pictures import PageReading
from services.process.purse import Purse
from shared.clock import SystemClock
from shared.embedding.gemini import GeminiAccess
from shared.embedding.metered_reader import MeteredReader
from shared.embedding.vision import GeminiReader
from shared.model.price import Prices
from shared.postgres.budgets import PostgresBudgets
from tests.plugins import scans
from tests.plugins.clock import ManualClock
from tests.plugins.model_server import IMAGE_TOKENS, READING_TOKENS, Answer, Call, ModelServer, good, reading
from tests.plugins.road import Road

MODEL = "gemini-2.5-flash"
OTHER_MODEL = "gemini-2.5-pro"
PRICES = Prices(
    {key: price for model in (MODEL, OTHER_MODEL) for key, price in ((model, 3.0), (f"{model}:output", 25.0))}
)
PAGE_MICROS = IMAGE_TOKENS * 3 + READING_TOKENS * 25
PAGE_TOKENS = IMAGE_TOKENS + READING_TOKENS
SDK_WARNING = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
"""About the SDK's own class, which we cannot change."""


@dataclass
class Desk:
    """A road whose work asks a model about pages."""

    road: Road
    model: ModelServer
    budgets: PostgresBudgets
    clock: ManualClock
    """The model's waits go by it."""
    make: Callable[[str], Awaitable[IndexDocument]]

    async def read_with(self, model: str) -> None:
        """Have pages read by a model from now on."""
        self.road.work = await self.make(model)
        self.road.process = self.road.worker("worker")

    async def put(self, name: str, content: bytes) -> None:
        """Upload a file and let it be worked on."""
        self.road.bucket.put(name, content)
        await self.road.notify(name)
        await self.road.work_off()

    async def job(self) -> dict[str, Any]:
        """Return the only job."""
        (row,) = await self.road.fetch("select * from document_processing_jobs")
        return dict(row)

    async def jobs(self) -> dict[str, dict[str, Any]]:
        """Return the newest job of each file."""
        rows = await self.road.fetch("select * from document_processing_jobs order by created_at")
        return {row["name"]: dict(row) for row in rows}

    async def places(self, name: str) -> list[tuple[int, str]]:
        """Return page and text of what is found of a file."""
        found = await self.road.fetch(
            "select (locator ->> 'page')::int as page, text from documents d join chunks c on c.job_id = d.live_job_id "
            "where name = $1 order by ordinal",
            name,
        )
        return [(row["page"], row["text"]) for row in found]

    def answers_to_pages(self, *answers: Answer) -> None:
        """Answer the next questions about pages so, then well; texts always get their vectors."""
        left = list(answers)

        async def answer(server: ModelServer, call: Call) -> web.StreamResponse:
            return await (left.pop(0) if left and call.image is not None else good)(server, call)

        self.model.answer = answer


@pytest.fixture
async def desk(road: Road, model: ModelServer, tmp_path: Path) -> AsyncIterator[Desk]:
    """Give a road with a child process and a model; pages say how many bars they show."""
    model.read = lambda image: f"This page shows {scans.bars(image)} bars."
    async with AsyncExitStack() as stack:
        child = await stack.enter_async_context(ChildExtractor(work_dir=tmp_path))
        access = GeminiAccess(api_key="k", base_url=model.url)
        clock, budgets = ManualClock(), PostgresBudgets(road.database)

        async def make(name: str) -> IndexDocument:
            plain = await stack.enter_async_context(GeminiReader(access, model=name, clock=clock))
            reader = MeteredReader(plain, metrics=road.metrics, clock=SystemClock(), prices=PRICES)
            return IndexDocument(
                queue=road.queue,
                storage=road.bucket,
                extractor=PicturesFirst(child, reader),
                embedder=road.embedder,
                tracing=road.tracing,
                metrics=road.metrics,
                clock=SystemClock(),
                max_object_bytes=1 << 24,
                prices=PRICES,
                spending=budgets,
                temp_dir=str(tmp_path),
                pages=PageReading(
                    reader,
                    ocr=child,
                    queue=road.queue,
                    purse=Purse(budgets, road.metrics),
                    prices=PRICES,
                    temp_dir=str(tmp_path),
                ),
                files_read=road.queue,
            )

        made = Desk(road, model, budgets, clock, make)
        await made.read_with(MODEL)
        yield made
    assert list(tmp_path.iterdir()) == []


def said(*numbers: int) -> list[str]:
    """Return what the model says of pages."""
    return [f"This page shows {number} bars." for number in numbers]


def without_sense() -> Answer:
    """Answer with prose where the form was asked for."""

    async def answer(_server: ModelServer, _call: Call) -> web.StreamResponse:
        return reading("It is a page with bars.")

    return answer
