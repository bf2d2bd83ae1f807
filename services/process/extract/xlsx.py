"""What the library does not tell of Excel's workbooks: where a sheet's cells begin, and what was remarked on them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import Any

from services.process.extract.parts import MAX_PART_BYTES, ODD, Parts
from services.process.extract.sections import Place, Section, remark_section

_CELL = re.compile(rb'<c r="([A-Z]{1,3})(\d{1,7})"[^>]*?(?:/>|>(.*?)</c>)', re.DOTALL)
_VALUE = re.compile(rb"<v>[^<]|<is>")
_PLACE = re.compile(r"([A-Z]{1,3})(\d{1,7})")
_RELATION_ID = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"


def corners(data: bytes) -> dict[str, tuple[int, int, tuple[int, int]]]:
    """Return each sheet's first used column and row, and its (height, width); what is odd is left out."""
    found = {}
    try:
        with Parts(data) as parts:
            for name, part in _sheets(parts).items():
                if parts.size_bytes(part) <= MAX_PART_BYTES:
                    cells = [
                        (_number_of(match[1].decode()), int(match[2]))
                        for match in _CELL.finditer(parts.read(part))
                        if match[3] and _VALUE.search(match[3])
                    ]
                    if cells:
                        columns, rows = zip(*cells, strict=True)
                        shape = (max(rows) - min(rows) + 1, max(columns) - min(columns) + 1)
                        found[name] = (min(columns), min(rows), shape)
    except ODD:
        return {}  # the cells are an extra; the text was read without them
    return found


def remarks(data: bytes) -> list[Section]:
    """Return one section per sheet with the notes and threads that hang on its cells; what is odd is left out."""
    try:
        with Parts(data) as parts:
            return [section for name, part in _sheets(parts).items() if (section := _remarks_of(parts, name, part))]
    except ODD:
        return []


def _remarks_of(parts: Parts, sheet: str, part: str) -> Section | None:
    related = list(_related(parts, part))
    threads = [said for kind, target in related if kind == "threadedComment" for said in _said(parts, target)]
    notes = [said for kind, target in related if kind == "comments" for said in _said(parts, target)]
    discussed = {place for place, _ in threads}  # the note on such a cell only says that there is a thread
    return remark_section(sheet, threads + [note for note in notes if note[0] not in discussed])


def _said(parts: Parts, part: str) -> Iterator[tuple[Place, str]]:
    for remark in parts.xml(part).iter():
        match = _PLACE.fullmatch(remark.get("ref", ""))
        text = remark.find("{*}text")
        if match and text is not None and (words := " ".join("".join(text.itertext()).split())):
            yield (int(match[2]), _number_of(match[1])), words


def _related(parts: Parts, part: str) -> Iterator[tuple[str, str]]:
    """Yield the kind and the name of what a part refers to."""
    folder, name = posixpath.split(part)
    listed = f"{folder}/_rels/{name}.rels"
    if listed in parts:
        for item in parts.xml(listed):
            yield posixpath.basename(item.get("Type", "")), _target(folder, item)


def _sheets(parts: Parts) -> dict[str, str]:
    """Return the part of each sheet by the sheet's name."""
    targets = {item.get("Id"): _target("xl", item) for item in parts.xml("xl/_rels/workbook.xml.rels")}
    return {
        sheet.get("name", ""): targets.get(sheet.get(_RELATION_ID), "")
        for sheet in parts.xml("xl/workbook.xml").iterfind(".//{*}sheet")
    }


def _target(folder: str, relation: Any) -> str:
    return posixpath.normpath(posixpath.join(f"/{folder}", relation.get("Target", "")))[1:]


def _number_of(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number
