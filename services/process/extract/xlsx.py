"""What the library does not tell of Excel's workbooks: where a sheet's cells begin, and what was remarked on them."""

from __future__ import annotations

import io
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

from services.process.extract.sections import Place, Section, remark_section

_MAX_XML_BYTES = 32 * 1024 * 1024
_CELL = re.compile(rb'<c r="([A-Z]{1,3})(\d{1,7})"[^>]*?(?:/>|>(.*?)</c>)', re.DOTALL)
_VALUE = re.compile(rb"<v>[^<]|<is>")
_PLACE = re.compile(r"([A-Z]{1,3})(\d{1,7})")
_RELATION_ID = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_ODD = (KeyError, ValueError, OSError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile, ET.ParseError)


def corners(data: bytes) -> dict[str, tuple[int, int, tuple[int, int]]]:
    """Return each sheet's first used column and row, and its (height, width); what is odd is left out."""
    found = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name, part in _sheets(archive).items():
                if archive.getinfo(part).file_size <= _MAX_XML_BYTES:
                    cells = [
                        (_number_of(match[1].decode()), int(match[2]))
                        for match in _CELL.finditer(archive.read(part))
                        if match[3] and _VALUE.search(match[3])
                    ]
                    if cells:
                        columns, rows = zip(*cells, strict=True)
                        shape = (max(rows) - min(rows) + 1, max(columns) - min(columns) + 1)
                        found[name] = (min(columns), min(rows), shape)
    except _ODD:
        return {}  # the cells are an extra; the text was read without them
    return found


def remarks(data: bytes) -> list[Section]:
    """Return one section per sheet with the notes and threads that hang on its cells; what is odd is left out."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return [section for name, part in _sheets(archive).items() if (section := _remarks_of(archive, name, part))]
    except _ODD:
        return []


def _remarks_of(archive: zipfile.ZipFile, sheet: str, part: str) -> Section | None:
    related = list(_related(archive, part))
    threads = [said for kind, target in related if kind == "threadedComment" for said in _said(archive, target)]
    notes = [said for kind, target in related if kind == "comments" for said in _said(archive, target)]
    discussed = {place for place, _ in threads}  # the note on such a cell only says that there is a thread
    return remark_section(sheet, threads + [note for note in notes if note[0] not in discussed])


def _said(archive: zipfile.ZipFile, part: str) -> Iterator[tuple[Place, str]]:
    for remark in _parsed(archive, part).iter():
        match = _PLACE.fullmatch(remark.get("ref", ""))
        text = remark.find("{*}text")
        if match and text is not None and (words := " ".join("".join(text.itertext()).split())):
            yield (int(match[2]), _number_of(match[1])), words


def _related(archive: zipfile.ZipFile, part: str) -> Iterator[tuple[str, str]]:
    """Yield the kind and the name of what a part refers to."""
    folder, name = posixpath.split(part)
    listed = f"{folder}/_rels/{name}.rels"
    if listed in archive.namelist():
        for item in _parsed(archive, listed):
            yield posixpath.basename(item.get("Type", "")), _target(folder, item)


def _sheets(archive: zipfile.ZipFile) -> dict[str, str]:
    """Return the part of each sheet by the sheet's name."""
    targets = {item.get("Id"): _target("xl", item) for item in _parsed(archive, "xl/_rels/workbook.xml.rels")}
    return {
        sheet.get("name", ""): targets.get(sheet.get(_RELATION_ID), "")
        for sheet in _parsed(archive, "xl/workbook.xml").iterfind(".//{*}sheet")
    }


def _target(folder: str, relation: Any) -> str:
    return posixpath.normpath(posixpath.join(f"/{folder}", relation.get("Target", "")))[1:]


def _parsed(archive: zipfile.ZipFile, part: str) -> Any:
    if archive.getinfo(part).file_size > _MAX_XML_BYTES:
        raise ValueError(part)
    # The child's limits hold for what this parses, and the parser's own for entities.
    return ET.fromstring(archive.read(part))  # noqa: S314


def _number_of(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number
