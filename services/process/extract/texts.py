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
_SUPERSETS = (
    dict.fromkeys(("latin-1", "latin1", "iso-8859-1", "iso8859-1", "us-ascii", "ascii"), "cp1252")
    | dict.fromkeys(("iso-8859-9", "latin5", "latin-5"), "cp1254")
    | dict.fromkeys(("iso-8859-11", "tis-620"), "cp874")
    | dict.fromkeys(("gb2312", "gb_2312-80", "gbk", "x-gbk", "chinese"), "gb18030")
    | dict.fromkeys(("shift_jis", "shift-jis", "sjis", "x-sjis", "ms_kanji", "windows-31j"), "cp932")
    | dict.fromkeys(("euc-kr", "ks_c_5601-1987", "ks_c_5601-1989", "ksc5601", "korean", "windows-949"), "cp949")
    | {"iso-8859-8-i": "cp1255", "iso-8859-8": "cp1255", "big5": "big5hkscs"}
)
"""What is meant by a name that is used for more than it stands for (https://encoding.spec.whatwg.org/#names-and-labels)."""

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
    """Return the text of bytes in a named encoding, or in the larger one that browsers take for it; None: unknown."""
    known = known_encoding(name)
    return None if known is None else data.decode(known, errors="replace")


def known_encoding(name: str) -> str | None:
    """Return the encoding that is meant by a name; None if nobody knows it."""
    meant = _SUPERSETS.get(name.lower(), name)
    try:
        codecs.lookup(meant)
    except LookupError:
        return None
    return meant


async def text_sections(data: bytes) -> list[Section]:
    """Return the whole text as one section of character offsets."""
    # A letter struck over another is how terminals and printers of the past wrote bold and underlined words.
    return [Section(_STRUCK_OVER.sub("", await decode(data)), Locator(kind=LocatorKind.TEXT, start_char=0))]
