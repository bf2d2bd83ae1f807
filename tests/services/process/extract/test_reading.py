"""Images that a model reads, through the real SDK against a local server; what else there is goes the usual way."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from services.process.extract.reading import ReadingExtractor
from shared.clock import SystemClock
from shared.embedding.gemini import GeminiAccess
from shared.embedding.metered_reader import MeteredReader
from shared.embedding.vision import GeminiReader
from shared.errors import UnprocessableContent
from shared.model.document import Segment
from shared.model.locator import Locator, LocatorKind
from shared.model.price import Prices
from shared.telemetry.metrics import Metrics
from tests.fakes import LineExtractor
from tests.plugins.model_server import Call, ModelServer

# The SDK's own class, which we cannot change.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

MODEL = "gemini-2.5-flash"
PRICES = Prices({MODEL: 0.3, f"{MODEL}:output": 2.5})


class Answers:
    """What the model says of the next images: transcription, description, and why it stopped."""

    def __init__(self, *said: tuple[str, str, str]) -> None:
        self.said = list(said)

    async def __call__(self, _server: ModelServer, _call: Call) -> web.StreamResponse:
        """Answer one call."""
        text, description, reason = self.said.pop(0)
        parts = [{"text": json.dumps({"transcription": text, "description": description})}]
        usage = {"promptTokenCount": 1000, "candidatesTokenCount": 100}
        candidate = {"content": {"role": "model", "parts": parts}, "finishReason": reason}
        return web.json_response({"candidates": [candidate], "usageMetadata": usage})


@pytest.fixture
async def metrics() -> AsyncIterator[Metrics]:
    """Give counters of this test alone."""
    async with Metrics("test") as opened:
        yield opened


@pytest.fixture
async def extractor(model: ModelServer, metrics: Metrics) -> AsyncIterator[ReadingExtractor]:
    """Hand out an extractor that asks the server about images, and counts it."""
    async with GeminiReader(GeminiAccess(api_key="k", base_url=model.url), model=MODEL) as reader:
        metered = MeteredReader(reader, metrics=metrics, clock=SystemClock(), prices=PRICES)
        yield ReadingExtractor(LineExtractor(), metered)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a file of three lines, which the other extractor takes for three segments."""
    path = tmp_path / "file"
    path.write_bytes(b"one\ntwo\nthree")
    return path


def counted(metrics: Metrics, name: str) -> float:
    """Return the sum of a counter over all its labels."""
    lines = re.findall(rf"^headrace_model_{name}_total\S* ([\d.]+)", metrics.text(), re.MULTILINE)
    return sum(map(float, lines))


async def read(extractor: ReadingExtractor, path: Path, media_type: str, start: int = 0) -> list[Segment]:
    """Return all segments of a file."""
    return [segment async for segment in extractor.extract(path, media_type=media_type, start=start)]


async def test_an_image_is_one_page_of_what_the_model_saw(
    model: ModelServer, extractor: ReadingExtractor, metrics: Metrics, path: Path
) -> None:
    """Transcription and description are one segment on page 1, and tokens, calls and cost are counted."""
    model.answer = Answers(("Gate 3", "A red sign.", "STOP"))
    (segment,) = await read(extractor, path, "image/png")
    assert segment == Segment(index=0, text="Gate 3\n\nA red sign.", locator=Locator(kind=LocatorKind.PAGE, page=1))
    assert (counted(metrics, "calls"), counted(metrics, "tokens")) == (1, 1100)
    assert counted(metrics, "cost") == round(1000 * 0.3) + round(100 * 2.5)


async def test_an_image_that_is_stored_already_is_not_paid_again(
    model: ModelServer, extractor: ReadingExtractor, path: Path
) -> None:
    """A successor that goes on behind the one segment asks nobody."""
    assert await read(extractor, path, "image/png", start=1) == []
    assert model.calls == []


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (("", "", "STOP"), "NO_TEXT"),
        (("", "", "SAFETY"), "CONTENT_BLOCKED"),
        (("x", "", "MAX_TOKENS"), "ANSWER_TOO_LONG"),
    ],
)
async def test_what_cannot_be_read_ends_with_a_code_and_is_counted(
    model: ModelServer, extractor: ReadingExtractor, metrics: Metrics, path: Path, said: tuple[str, str, str], code: str
) -> None:
    """An image of nothing, a refused one and an endless one fail once; what they cost is counted all the same."""
    model.answer = Answers(said)
    with pytest.raises(UnprocessableContent) as caught:
        await read(extractor, path, "image/jpeg")
    assert caught.value.code == code
    assert (counted(metrics, "calls"), counted(metrics, "tokens")) == (1, 1100)


@pytest.mark.parametrize("media_type", ["text/plain", "image/tiff", "application/pdf"])
async def test_all_else_is_left_to_the_other_extractor(
    model: ModelServer, extractor: ReadingExtractor, path: Path, media_type: str
) -> None:
    """Text, scanned pages and images of kinds that the model does not take cost no call."""
    assert [segment.text for segment in await read(extractor, path, media_type)] == ["one", "two", "three"]
    assert model.calls == []


async def test_without_a_model_images_go_the_usual_way(path: Path) -> None:
    """Nothing changes for those who have no key."""
    assert len(await read(ReadingExtractor(LineExtractor(), None), path, "image/png")) == 3
