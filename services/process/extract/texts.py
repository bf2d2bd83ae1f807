"""Readers of what is text already, in whatever encoding."""

from __future__ import annotations

import codecs
import re

from services.process.extract import library
from services.process.extract.sections import Section
from shared.model import media
from shared.model.locator import Locator, LocatorKind

_HEAD_BYTES = 4_096
_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?([\w.:-]{1,40})""", re.IGNORECASE)
_LATIN = {"latin-1", "latin1", "iso-8859-1", "us-ascii", "ascii"}
_STRUCK_OVER = re.compile(r".\x08|\x1b\[[0-9;]*m")


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
            if (text := decode_as(data, charset_of(data) or "cp1252")) is not None:
                return text
    return await decode(data)


def charset_of(page: bytes) -> str | None:
    """Return the encoding that an HTML page says it has."""
    named = _CHARSET.search(page[:_HEAD_BYTES])
    return named[1].decode() if named else None


def decode_as(data: bytes, name: str) -> str | None:
    """Return the text of bytes in a named encoding, Latin-1 as its superset, as browsers do; None: unknown."""
    try:
        return data.decode("cp1252" if name.lower() in _LATIN else name, errors="replace")
    except LookupError:
        return None


async def text_sections(data: bytes) -> list[Section]:
    """Return the whole text as one section of character offsets."""
    # A letter struck over another is how terminals and printers of the past wrote bold and underlined words.
    return [Section(_STRUCK_OVER.sub("", await decode(data)), Locator(kind=LocatorKind.TEXT, start_char=0))]
