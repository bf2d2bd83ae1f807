"""What people remark on cells is found, with the cells; odd workbooks keep what the library read of them."""

from __future__ import annotations

import pytest

from services.process.extract import odf, xlsx
from tests.plugins.hostile import archive

MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
THREADS = "http://schemas.microsoft.com/office/2017/10/relationships/threadedComment"
NOTES = {"C3": "<r><t>Ann:</t></r><r><t> leaks</t></r>", "B2": "<t>New since\n March</t>", "D9": "<t>[Thread]</t>"}


def workbook(*, notes: dict[str, str], threads: dict[str, str] | None = None) -> bytes:
    """Return a workbook with an empty sheet and one whose cells have notes and threads."""
    listed = f'<Relationship Id="r1" Type="{RELATIONS}/comments" Target="../comments1.xml"/>'
    parts = {
        "xl/workbook.xml": f'<workbook {MAIN} xmlns:r="{RELATIONS}"><sheets><sheet name="Empty" r:id="a"/>'
        '<sheet name="Gates" r:id="b"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": "<Relationships>"
        '<Relationship Id="a" Target="worksheets/sheet1.xml"/><Relationship Id="b" Target="/xl/worksheets/sheet2.xml"/>'
        "</Relationships>",
        "xl/comments1.xml": f"<comments {MAIN}><commentList>"
        + "".join(f'<comment ref="{cell}"><text>{text}</text></comment>' for cell, text in notes.items())
        + "</commentList></comments>",
    }
    if threads is not None:
        listed += f'<Relationship Id="r2" Type="{THREADS}" Target="../threadedComments/t.xml"/>'
        said = "".join(
            f'<threadedComment ref="{cell}"><text>{text}</text></threadedComment>' for cell, text in threads.items()
        )
        parts["xl/threadedComments/t.xml"] = f"<ThreadedComments>{said}</ThreadedComments>"
    parts["xl/worksheets/_rels/sheet2.xml.rels"] = f"<Relationships>{listed}</Relationships>"
    return archive({name: text.encode() for name, text in parts.items()})


def test_notes_are_cited_with_the_cells_they_hang_on() -> None:
    """In the order of the cells, those of a sheet together."""
    (found,) = xlsx.remarks(workbook(notes=NOTES))
    assert found.text.split("\n") == [
        "Comment on B2: New since March",
        "Comment on C3: Ann: leaks",
        "Comment on D9: [Thread]",
    ]
    assert (found.locator.sheet, found.locator.cells) == ("Gates", "B2:D9")


def test_of_a_thread_the_note_that_points_to_it_is_left_out() -> None:
    """Every answer is there."""
    (found,) = xlsx.remarks(workbook(notes={"D9": NOTES["D9"]}, threads={"D9": "Is it tight?"}))
    assert (found.text, found.locator.cells) == ("Comment on D9: Is it tight?", "D9")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        archive({"xl/workbook.xml": b"<workbook"}),
        workbook(notes={}),
        workbook(notes={"here": "<t>x</t>", "B2": "<t> </t>", "C2": ""}),
    ],
    ids=["no archive", "broken", "no notes", "odd notes"],
)
def test_an_odd_workbook_has_no_remarks(data: bytes) -> None:
    """They are an extra."""
    assert xlsx.remarks(data) == []


def test_notes_of_opendocument_sheets_are_cited_as_those_of_excel() -> None:
    """Cells that stand for many are counted; a number of them that is none counts as one."""
    cell = '<table:table-cell table:number-columns-repeated="{}">{}</table:table-cell>'
    note = "<office:annotation><text:p>Leaks</text:p><text:p>in rain</text:p></office:annotation><text:p>A</text:p>"
    line = '<table:table-row table:number-rows-repeated="{}">{}</table:table-row>'
    table = line.format(4, cell.format("1", "")) + line.format(1, cell.format("2", "") + cell.format("x", note))
    names = "".join(
        f' xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "table", "text")
    )
    content = (
        f'<office:document-content{names}><office:body><office:spreadsheet><table:table table:name="Gates">{table}'
        "</table:table></office:spreadsheet></office:body></office:document-content>"
    )
    data = archive({"content.xml": content.encode()})
    (found,) = odf.remarks(data)
    assert (found.text, found.locator.sheet, found.locator.cells) == ("Comment on C5: Leaks in rain", "Gates", "C5")
    assert odf.corners(data) == {"Gates": (3, 5, (1, 1))}


def test_merged_cells_of_a_slide_keep_the_others_in_their_columns() -> None:
    """A cell under one that spans it is empty, and there."""
    cells = (
        '<table:table-cell table:number-rows-spanned="2"><text:p>North</text:p></table:table-cell>{}',
        "<table:covered-table-cell/>{}",
    )
    rows = "".join(
        f"<table:table-row>{cell.format(f'<table:table-cell><text:p>{year}</text:p></table:table-cell>')}</table:table-row>"
        for cell, year in zip(cells, (2024, 2025), strict=True)
    )
    names = "".join(
        f' xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{kind}:1.0"'
        for name, kind in (("office", "office"), ("table", "table"), ("text", "text"), ("draw", "drawing"))
    )
    content = (
        f"<office:document-content{names}><office:body><office:presentation><draw:page><draw:frame>"
        f"<table:table>{rows}</table:table></draw:frame></draw:page></office:presentation></office:body>"
        "</office:document-content>"
    )
    (slide,) = odf.slides(archive({"content.xml": content.encode()}))
    assert slide.text.split("\n")[-1] == "|  | 2025 |"
