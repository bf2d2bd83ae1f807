"""Which pages become pictures: whole images as they are, all else by the other extractor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.process.extract.reading import PicturesFirst
from shared.embedding.gemini import GeminiAccess
from shared.embedding.vision import MAX_IMAGE_BYTES, GeminiReader
from shared.model.document import Picture, Segment
from shared.model.locator import Locator, LocatorKind
from tests.fakes import LineExtractor


class Lines(LineExtractor):
    """Reads lines, and remembers whether it was to hand out pictures."""

    asked_for_pictures = False

    async def extract(
        self, path: Path, *, media_type: str, start: int = 0, pictures: bool = False
    ) -> AsyncIterator[Segment]:
        self.asked_for_pictures = pictures
        async for segment in super().extract(path, media_type=media_type, start=start):
            yield segment


@pytest.fixture
def lines() -> Lines:
    """Give the other extractor."""
    return Lines()


@pytest.fixture
def extractor(lines: Lines) -> PicturesFirst:
    """Give an extractor for a model that nobody asks."""
    return PicturesFirst(lines, GeminiReader(GeminiAccess(api_key="k"), model="gemini-2.5-flash"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a file of three lines, which the other extractor takes for three segments."""
    path = tmp_path / "file"
    path.write_bytes(b"one\ntwo\nthree")
    return path


async def read(extractor: PicturesFirst, path: Path, media_type: str, start: int = 0) -> list[Segment]:
    """Return all segments of a file."""
    return [segment async for segment in extractor.extract(path, media_type=media_type, start=start)]


@pytest.mark.parametrize("media_type", ["image/png", "image/jpeg", "image/webp"])
async def test_an_image_that_the_model_takes_goes_there_as_it_is(
    extractor: PicturesFirst, path: Path, media_type: str
) -> None:
    """One segment on page 1 with the file's own bytes; nothing of them is decoded."""
    assert await read(extractor, path, media_type) == [
        Segment(
            index=0,
            text="",
            locator=Locator(kind=LocatorKind.PAGE, page=1),
            by_ocr=True,
            picture=Picture(path.read_bytes(), media_type),
        )
    ]


async def test_an_image_that_is_stored_already_is_not_shown_again(extractor: PicturesFirst, path: Path) -> None:
    """A successor that goes on behind the one segment gets none."""
    assert await read(extractor, path, "image/png", start=1) == []


@pytest.mark.parametrize("media_type", ["text/plain", "image/tiff", "image/gif", "image/bmp", "application/pdf"])
async def test_all_else_is_left_to_the_other_extractor(
    extractor: PicturesFirst, lines: Lines, path: Path, media_type: str
) -> None:
    """It makes pictures of what has no text, and of images of other kinds."""
    assert [segment.text for segment in await read(extractor, path, media_type)] == ["one", "two", "three"]
    assert lines.asked_for_pictures


async def test_an_image_too_large_for_a_request_is_made_smaller_by_the_other_extractor(
    extractor: PicturesFirst, lines: Lines, path: Path
) -> None:
    """The model never gets more than a request has room for."""
    with path.open("r+b") as file:
        file.truncate(MAX_IMAGE_BYTES + 1)
    await read(extractor, path, "image/png")
    assert lines.asked_for_pictures
