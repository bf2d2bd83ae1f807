"""Notes, comments, headers and footers of Word documents stand where they belong."""

from __future__ import annotations

import io
import zipfile

import pytest

from services.process.extract import library, office, parts, word
from services.process.extract.word import Layered
from shared.model import media
from tests.plugins.hostile import archive

NAMESPACE = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PARTS = ("styles", "footnotes", "endnotes", "comments", "header", "footer")


def paragraph(text: str, *, style: str = "", mark: str = "") -> str:
    """Return a paragraph that may refer to something."""
    said = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{said}<w:r><w:t>{text}</w:t></w:r><w:r>{mark}</w:r></w:p>"


def document(body: str, *, note: str = "Below") -> bytes:
    """Return a document with two footnotes, an endnote, a comment, a header and a footer."""
    notes = "".join(f'<w:{{0}} w:id="{number}">{paragraph("{1} " + number)}</w:{{0}}>' for number in ("2", "3"))
    relations = "".join(f'<Relationship Id="r{part}" Type="{RELATIONS}/{part}" Target="{part}.xml"/>' for part in PARTS)
    around = '<w:headerReference w:type="default" r:id="rheader"/><w:footerReference w:type="default" r:id="rfooter"/>'
    parts = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="xml" ContentType="application/xml"/></Types>',
        "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        f'<Relationship Id="r" Type="{RELATIONS}/officeDocument" Target="word/document.xml"/></Relationships>',
        "word/_rels/document.xml.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/'
        f'relationships">{relations}</Relationships>',
        "word/document.xml": f'<w:document {NAMESPACE} xmlns:r="{RELATIONS}"><w:body>{body}'
        f"<w:sectPr>{around}</w:sectPr></w:body></w:document>",
        "word/styles.xml": f'<w:styles {NAMESPACE}><w:style w:type="paragraph" w:styleId="H1">'
        '<w:name w:val="heading 1"/><w:pPr><w:outlineLvl w:val="0"/></w:pPr></w:style></w:styles>',
        "word/footnotes.xml": f"<w:footnotes {NAMESPACE}>{notes.format('footnote', note)}</w:footnotes>",
        "word/endnotes.xml": f"<w:endnotes {NAMESPACE}>{notes.format('endnote', 'Behind')}</w:endnotes>",
        "word/comments.xml": f"<w:comments {NAMESPACE}>{notes.format('comment', 'Beside')}</w:comments>",
        "word/header.xml": f"<w:hdr {NAMESPACE}>{paragraph('Above all')}</w:hdr>",
        "word/footer.xml": f"<w:ftr {NAMESPACE}>{paragraph('Below all')}</w:ftr>",
    }
    return archive({name: text.encode() for name, text in parts.items()})


async def sections(data: bytes) -> list[tuple[tuple[str, ...] | None, list[str]]]:
    """Return the heading paths of a document, and the blocks under each."""
    read = await library.read_document(data, media.DOCX)
    found = office.heading_sections(read, lambda layered: word.arranged(layered, data))
    return [(section.locator.heading_path, section.text.split("\n\n")) for section in found]


async def test_what_is_referred_to_stands_under_the_heading_that_refers_to_it() -> None:
    """Also where footnotes and endnotes have the same ids, and are not referred to in the order of their ids."""
    body = (
        paragraph("Gates", style="H1")
        + paragraph("First", mark='<w:footnoteReference w:id="3"/>')
        + paragraph("Second", mark='<w:commentReference w:id="2"/>')
        + paragraph("Locks", style="H1")
        + paragraph("Third", mark='<w:endnoteReference w:id="3"/>')
        + paragraph("Fourth", mark='<w:footnoteReference w:id="2"/>')
    )
    assert await sections(document(body)) == [
        ((), ["Above all", "Below all"]),
        (("Gates",), ["Gates", "First", "Note: Below 3", "Second", "Comment: Beside 2"]),
        (("Locks",), ["Locks", "Third", "Note: Behind 3", "Fourth", "Note: Below 2"]),
    ]


async def test_breaks_tabs_and_hyphens_of_notes_keep_words_apart() -> None:
    """As those of the text do."""
    body = paragraph("Gates", mark='<w:footnoteReference w:id="2"/>')
    data = document(body, note="one</w:t><w:br/><w:t>two</w:t><w:tab/><w:t>three</w:t><w:noBreakHyphen/><w:t>four")
    assert (await sections(data))[-1][1][-2:] == ["Gates", "Note: one\ntwo\tthree-four 2"]


async def test_notes_whose_place_is_not_certain_stand_under_no_heading() -> None:
    """A text that looks like a mark is none; nothing is lost for it."""
    body = paragraph("Gates", style="H1") + paragraph("See [^1]", mark='<w:footnoteReference w:id="3"/>')
    (around, before), (path, words) = await sections(document(body))
    assert (around, path) == ((), ("Gates",))
    assert {"Below 3", "Above all"} <= set(before)
    assert words[1].startswith("See [^1]")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", archive({"word/document.xml": b"<broken"})])
def test_an_odd_file_keeps_its_notes(data: bytes) -> None:
    """What the library has read stays, first."""
    layered: list[Layered] = [("body", (1, "Gates")), ("body", (0, "First[^1]")), ("footnote", (0, "Below"))]
    assert word.arranged(layered, data) == [(0, "Below"), (1, "Gates"), (0, "First[^1]")]


def test_a_document_that_unfolds_into_too_much_keeps_its_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not unpacked a second time."""
    monkeypatch.setattr(parts, "MAX_PART_BYTES", 10)
    data = document(paragraph("First", mark='<w:footnoteReference w:id="2"/>'))
    layered: list[Layered] = [("body", (0, "First[^2]")), ("footnote", (0, "Below 2"))]
    assert word.arranged(layered, data) == [(0, "Below 2"), (0, "First[^2]")]
    assert zipfile.is_zipfile(io.BytesIO(data))
