"""Real files of many programs: a passage is found in a chunk, and the chunk's locator says where it stands."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pypdfium2
import pytest
from tokenizers import Tokenizer

from services.process.chunking import chunk
from services.process.extract.extractor import ChildExtractor
from shared.model.document import Chunk
from shared.model.locator import LocatorKind

ROOT = Path(__file__).parents[4]
FILES = ROOT / "tests" / "files"
TOKENIZER = ROOT / "shared" / "embedding" / "minilm-tokenizer.json"
MAX_TOKENS = 256

TITLE = "Lindholm Ferry Handbook"
LANE, BOW, RED_BOX = "queue in lane four", "stand at the bow", "in the red box beside the kiosk"
UMLAUTS = "Grüße från Varnö: the naïve café takes 5"
LAST = "| 18:00 | Pier 4 | Aurelia | with restaurant |"
NOTICE = "upper deck is closed"

Place = dict[str, object]


def under(*path: str) -> Place:
    """Describe a place below headings."""
    return {"kind": "heading", "heading_path": list(path)}


def page(number: int) -> Place:
    """Describe a place on a page."""
    return {"kind": "page", "page": number}


def slide(number: int) -> Place:
    """Describe a place on a slide."""
    return {"kind": "slide", "slide": number}


def cells(sheet: str, *, first: int | None = None, last: int | None = None, columns: str = "B:D") -> Place:
    """Describe a place in a sheet; the rows are those of the chunk that holds the passage."""
    return {"kind": "sheet", "sheet": sheet, "first": first, "last": last, "columns": columns}


def attached(*names: str, place: Place) -> Place:
    """Describe a place in what is attached to a mail."""
    return place | {"attachment": list(names)}


TEXT: Place = {"kind": "text"}
WHOLE = {
    LANE: under(TITLE, "Boarding", "Vehicles"),
    BOW: under(TITLE, "Boarding", "Bicycles"),
    LAST: under(TITLE, "Timetable"),
    RED_BOX: under(TITLE, "Safety"),
    UMLAUTS: under(TITLE, "Safety"),
}
PARTS = {
    LANE: under("Boarding", "Vehicles"),
    BOW: under("Boarding", "Bicycles"),
    LAST: under("Timetable"),
    RED_BOX: under("Safety"),
}
PLAIN = {LANE: TEXT, RED_BOX: TEXT}
DECK = {LANE: slide(2), BOW: slide(2), RED_BOX: slide(3), "Notes: Show the yellow straps.": slide(2)}
FUEL = {"| 2026-12 | Castor | 12074 |": cells("Fuel", last=39), "| 2026-01 | Aurelia | 1000 |": cells("Fuel", first=3)}
CREW = {RED_BOX: cells("Crew", first=1, last=2, columns="A:B")}
ROWS = {"| 05:00 | Pier 1 |": cells("data", first=1, columns="A:D"), LAST: cells("data", last=41, columns="A:D")}
CHAPTERS = {LANE: under("Boarding"), RED_BOX: under("Safety")}

EXPECTED: dict[str, dict[str, Place]] = {
    "docx/libreoffice.docx": WHOLE,
    "docx/pandoc.docx": WHOLE,
    "docx/node-docx.docx": WHOLE,
    "docx/python-docx.docx": {key: WHOLE[key] for key in (LANE, BOW, LAST, RED_BOX)},
    "odt/libreoffice.odt": WHOLE,
    "odt/pandoc.odt": WHOLE,
    "odt/docutils.odt": PARTS,
    "odt/odfpy.odt": {key: WHOLE[key] for key in (LANE, BOW, RED_BOX)},
    "rtf/libreoffice.rtf": WHOLE,
    "rtf/pandoc.rtf": WHOLE,
    "rtf/abiword.rtf": PLAIN,
    # The reader of the old binary format loses headings after a table.
    "doc/libreoffice.doc": {key: WHOLE[key] for key in (LANE, BOW)} | {RED_BOX: {"kind": "heading"}},
    "doc/libreoffice-from-pandoc.doc": {key: WHOLE[key] for key in (LANE, BOW)} | {RED_BOX: {"kind": "heading"}},
    "html/libreoffice.html": WHOLE,
    "html/pandoc.html": WHOLE,
    "html/docutils.html": PARTS,
    "html/browser.htm": WHOLE,
    "html/everything.html": {
        "Measured twice a year.": under("Settings of the radar mast", "Definitions"),
        "Ropes are checked in March.": under("Settings of the radar mast", "Quotations"),
    },
    "md/pandoc-gfm.md": WHOLE,
    "md/pandoc-setext.markdown": WHOLE,
    "md/notes.md": PARTS,
    "txt/pandoc.txt": PLAIN,
    "txt/libreoffice.txt": PLAIN,
    "txt/groff.txt": PLAIN,
    "txt/windows.txt": PLAIN | {UMLAUTS + " €": TEXT},
    "epub/pandoc.epub": WHOLE,
    "epub/epub-gen.epub": CHAPTERS,
    "epub/ebooklib.epub": CHAPTERS,
    "epub/libreoffice.epub": PLAIN,
    "eml/hand.eml": {RED_BOX: TEXT, "Subject: Grüße from Varnö": TEXT},
    "eml/python.eml": {LANE: TEXT, "Subject: Boarding rules": TEXT, RED_BOX: attached("safety.txt", place=TEXT)},
    "eml/python-attachments.eml": {
        "Subject: Papers for the season": TEXT,
        LANE: attached("reportlab.pdf", place=page(2)),
        "| 2026-12 | Castor | 12074 |": attached("openpyxl.xlsx", place=cells("Fuel", last=39)),
        "Entwurf für März.docx: The file is damaged": attached("Entwurf für März.docx", place=TEXT),
        "As promised.": attached("Bicycles", place=TEXT),
        BOW: attached("Bicycles", "node-docx.docx", place=under(TITLE, "Boarding", "Bicycles")),
        "| 05:00 | Pier 1 |": attached("Bicycles", "excel.csv", place=ROWS["| 05:00 | Pier 1 |"]),
    },
    "eml/nodemailer.eml": {
        UMLAUTS: under("Timetable"),
        "| 05:20 | Pier 2 |": under("Timetable"),
        BOW: attached("story.html", place=WHOLE[BOW]),
    },
    "msg/aspose-foss.msg": {LANE: TEXT, "Subject: Boarding rules": TEXT, RED_BOX: attached("safety.txt", place=TEXT)},
    "msg/aspose-foss-attachments.msg": {
        "| 2026-12 | Castor | 12074 |": attached("fuel.xls", place=cells("Fuel", last=39)),
        BOW: attached("pier.pdf", place=page(2)),
        "Subject: Boarding rules": attached("Boarding rules.msg", place=TEXT),
        RED_BOX: attached("Boarding rules.msg", "safety.txt", place=TEXT),
    },
    "msg/node-cfb.msg": {RED_BOX: TEXT, UMLAUTS: TEXT},
    "msg/ole-storage-lite.msg": {LANE: TEXT, UMLAUTS: TEXT},
    "json/python.json": {LAST: under("sailings")},
    "json/node.json": {RED_BOX: under()},
    "json/map.json": {LANE: under("features"), RED_BOX: under("features")},
    "xml/python-rss.xml": {LANE: under("rss", TITLE, "Boarding"), RED_BOX: under("rss", TITLE, "Safety")},
    "xml/pandoc-docbook.xml": {
        LANE: under("article", TITLE, "Boarding", "Vehicles"),
        RED_BOX: under("article", TITLE, "Safety"),
    },
    "xml/libreoffice-flat.xml": {LANE: {"kind": "heading"}, RED_BOX: {"kind": "heading"}},
    "pptx/libreoffice.pptx": DECK,
    "pptx/python-pptx.pptx": DECK | {"| 06:40 | Pier 2 | Castor |": slide(4)},
    "pptx/pptxgenjs.pptx": DECK | {"| 06:40 | Pier 2 | Castor |": slide(4)},
    "pptx/pandoc.pptx": DECK,
    "odp/libreoffice.odp": DECK | {"| 06:40 | Pier 2 | Castor |": slide(4)},
    "odp/odfpy.odp": DECK,
    "odp/odfdo.odp": {LANE: slide(2), BOW: slide(2), RED_BOX: slide(3)},
    "ppt/libreoffice.ppt": DECK,
    "ppt/libreoffice-from-pptx.ppt": DECK | {"06:40": slide(4)},
    "ppt/poi.ppt": {LANE: slide(2), BOW: slide(2), RED_BOX: slide(3)},
    "xlsx/libreoffice.xlsx": FUEL | CREW,
    "xlsx/openpyxl.xlsx": FUEL | CREW,
    "xlsx/gnumeric.xlsx": FUEL | CREW,
    "xlsx/xlsxwriter.xlsx": CREW | {"|  |  | 235332 |": cells("Fuel", last=40)},
    "xlsx/exceljs.xlsx": {
        "| 2026-12 | Castor | 12074 |": cells("Fuel", last=39, columns="B:F"),
        RED_BOX: cells("Crew & notes", first=1, last=2, columns="A:B"),
    },
    "ods/libreoffice.ods": FUEL | CREW,
    "ods/gnumeric.ods": FUEL | CREW,
    "ods/odfpy.ods": FUEL | CREW,
    "ods/odfdo.ods": FUEL,
    "xls/libreoffice.xls": FUEL | CREW,
    "xls/xlwt.xls": FUEL,
    "xls/writeexcel.xls": FUEL | CREW,
    "xls/poi.xls": {"| 2026-12 | Castor | 12074 |": cells("Fuel – Öl", last=41, columns="D:F")},
    "csv/python.csv": ROWS,
    "csv/libreoffice.csv": ROWS,
    "csv/gnumeric.csv": ROWS,
    "csv/excel.csv": ROWS,
    "csv/form.csv": {"| Where are the jackets? |": cells("data", first=1, last=3, columns="A:B")},
    "csv/python.tsv": ROWS,
    "csv/gnumeric.tsv": ROWS,
    "csv/excel-unicode.tsv": ROWS,
    "pdf/libreoffice.pdf": {LANE: page(2), "11:20 Pier 4 Borealis not on Sundays": page(3), RED_BOX: page(4)},
    "pdf/wkhtmltopdf.pdf": {LANE: page(1), RED_BOX: page(2)},
    "pdf/groff-ghostscript.pdf": {LANE: page(1), "Dogs wear a lead": page(2)},
    "pdf/reportlab.pdf": {LANE: page(2), BOW: page(2), "| 06:40 | Pier 2 | Castor |": page(3), LAST: page(4)},
    "pdf/qpdf-turned.pdf": {LANE: page(2), "| 06:40 | Pier 2 | Castor |": page(3)},
    "pdf/fpdf-columns.pdf": {LANE: page(1), RED_BOX: page(1)},
    "png/imagemagick.png": {NOTICE: page(1)},
    "jpg/sharp-sideways.jpeg": {NOTICE: page(1)},
    "tiff/libtiff.tif": {NOTICE: page(1), "kiosk opens at nine": page(2)},
}
"""Of each file, passages and where they stand."""

SLOW: dict[str, dict[str, Place]] = {
    "pdf/img2pdf-scan.pdf": {RED_BOX: page(1), LANE: page(2)},
    "pdf/reportlab-mixed.pdf": {"island of Varnö": page(1), RED_BOX: page(2), BOW: page(3), "Page 3 of 4": page(3)},
    "pdf/qpdf-turned-scan.pdf": {"under the benches of deck two": page(1)},
    "pdf/img2pdf-sideways.pdf": {"under the benches of deck two": page(1)},
    "pdf/pillow-photo.pdf": {NOTICE: page(1)},
    "tiff/pillow.tiff": {NOTICE: page(1), "kiosk opens at nine": page(2)},
} | {
    name: {NOTICE: page(1)}
    for name in [
        "png/pillow-transparent.png",
        "png/libreoffice.png",
        "jpg/pillow.jpg",
        "jpg/imagemagick.jpg",
        "webp/pillow.webp",
        "webp/cwebp.webp",
        "webp/sharp.webp",
        "tiff/imagemagick.tif",
        "gif/pillow.gif",
        "gif/imagemagick.gif",
        "gif/sharp.gif",
        "bmp/pillow.bmp",
        "bmp/imagemagick.bmp",
        "bmp/ghostscript.bmp",
    ]
}
"""The same for what OCR reads, a second or more a page."""


@pytest.fixture(scope="module")
def tokens() -> Callable[[str], int]:
    """Hand out what counts the tokens of the local model."""
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text).ids)


@pytest.fixture(scope="module")
def chunks_of(tokens: Callable[[str], int]) -> Iterator[Callable[[str], list[Chunk]]]:
    """Hand out a reader of files into chunks; one warm process serves the whole module."""
    with asyncio.Runner() as runner:
        extractor = ChildExtractor(deadline_seconds=240)

        async def read(name: str) -> list[Chunk]:
            path = FILES / name
            media_type = extractor.sniff(path, name=path.name)
            segments = [segment async for segment in extractor.extract(path, media_type=media_type)]
            return list(chunk(segments, max_tokens=MAX_TOKENS, count_tokens=tokens))

        runner.run(extractor.__aenter__())
        try:
            yield lambda name: runner.run(read(name))
        finally:
            runner.run(extractor.__aexit__(None, None, None))


CASES = [pytest.param(name, wanted, id=name) for name, wanted in EXPECTED.items()] + [
    pytest.param(name, wanted, id=name, marks=pytest.mark.slow) for name, wanted in SLOW.items()
]


@pytest.mark.parametrize(("name", "wanted"), CASES)
def test_passages_are_cited_where_they_stand(
    chunks_of: Callable[[str], list[Chunk]], tokens: Callable[[str], int], name: str, wanted: dict[str, Place]
) -> None:
    """Each passage is in a chunk with the right locator; no chunk is longer than the model reads."""
    chunks = chunks_of(name)
    assert max(tokens(made.text) for made in chunks) <= MAX_TOKENS
    for passage, place in wanted.items():
        holding = [made for made in chunks if _plain(passage) in _plain(made.text)]
        assert holding, f"{passage!r} is in none of {[made.text for made in chunks]}"
        assert any(_stands(made, place) for made in holding), (passage, [made.locator for made in holding])
        if passage == LAST and place["kind"] != "page":
            assert all("| Departure | Pier |" in made.text.title() for made in holding)


def test_each_format_has_files_of_three_programs() -> None:
    """What DESIGN counts as documents and images is here three times at least, and each file is in the table."""
    formats = [
        "docx",
        "odt",
        "rtf",
        "html",
        "md",
        "txt",
        "epub",
        "eml",
        "msg",
        "json",
        "xml",
        "pptx",
        "odp",
        "ppt",
        "xlsx",
        "ods",
        "xls",
        "csv",
        "pdf",
        "png",
        "jpg",
        "webp",
        "tiff",
        "gif",
        "bmp",
    ]
    named = set(EXPECTED | SLOW)
    here = {f"{path.parent.name}/{path.name}" for path in FILES.glob("*/*") if path.parent.name != "__pycache__"}
    assert here - named == {"json/pandoc.json"}
    assert named <= here
    for format_ in formats:
        assert sum(name.startswith(f"{format_}/") for name in named) >= 3, format_
    assert sum(path.stat().st_size for path in FILES.glob("*/*")) < 3_000_000


@pytest.mark.parametrize(
    ("name", "number", "first", "last"),
    [
        ("pdf/reportlab.pdf", 2, "Vehicles", "luggage"),
        ("pdf/libreoffice.pdf", 4, "Life jackets", "Varnö"),
        ("pdf/groff-ghostscript.pdf", 1, "Boarding", "hand luggage"),
    ],
)
def test_a_chunk_is_boxed_on_its_page(
    chunks_of: Callable[[str], list[Chunk]], name: str, number: int, first: str, last: str
) -> None:
    """The box of the chunks of a page holds the first and the last words, as another measure finds them."""
    chunks = [made for made in chunks_of(name) if made.locator.page == number]
    with closing(pypdfium2.PdfDocument(FILES / name)) as pdf, closing(pdf[number - 1]) as shown:
        height = shown.get_size()[1]
        with closing(shown.get_textpage()) as text_page:
            for words in (first, last):
                (holding, *_) = [made for made in chunks if words in _plain(made.text)]
                assert holding.locator.box is not None
                x0, y0, x1, y1 = holding.locator.box
                index, count = text_page.search(words).get_next()
                assert text_page.count_rects(index, count) == 1
                left, bottom, right, top = text_page.get_rect(0)
                assert x0 - 1 <= left <= right <= x1 + 1
                assert y0 - 1 <= height - top <= height - bottom <= y1 + 1


def test_boxes_are_those_of_the_page_as_it_is_shown(chunks_of: Callable[[str], list[Chunk]]) -> None:
    """On a page that is turned to the right, the box is turned with it; scanned pages have none."""
    upright, turned = (
        next(made.locator.box for made in chunks_of(f"pdf/{name}.pdf") if LANE in made.text)
        for name in ("reportlab", "qpdf-turned")
    )
    assert upright is not None
    assert turned is not None
    x0, y0, x1, y1 = upright
    assert turned == pytest.approx((841.9 - y1, x0, 841.9 - y0, x1), abs=0.5)


def _stands(made: Chunk, place: Place) -> bool:
    locator: dict[str, Any] = made.locator.to_json()
    if made.locator.kind is LocatorKind.TEXT and made.locator.end_char != (made.locator.start_char or 0) + len(
        made.text
    ):
        return False
    wanted = dict(place)
    columns, first, last = (wanted.pop(key, None) for key in ("columns", "first", "last"))
    if columns is not None:
        start, end = made.locator.cells.split(":") if made.locator.cells else ("", "")
        found = f"{start.rstrip('0123456789')}:{end.rstrip('0123456789')}"
        if found != columns or first not in {None, _row(start)} or last not in {None, _row(end)}:
            return False
    return wanted.items() <= locator.items()


def _row(cell: str) -> int:
    return int(cell.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))


def _plain(text: str) -> str:
    return " ".join(text.replace("**", "").split())
