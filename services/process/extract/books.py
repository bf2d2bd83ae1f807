"""Books in EPUB: their chapters in the order of the spine, each read as the page that it is.

https://www.w3.org/TR/epub-33/: a container names the package, the package lists its parts and says which are read in
which order. What is listed there without being a page (a drawing, say) has no words, and a table of contents only
those of the headings.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from urllib.parse import unquote

from services.process.extract import hypertext, library, texts
from services.process.extract.hypertext import Block
from services.process.extract.parts import ODD, Parts

MAX_BYTES = 64 * 1024 * 1024
"""Of all chapters; the longest novels have four."""

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_PAGES = {"application/xhtml+xml", "text/html", "text/x-oeb1-document"}


async def chapter_blocks(data: bytes) -> list[Block]:
    """Return the blocks of all chapters; none where the book is not as it should be.

    Raises:
        UnprocessableContent: the chapters are behind a lock, or far too long.
    """
    found: list[Block] = []
    try:
        with Parts(data) as book:
            size_bytes = 0
            for name in _chapters(book):
                size_bytes += book.size_bytes(name)
                if size_bytes > MAX_BYTES:
                    raise library.too_long()
                found += hypertext.blocks(await texts.decode_page(book.read(name)))
    except ODD:
        return []
    return found


def _chapters(book: Parts) -> list[str]:
    container = book.xml(_CONTAINER)
    package_name = next((root.get("full-path", "") for root in container.iterfind(".//{*}rootfile")), "")
    package = book.xml(package_name)
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


def _locked(book: Parts) -> Iterator[str]:
    """Yield the parts that are encrypted; often these are fonts alone."""
    if _ENCRYPTION in book:
        for part in book.xml(_ENCRYPTION).iterfind(".//{*}CipherReference"):
            yield posixpath.normpath(unquote(part.get("URI", "")))
