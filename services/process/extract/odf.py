"""What the library does not tell of OpenDocument files: the text of slides, where cells begin, and notes on them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from services.process.extract.parts import ODD, Parts
from services.process.extract.sections import Place, Section, remark_section, table_text
from shared.model.locator import Locator, LocatorKind

Corner = tuple[int, int, tuple[int, int]]
"""A sheet's first used column and row, from 1, and the (height, width) of what is used."""

_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_DRAW = "{urn:oasis:names:tc:opendocument:xmlns:drawing:1.0}"
_NOTES = "{urn:oasis:names:tc:opendocument:xmlns:presentation:1.0}notes"
_CELLS = (f"{_TABLE}table-cell", f"{_TABLE}covered-table-cell")  # the latter are under one that spans them
_SPACES = {f"{_TEXT}s": " ", f"{_TEXT}tab": "\t", f"{_TEXT}line-break": "\n"}


def slides(data: bytes) -> list[Section]:
    """Return one section per slide, its notes at the end; nothing when the file is not as expected."""
    root = _content(data)
    pages = [] if root is None else root.iterfind(f"{_OFFICE}body/{_OFFICE}presentation/{_DRAW}page")
    return [
        Section(_slide_text(page), Locator(kind=LocatorKind.SLIDE, slide=number))
        for number, page in enumerate(pages, 1)
    ]


def corners(data: bytes) -> dict[str, Corner]:
    """Return where the used cells of each sheet stand."""
    root = _content(data)
    sheets = [] if root is None else root.iterfind(f"{_OFFICE}body/{_OFFICE}spreadsheet/{_TABLE}table")
    return {sheet.get(f"{_TABLE}name", ""): corner for sheet in sheets if (corner := _corner(sheet))}


def remarks(data: bytes) -> list[Section]:
    """Return one section per sheet with the notes on its cells."""
    root = _content(data)
    sheets = [] if root is None else root.iterfind(f"{_OFFICE}body/{_OFFICE}spreadsheet/{_TABLE}table")
    found = (remark_section(sheet.get(f"{_TABLE}name", ""), _said(sheet)) for sheet in sheets)
    return [section for section in found if section is not None]


def _said(sheet: Any) -> list[tuple[Place, str]]:
    said = []
    for column, row, cell, _ in _cells(sheet):
        note = cell.find(f"{_OFFICE}annotation")
        lines = [] if note is None else [_text(line) for line in note.iter(f"{_TEXT}p")]
        if words := " ".join(" ".join(lines).split()):
            said.append(((row, column), words))
    return said


def _content(data: bytes) -> Any:
    try:
        with Parts(data) as parts:
            return parts.xml("content.xml")
    except ODD:
        return None  # this is an extra; the text was read without it


def _slide_text(page: Any) -> str:
    shown = [block for shape in page if shape.tag != _NOTES for block in _blocks(shape)]
    spoken = [block for notes in page.iterfind(_NOTES) for block in _blocks(notes)]
    return "\n\n".join(shown + ([f"Notes: {' '.join(spoken)}"] if spoken else []))


def _blocks(element: Any) -> Iterator[str]:
    if element.tag == f"{_TABLE}table":
        rows = [[_text(cell) for cell in row if cell.tag in _CELLS] for row in element.iter(f"{_TABLE}table-row")]
        if any(any(row) for row in rows):
            yield table_text(rows)
    elif element.tag in {f"{_TEXT}p", f"{_TEXT}h"}:
        if text := _text(element).strip():
            yield text
    else:
        for child in element:
            yield from _blocks(child)


def _text(element: Any) -> str:
    if element.tag == f"{_TEXT}page-number":
        return ""
    inner = "".join(_text(child) + (child.tail or "") for child in element)
    return (element.text or "") + _SPACES.get(element.tag, "") + inner


def _corner(sheet: Any) -> Corner | None:
    used = [
        (column, row, column + _repeated(cell, "columns") - 1, row + _repeated(line, "rows") - 1)
        for column, row, cell, line in _cells(sheet)
        if cell.find(f"{_TEXT}p") is not None
    ]
    if not used:
        return None
    left, top, right, bottom = zip(*used, strict=True)
    return min(left), min(top), (max(bottom) - min(top) + 1, max(right) - min(left) + 1)


def _cells(sheet: Any) -> Iterator[tuple[int, int, Any, Any]]:
    """Yield column and row, from 1, the cell and its line; one that is repeated stands for all."""
    row = 1
    for line in sheet.iter(f"{_TABLE}table-row"):
        column = 1
        for cell in line:
            yield column, row, cell, line
            column += _repeated(cell, "columns")
        row += _repeated(line, "rows")


def _repeated(element: Any, what: str) -> int:
    said = element.get(f"{_TABLE}number-{what}-repeated", "1")
    return int(said) if said.isdecimal() else 1
