"""Readers of what is text already: plain text keeps its own offsets, delimited text its rows."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator

from services.process.extract import library
from services.process.extract.sections import Section, sheet_sections
from shared.model import media
from shared.model.locator import Locator, LocatorKind

_SAMPLE_CHARACTERS = 8_192
_MAX_FIELD_CHARACTERS = 1_000_000


async def decode(data: bytes) -> str:
    """Return the text of bytes: by its mark, as UTF-8, or as the library guesses."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return str((await library.read_document(data, media.TEXT, plain=True)).content)


async def text_sections(data: bytes) -> list[Section]:
    """Return the whole text as one section of character offsets."""
    return [Section(await decode(data), Locator(kind=LocatorKind.TEXT, start_char=0))]


async def delimited_sections(data: bytes, media_type: str) -> Iterator[Section]:
    """Return the rows as the cells of one sheet."""
    text = await decode(data)
    csv.field_size_limit(_MAX_FIELD_CHARACTERS)
    delimiter = "\t" if media_type == media.TSV else _delimiter_of(text[:_SAMPLE_CHARACTERS])
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise library.corrupt() from error
    while rows and not any(cell.strip() for cell in rows[-1]):
        rows.pop()
    return sheet_sections("data", rows, column=1, row=1)


def _delimiter_of(sample: str) -> str:
    try:
        return csv.Sniffer().sniff(sample, delimiters=",;\t|").delimiter
    except csv.Error:
        return ","
