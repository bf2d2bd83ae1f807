"""Readers of documents with headings, slides or sheets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from services.process.extract import odf, ppt, xls, xlsx
from services.process.extract.hypertext import Block
from services.process.extract.sections import Section, sheet_sections, table_text, without_heading_marks
from shared.model import media
from shared.model.locator import Locator, LocatorKind

_MAX_HEADING_CHARACTERS = 250  # what is longer was taken for a heading by mistake
_DESCRIPTION = re.compile(r"(?<=\n\n): +([^\n*_`~\[\]<>\\]+)")


Arrange = Callable[[list[tuple[str, Block]]], list[Block]]
"""Takes the library's blocks, each with the name of its layer, and returns them in the order to read them in."""

_HEAD = re.compile(r"(Subject|From|To|CC|BCC|Date): ", re.IGNORECASE)
_ATTACHMENTS: Block = (0, "Attachments:")
_LISTED = re.compile(r"(?:\s*.* \(\d+B\)\s*)+")


def slide_sections(document: Any) -> Iterator[Section]:
    """Yield one section per slide, its notes at the end; for files whose slides nobody can tell, headings are cited."""
    if not document.pages:
        yield from heading_sections(document)
    for page in document.pages or ():
        notes = f"\n\nNotes: {page.speaker_notes}" if page.speaker_notes else ""
        text = without_heading_marks(str(page.content)) + notes
        yield Section(text, Locator(kind=LocatorKind.SLIDE, slide=int(page.page_number)))


def own_slides(document: Any, data: bytes, media_type: str) -> list[Section]:
    """Return the slides of formats whose slides the library does not tell; nothing when too much of its text lacks."""
    found = {media.ODP: odf.slides, media.PPT: ppt.slides}.get(media_type, lambda _: [])(data)
    known = sum(_letters(section.text) for section in found)
    return found if known * 10 >= _letters(str(document.content)) * 7 else []


def workbook_sections(document: Any, data: bytes, media_type: str) -> Iterator[Section]:
    """Yield the tables of each sheet with their cell ranges, where these can be known."""
    names = {int(page.page_number): str(page.sheet_name or page.page_number) for page in document.pages or ()}
    corners = _CORNERS[media_type](data)
    for table in document.tables:
        rows = [[str(cell) for cell in row] for row in table.cells]
        sheet = names.get(int(table.page_number), str(table.page_number))
        column, row, shape = corners.get(sheet, (0, 0, (0, 0)))
        known = shape == (len(rows), max(map(len, rows), default=0))
        yield from sheet_sections(sheet, rows, column=column if known else 0, row=row if known else 0)
    yield from _REMARKS.get(media_type, lambda _: [])(data)


def heading_sections(document: Any, arrange: Arrange | None = None) -> Iterator[Section]:
    """Yield one section per heading of the library's document; see `block_sections`."""
    yield from block_sections(_blocks(document, arrange))


def mail_sections(document: Any, words: Sequence[Block]) -> Iterator[Section]:
    """Yield the sections of a mail; head and list of attachments are the library's, and all if we found no words."""
    blocks = _blocks(document)
    listed = max((place for place, block in enumerate(blocks) if block == _ATTACHMENTS), default=len(blocks))
    if not all(_LISTED.fullmatch(text) for _, text in blocks[listed + 1 :]):
        listed = len(blocks)  # somebody wrote so
    head = [block for block in blocks[:1] if words and _HEAD.match(block[1])]
    yield from block_sections([*head, *blocks[listed:], *words] if words else blocks)


def block_sections(blocks: Iterable[tuple[int, str]]) -> Iterator[Section]:
    """Yield one section per heading with text under it; a document without headings is one stretch of text.

    Blocks are pairs of a heading's level, 0 for all else, and a text. A heading that only has headings under it stands
    at the beginning of the first of these.
    """
    path: list[tuple[int, str]] = []
    parts: list[str] = []
    carried: list[str] = []
    sections: list[Section] = []
    has_headings = False

    def close(next_level: int) -> None:
        if not parts and carried and path and next_level > path[-1][0]:
            return
        text = "\n\n".join([*carried, *parts])
        if text.strip():
            place = Locator(kind=LocatorKind.HEADING, heading_path=tuple(title for _, title in path))
            sections.append(Section(text, place))
        carried.clear()
        parts.clear()

    for level, text in blocks:
        if not level:
            parts.append(text)
            continue
        has_headings = True
        close(level)
        while path and path[-1][0] >= level:
            path.pop()
        path.append((level, text))
        carried.append(text)
    close(0)
    if has_headings:
        yield from sections
    elif sections:
        yield Section(sections[0].text, Locator(kind=LocatorKind.TEXT, start_char=0))


def _blocks(document: Any, arrange: Arrange | None = None) -> list[Block]:
    """Return the blocks in reading order, from the structure or, where it is poor, from Markdown."""
    nodes = document.document.nodes if document.document is not None else ()
    layered = [
        (str(node.content_layer), block)
        for node in nodes
        if (block := _block_of(json.loads(str(node.content))))[1].strip()
    ]
    blocks = [block for _, block in layered]
    content = str(document.content)
    told = "\n".join(text for _, text in blocks)
    # Definition lists are in the Markdown alone; a term stands on the line above its description.
    has_all = all(line in told for line in _DESCRIPTION.findall(content))
    if has_all and sum(len(text) for _, text in blocks) * 10 >= _letters(content) * 7:
        return arrange(layered) if arrange else blocks
    content = re.sub(r"\n{2,}: ", "\n", content)
    return [_markdown_block(text) for text in re.split(r"\n{2,}", content) if text.strip()]


def _block_of(content: dict[str, Any]) -> tuple[int, str]:
    match content:
        case {"node_type": "title", "text": str(text)}:
            return 1, " ".join(text.split())
        case {"node_type": "heading", "level": int(level), "text": str(text)} if len(text) <= _MAX_HEADING_CHARACTERS:
            return max(1, level), " ".join(text.split())
        case {"node_type": "table", "grid": {"rows": int(height), "cells": list(cells)}} if cells:
            rows: list[list[str]] = [[] for _ in range(height)]
            for cell in cells:
                rows[cell["row"]] += [""] * (cell["col"] - len(rows[cell["row"]])) + [str(cell["content"])]
            return 0, table_text(rows)
        case {"node_type": "metadata_block", "entries": list(entries)}:
            return 0, "\n".join(f"{entry['key']}: {entry['value']}" for entry in entries)
        case {"node_type": "list_item", "text": str(text)}:
            return 0, f"- {text}"
        case {"text": str(text)}:
            return 0, text
        case _:
            return 0, ""


def _markdown_block(text: str) -> tuple[int, str]:
    match = re.fullmatch(r"(#{1,6})\s+(.+)", text.strip())
    return (len(match[1]), match[2]) if match else (0, text)


def _letters(text: str) -> int:
    return sum(map(len, re.findall(r"\w+", text)))


_REMARKS = {media.XLSX: xlsx.remarks, media.ODS: odf.remarks}
_CORNERS = {media.XLSX: xlsx.corners, media.ODS: odf.corners, media.XLS: xls.corners}
