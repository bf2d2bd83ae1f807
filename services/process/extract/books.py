"""Books in EPUB: their chapters in the order of the spine, each read as the page that it is.

https://www.w3.org/TR/epub-33/: a container names the package, the package lists its parts and says which are read in
which order. What is listed there without being a page (a drawing, say) has no words, and a table of contents only
those of the headings.
"""

from __future__ import annotations

import io
import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree as ET

from services.process.extract import hypertext, library, texts
from services.process.extract.hypertext import Block

MAX_BYTES = 64 * 1024 * 1024
"""Of all chapters; the longest novels have four."""

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_PAGES = {"application/xhtml+xml", "text/html", "text/x-oeb1-document"}
_ODD = (KeyError, ValueError, OSError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile, ET.ParseError)


async def chapter_blocks(data: bytes) -> list[Block]:
    """Return the blocks of all chapters; none where the book is not as it should be.

    Raises:
        UnprocessableContent: the chapters are behind a lock, or far too long.
    """
    found: list[Block] = []
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as book:
            size_bytes = 0
            for name in _chapters(book):
                size_bytes += book.getinfo(name).file_size
                if size_bytes > MAX_BYTES:
                    raise library.too_long()
                found += hypertext.blocks(await texts.decode_page(book.read(name)))
    except _ODD:
        return []
    return found


def _chapters(book: zipfile.ZipFile) -> list[str]:
    container = _xml(book, _CONTAINER)
    package_name = next((root.get("full-path", "") for root in container.iterfind(".//{*}rootfile")), "")
    package = _xml(book, package_name)
    folder = posixpath.dirname(package_name)
    pages = {
        item.get("id"): posixpath.normpath(posixpath.join(folder, unquote(item.get("href", ""))))
        for item in package.iterfind("{*}manifest/{*}item")
        if item.get("media-type", "").lower() in _PAGES and "nav" not in item.get("properties", "").split()
    }
    names = [
        pages[place.get("idref")] for place in package.iterfind("{*}spine/{*}itemref") if place.get("idref") in pages
    ]
    if set(names) & set(_locked(book)):
        raise library.encrypted()
    return list(dict.fromkeys(names))


def _locked(book: zipfile.ZipFile) -> Iterator[str]:
    """Yield the parts that are encrypted; often these are fonts alone."""
    if _ENCRYPTION in book.namelist():
        for part in _xml(book, _ENCRYPTION).iterfind(".//{*}CipherReference"):
            yield posixpath.normpath(unquote(part.get("URI", "")))


def _xml(book: zipfile.ZipFile, name: str) -> Any:
    if book.getinfo(name).file_size > MAX_BYTES:
        raise library.too_long()
    # The child's limits hold for what this parses, and the parser's own for entities.
    return ET.fromstring(book.read(name))  # noqa: S314
