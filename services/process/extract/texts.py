"""Readers of what is text already: plain text keeps its own offsets, delimited text its rows."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator

from services.process.extract import library
from services.process.extract.sections import Section, sheet_sections
from shared.model import media
from shared.model.locator import Locator, LocatorKind

_SAMPLE_CHARACTERS = 8_192
_HEAD_BYTES = 4_096
_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?([\w.:-]{1,40})""", re.IGNORECASE)
_LATIN = {"latin-1", "latin1", "iso-8859-1", "us-ascii", "ascii"}
_STRUCK_OVER = re.compile(r".\x08|\x1b\[[0-9;]*m")
_MAX_FIELD_CHARACTERS = 1_000_000


async def decode(data: bytes) -> str:
    """Return the text of bytes: by its mark, as UTF-8, or as the library guesses."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return str((await library.read_document(data, media.TEXT, plain=True)).content)


async def decode_page(data: bytes) -> str:
    """Return the text of an HTML page: as it says itself, where its bytes are neither marked nor UTF-8."""
    if not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            named = _CHARSET.search(data[:_HEAD_BYTES])
            name = named[1].decode() if named else "cp1252"
            try:
                # What calls itself Latin-1 is read as its superset, as browsers do.
                return data.decode("cp1252" if name.lower() in _LATIN else name, errors="replace")
            except LookupError:
                pass
    return await decode(data)


async def text_sections(data: bytes) -> list[Section]:
    """Return the whole text as one section of character offsets."""
    # A letter struck over another is how terminals and printers of the past wrote bold and underlined words.
    return [Section(_STRUCK_OVER.sub("", await decode(data)), Locator(kind=LocatorKind.TEXT, start_char=0))]


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
