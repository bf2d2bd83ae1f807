"""Pages without text come out of the child as pictures, bounded and in order, where a model is to read them."""

from __future__ import annotations

import io
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from services.process.extract import picture
from services.process.extract.extractor import ChildExtractor
from services.process.extract.protocol import read_answer
from shared.errors import UnprocessableContent, WorkerCrashed
from shared.model.document import Segment
from tests.plugins import scans

FILES = Path(__file__).parents[3] / "files"


@pytest.fixture
async def extractor(tmp_path: Path) -> AsyncIterator[ChildExtractor]:
    """Hand out an extractor."""
    (tmp_path / "work").mkdir()
    async with ChildExtractor(work_dir=tmp_path / "work", deadline_seconds=60) as extractor:
        yield extractor


async def shown(extractor: ChildExtractor, path: Path, start: int = 0) -> list[Segment]:
    """Return the segments of a file whose pictures are read by somebody else."""
    media_type = extractor.sniff(path, name=path.name)
    found = extractor.extract(path, media_type=media_type, start=start, pictures=True)
    return [segment async for segment in found]


@pytest.mark.parametrize(("kind", "pages"), [("pdf", 20), ("tiff", 2), ("gif", 1), ("bmp", 1), ("png", 1)])
async def test_each_page_is_a_picture_of_itself(
    extractor: ChildExtractor, tmp_path: Path, kind: str, pages: int
) -> None:
    """In order, cited by its number, without text, of a kind and size that a model takes."""
    path = tmp_path / f"scan.{kind}"
    path.write_bytes(scans.file(kind, [1 + number % 12 for number in range(pages)]))
    segments = await shown(extractor, path)
    assert [(s.index, s.locator.page, s.text) for s in segments] == [(n, n + 1, "") for n in range(pages)]
    pictures = [segment.picture for segment in segments if segment.picture is not None]
    assert [scans.bars(each.data) for each in pictures] == [1 + number % 12 for number in range(pages)]
    assert {each.media_type for each in pictures} <= {"image/png", "image/jpeg"}
    for each in pictures:
        with Image.open(io.BytesIO(each.data)) as image:
            assert Image.MIME[image.format or ""] == each.media_type


async def test_a_successor_begins_at_the_page_that_is_missing(extractor: ChildExtractor, tmp_path: Path) -> None:
    """Pages that are stored are not even drawn."""
    path = tmp_path / "scan.pdf"
    path.write_bytes(scans.file("pdf", range(1, 13)))
    assert [segment.index for segment in await shown(extractor, path, start=10)] == [10, 11]


async def test_text_stays_text(extractor: ChildExtractor) -> None:
    """Of a file with both, only the scanned pages are pictures; the empty page is neither."""
    segments = await shown(extractor, FILES / "pdf" / "reportlab-mixed.pdf")
    assert [segment.picture is not None for segment in segments] == [False, True, True, False]
    assert [bool(segment.text) for segment in segments] == [True, False, False, False]


async def test_a_page_that_lies_on_its_side_is_shown_as_it_is_looked_at(
    extractor: ChildExtractor, tmp_path: Path
) -> None:
    """What the file says about how it is to be turned is done; the model sees it upright."""
    path = tmp_path / "photo.tiff"
    turned = scans.page(5).rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    turned.save(path, exif=exif)
    (segment,) = await shown(extractor, path)
    assert segment.picture is not None
    assert scans.bars(segment.picture.data) == 5


async def test_a_blank_page_costs_nothing(extractor: ChildExtractor, tmp_path: Path) -> None:
    """It has neither text nor picture; a file of nothing else has no text."""
    path = tmp_path / "blank.tiff"
    path.write_bytes(scans.file("tiff", [1, 0]))
    first, second = await shown(extractor, path)
    assert (first.picture is None, second.picture) == (False, None)
    path.write_bytes(scans.file("tiff", [0, 0]))
    with pytest.raises(UnprocessableContent) as caught:
        await shown(extractor, path)
    assert caught.value.code == "NO_TEXT"


def test_whatever_is_seen_fits_into_a_request() -> None:
    """Noise, which no encoding makes small, is shown coarser; long strips and large pages are made smaller."""
    noise = Image.frombytes("RGB", (1800, 2200), random.Random(1).randbytes(1800 * 2200 * 3))
    strip = scans.page(3).resize((12_000, 100))
    for image in (noise, strip, scans.page(2).resize((4_000, 4_000))):
        made = picture.of(image)
        assert made is not None
        assert len(made.data) <= picture.MAX_BYTES
        with Image.open(io.BytesIO(made.data)) as opened:
            assert opened.width * opened.height <= picture.MAX_PIXELS
            assert max(opened.size) <= picture.MAX_SIDE_PIXELS


@pytest.mark.parametrize(
    "said",
    [
        {"picture": "not base64!", "picture_type": "image/png"},
        {"picture": "AAAA", "picture_type": "application/pdf"},
        {"picture": "AAAA"},
        {"picture": ["AAAA"], "picture_type": "image/png"},
    ],
)
def test_what_a_child_says_of_a_picture_is_checked(said: dict[str, object]) -> None:
    """What is no picture is garbage, as all else that a child does not say."""
    locator = {"kind": "page", "page": 1}
    payload = json.dumps({"segment": {"index": 0, "text": "", "locator": locator, **said}}).encode()
    with pytest.raises(WorkerCrashed):
        read_answer(payload, expected_index=0)
