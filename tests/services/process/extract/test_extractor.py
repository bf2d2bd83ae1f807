"""Files become segments with true places, or one verdict; and no process, folder or open file stays behind."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from services.process.extract.extractor import ChildExtractor
from shared.errors import HeadraceError, UnprocessableContent
from shared.model import media
from shared.model.document import Segment
from shared.model.locator import LocatorKind
from tests.services.process.extract.processes import children, open_files

CORPUS = Path(__file__).parents[4] / "cli" / "corpus"
ENCRYPTED = Path(__file__).parents[3] / "fixtures" / "encrypted.pdf"
MANUAL = CORPUS / "operations-manual.pdf"


@pytest.fixture
async def extractor(tmp_path: Path) -> AsyncIterator[ChildExtractor]:
    """Hand out an extractor and check at the end that nothing of it is left."""
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    before, files = children(), open_files()
    async with ChildExtractor(work_dir=work_dir, deadline_seconds=60) as extractor:
        yield extractor
    assert children() <= before
    assert list(work_dir.iterdir()) == []
    assert open_files() <= files


async def read(extractor: ChildExtractor, path: Path, start: int = 0) -> list[Segment]:
    """Sniff and read a whole file."""
    media_type = extractor.sniff(path, name=path.name)
    return [segment async for segment in extractor.extract(path, media_type=media_type, start=start)]


async def verdict(extractor: ChildExtractor, path: Path, media_type: str | None = None) -> str:
    """Return the code with which a file is refused, and check that its sentence is for people."""
    with pytest.raises(HeadraceError) as caught:
        async for _ in extractor.extract(path, media_type=media_type or extractor.sniff(path, name=path.name)):
            pass
    assert "Traceback" not in caught.value.message
    assert caught.value.message.endswith(".")
    return caught.value.code


async def test_a_pdf_has_one_segment_per_page(extractor: ChildExtractor) -> None:
    """Pages count from 1, segments from 0, and the text is that of the page."""
    segments = await read(extractor, MANUAL)
    assert [(s.index, s.locator.page) for s in segments] == [(number, number + 1) for number in range(7)]
    assert "closes in 75 seconds" in " ".join(segments[2].text.split())


async def test_a_successor_gets_the_same_segments_from_where_it_starts(extractor: ChildExtractor) -> None:
    """Reading from index 4 gives the end of what reading from 0 gives."""
    assert await read(extractor, MANUAL, start=4) == (await read(extractor, MANUAL))[4:]


async def test_documents_are_cited_by_heading(extractor: ChildExtractor) -> None:
    """Word, HTML and Markdown give a section per heading, with the path to it; tables stay tables."""
    paths = {s.locator.heading_path: s.text for s in await read(extractor, CORPUS / "maintenance-schedule.docx")}
    assert "| Test the overspeed switch | every 6 months |" in paths[("Turbines", "Regular tasks")]
    page = {s.locator.label for s in await read(extractor, CORPUS / "water-licence.html")}
    assert "Water licence, summary for operators › Reservoir levels › Flushing of sediment" in page
    faults = [s.locator.label for s in await read(extractor, CORPUS / "turbine-faults.md")]
    assert "Turbine fault guide › Governor › Hunting" in faults


async def test_a_heading_without_text_begins_the_section_below_it(extractor: ChildExtractor, tmp_path: Path) -> None:
    """Nothing is lost: the bare heading is in the text of its first child, or alone when it has none."""
    path = tmp_path / "a.md"
    path.write_text("# Top\n\n## Inner\n\nwords\n\n# Last\n")
    assert [(s.locator.label, s.text) for s in await read(extractor, path)] == [
        ("Top › Inner", "Top\n\nInner\n\nwords"),
        ("Last", "Last"),
    ]


async def test_definition_lists_in_markdown_are_kept(extractor: ChildExtractor, tmp_path: Path) -> None:
    """A term stands on the line above its description."""
    path = tmp_path / "a.md"
    path.write_text("# Top\n\nwords\n\nmast\n:   Where the antenna stands.\n\n## Inner\n\nmore\n")
    assert [s.text for s in await read(extractor, path)] == [
        "Top\n\nwords\n\nmast\nWhere the antenna stands.",
        "Inner\n\nmore",
    ]


async def test_slides_have_numbers_and_notes(extractor: ChildExtractor) -> None:
    """Slide 5 is the one about fire, and what the speaker says about it is there."""
    fire = (await read(extractor, CORPUS / "safety-induction.pptx"))[4]
    assert (fire.locator.kind, fire.locator.slide) == (LocatorKind.SLIDE, 5)
    assert fire.text.startswith("Fire in the powerhouse")
    assert "Notes: After carbon dioxide" in fire.text


async def test_sheets_have_true_cell_ranges(extractor: ChildExtractor) -> None:
    """The first sheet's table begins at B3, and the range says so."""
    parts, generation = await read(extractor, CORPUS / "spare-parts.xlsx")
    assert parts.locator.label == "sheet Spare parts, B3:I23"
    assert generation.locator.label == "sheet Generation 2025, A1:F13"
    assert parts.text.splitlines()[0].startswith("| Part number | Description |")


async def test_long_tables_come_in_parts_under_their_header(extractor: ChildExtractor, tmp_path: Path) -> None:
    """A CSV file of 450 rows is three segments or so, each with the header line and the range of its own rows."""
    path = tmp_path / "a.csv"
    path.write_text("name;value\n" + "".join(f"row {number};{number}\n" for number in range(2, 452)))
    segments = await read(extractor, path)
    ranges = [(s.locator.cells or "").removeprefix("A").split(":B") for s in segments]
    assert (ranges[0][0], ranges[-1][1]) == ("1", "451")
    assert [int(first) for first, _ in ranges[1:]] == [int(last) + 1 for _, last in ranges[:-1]]
    assert 3 <= len(segments) <= 5
    assert all(s.text.startswith("| name | value |\n") for s in segments)
    assert f"| row {ranges[1][0]} | {ranges[1][0]} |" in segments[1].text


async def test_wide_rows_come_in_shorter_parts(extractor: ChildExtractor, tmp_path: Path) -> None:
    """Rows of a thousand characters do not lose their header, because fewer of them share a segment."""
    path = tmp_path / "a.csv"
    path.write_text("name,text\n" + "".join(f"row {number},{'word ' * 200}\n" for number in range(2, 102)))
    segments = await read(extractor, path)
    assert len(segments) > 3
    assert all(s.text.startswith("| name | text |\n") for s in segments)
    assert segments[1].text.splitlines()[2].startswith(f"| {'row ' + (segments[1].locator.cells or '')[1:3]} |")


@pytest.mark.parametrize(
    "data", ["Grüße\nzwei".encode("latin-1"), "Grüße\nzwei".encode("utf-16"), "Grüße\nzwei\x00".encode("utf-8-sig")]
)
async def test_plain_text_is_decoded_and_cited_by_character(
    extractor: ChildExtractor, tmp_path: Path, data: bytes
) -> None:
    """The encoding is recognised, lines stay lines, and what cannot be stored is gone."""
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    (segment,) = [s async for s in extractor.extract(path, media_type=media.TEXT)]
    assert segment.text == "Grüße\nzwei"
    assert segment.locator.label == "characters 0–10"


async def test_a_long_text_is_cut_and_its_offsets_go_on(extractor: ChildExtractor, tmp_path: Path) -> None:
    """Segments stay small, and together they are the file."""
    text = "".join(f"Line {number} of a long file.\n" for number in range(12_000)).rstrip()
    path = tmp_path / "a.txt"
    path.write_text(text)
    segments = await read(extractor, path)
    assert len(segments) > 2
    assert all(text[s.locator.start_char : s.locator.end_char] == s.text for s in segments)
    assert "".join(s.text for s in segments) == text


async def test_words_in_a_picture_are_read(extractor: ChildExtractor, tmp_path: Path) -> None:
    """OCR reads an image, also one called .pdf, and a scanned page of a PDF."""
    (sign,) = await read(extractor, CORPUS / "control-room-sign.png")
    assert "extension 7702" in sign.text
    renamed, scan = tmp_path / "a.pdf", tmp_path / "scan.pdf"
    renamed.write_bytes((CORPUS / "control-room-sign.png").read_bytes())
    assert await read(extractor, renamed) == [sign]
    with Image.open(renamed) as image:
        image.convert("RGB").save(scan)
    (page,) = await read(extractor, scan)
    assert "extension 7702" in page.text
    assert page.locator.page == 1


async def test_damaged_files_are_refused_as_such(extractor: ChildExtractor, tmp_path: Path) -> None:
    """Half a file of each kind ends as corrupt, and never as a success."""
    for name in ("operations-manual.pdf", "maintenance-schedule.docx", "spare-parts.xlsx", "control-room-sign.png"):
        data = (CORPUS / name).read_bytes()
        half = tmp_path / name
        half.write_bytes(data[: len(data) // 2])
        media_type = extractor.sniff(CORPUS / name, name=name)
        assert await verdict(extractor, half, media_type) == "CORRUPT", name


async def test_files_without_text_are_refused(extractor: ChildExtractor, tmp_path: Path) -> None:
    """0 bytes are empty; a white picture, white space and hollow HTML hold no text."""
    empty, white, spaces, hollow = (tmp_path / name for name in ("a.txt", "a.png", "b.txt", "a.html"))
    empty.write_bytes(b"")
    Image.new("RGB", (200, 200), "white").save(white)
    spaces.write_text(" \n\n ")
    hollow.write_text("<div>" * 200_000 + "<script>x")
    assert await verdict(extractor, empty, media.TEXT) == "EMPTY"
    assert await verdict(extractor, white) == "NO_TEXT"
    assert await verdict(extractor, spaces) == "NO_TEXT"
    assert await verdict(extractor, hollow, media.HTML) == "NO_TEXT"


async def test_an_encrypted_pdf_is_refused_as_such(extractor: ChildExtractor) -> None:
    """A password is asked for by name, not called damage."""
    assert await verdict(extractor, ENCRYPTED) == "ENCRYPTED"


async def test_a_picture_of_too_many_pixels_is_refused(extractor: ChildExtractor, tmp_path: Path) -> None:
    """A small file that would unfold into gigabytes of pixels is not unfolded."""
    path = tmp_path / "a.png"
    Image.new("1", (12_000, 12_000)).save(path)
    assert await verdict(extractor, path) == "TOO_COMPLEX"


@pytest.mark.parametrize(
    "limits",
    [{"deadline_seconds": 0.0}, {"memory_limit_bytes": 4 * 1024 * 1024}, {"max_text_bytes": 2_000}],
    ids=["time", "memory", "text"],
)
async def test_every_limit_ends_the_file(tmp_path: Path, limits: dict[str, int]) -> None:
    """Too long, too much memory and too much text are verdicts on the file, and the child is gone."""
    before = children()
    async with ChildExtractor(work_dir=tmp_path, **limits) as extractor:
        assert await verdict(extractor, MANUAL) == "TOO_COMPLEX"
    assert children() <= before
    assert not os.listdir(tmp_path)  # noqa: PTH208


async def test_many_files_are_read_at_once(extractor: ChildExtractor) -> None:
    """Files that are read at the same time do not mix."""
    names = ["operations-manual.pdf", "turbine-faults.md", "spare-parts.xlsx", "shift-log.txt"]
    together = await asyncio.gather(*(read(extractor, CORPUS / name) for name in names))
    assert together == [await read(extractor, CORPUS / name) for name in names]


async def test_an_unknown_type_is_refused(extractor: ChildExtractor) -> None:
    """A type that nobody reads is a verdict, not a crash."""
    with pytest.raises(UnprocessableContent):
        async for _ in extractor.extract(MANUAL, media_type="application/x-nothing"):
            pass
