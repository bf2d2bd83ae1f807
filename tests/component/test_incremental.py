"""What is paid for when files change a little, or come again under other names."""

from __future__ import annotations

import asyncio
import io
import random
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from services.process.document import IndexDocument
from services.process.extract.extractor import ChildExtractor
from shared.clock import SystemClock
from tests.plugins.road import Road

WORDS = (  # noqa: SIM905 - as prose
    "the water of a river falls through gates and turbines while pumps valves oil sensors crews and records keep it "
    "going"
).split()
CONTENT_TYPES = (
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.'
    'wordprocessingml.document.main+xml"/></Types>'
)
RELATIONS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" '
    'Target="word/document.xml"/></Relationships>'
)


@pytest.fixture
async def real_road(road: Road, tmp_path: Path) -> AsyncIterator[Road]:
    """Give a road that reads files as the product does."""
    async with ChildExtractor(work_dir=tmp_path, deadline_seconds=120) as extractor:
        road.embedder._batch_size = 100
        road.work = IndexDocument(
            queue=road.queue,
            storage=road.bucket,
            extractor=extractor,
            embedder=road.embedder,
            tracing=road.tracing,
            metrics=road.metrics,
            clock=SystemClock(),
            max_object_bytes=1 << 22,
        )
        road.process = road.worker("worker")
        yield road


def paragraphs(number: int) -> list[str]:
    """Make paragraphs of no meaning, no two alike."""
    source = random.Random(13)
    return [" ".join(source.choices(WORDS, k=source.randint(20, 160))) + "." for _ in range(number)]


def plain(texts: list[str]) -> bytes:
    """One paragraph a line, and no blank line anywhere."""
    return "\n".join(texts).encode()


def markdown(texts: list[str]) -> bytes:
    """A heading for each twenty paragraphs."""
    return "\n\n".join(
        f"## Part {place // 20}\n\n{text}" if place % 20 == 0 else text for place, text in enumerate(texts)
    ).encode()


def docx(texts: list[str]) -> bytes:
    """A document of paragraphs without any style."""
    body = "".join(f"<w:p><w:r><w:t>{escape(text)}</w:t></w:r></w:p>" for text in texts)
    document = (
        '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
        f"<w:body>{body}</w:body></w:document>"
    )
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", CONTENT_TYPES)
        archive.writestr("_rels/.rels", RELATIONS)
        archive.writestr("word/document.xml", document)
    return made.getvalue()


@pytest.mark.parametrize(("name", "make"), [("a.txt", plain), ("a.md", markdown), ("a.docx", docx)])
async def test_an_edited_document_of_300_chunks_asks_for_three_at_most(real_road: Road, name: str, make) -> None:
    """A paragraph that is added in the middle, and one that is changed, are embedded with their neighbours at most."""
    texts = paragraphs(560)
    await index(real_road, name, make(texts))
    assert len(await real_road.visible(name)) >= 300
    added = " ".join(["a paragraph that was not there before"] * 8)
    place = len(texts) // 2 + 3  # below a heading, not at one
    edits = [[*texts[:place], added, *texts[place:]], [*texts[:41], texts[41] + " Changed.", *texts[42:]]]
    if make is markdown:  # the headings stay where they are: what is added belongs to the paragraph before
        edits[0] = [*texts[:place], texts[place] + "\n\n" + added, *texts[place + 1 :]]
    for edited in edits:
        real_road.embedder.calls.clear()
        await index(real_road, name, make(edited))
        assert 1 <= len(real_road.embedder.texts) <= 3
        await index(real_road, name, make(texts))
        assert len(real_road.embedder.texts) <= 3, "the former text was known"


async def test_a_file_under_ten_names_at_the_same_moment_is_embedded_once(road: Road) -> None:
    """Four workers at once, and the ledger says what the nine copies saved."""
    content = plain(paragraphs(30))
    for number in range(10):
        road.bucket.put(f"{number}.txt", content)
        await road.notify(f"{number}.txt")

    async def work() -> None:
        while (await road.ring()).name != "nothing_due":
            pass

    async with asyncio.timeout(120), asyncio.TaskGroup() as workers:
        for _ in range(4):
            workers.create_task(work())
    assert sorted(road.embedder.texts) == sorted(content.decode().splitlines())
    assert await road.in_step()


async def index(road: Road, name: str, content: bytes) -> None:
    """Upload a file and work it off."""
    road.bucket.put(name, content)
    await road.notify(name)
    await road.work_off()
