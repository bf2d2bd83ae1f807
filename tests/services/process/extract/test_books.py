"""Chapters of EPUB as pages: whole, in the order of the spine; odd books are left to the library."""

from __future__ import annotations

import io
import zipfile

import pytest

from services.process.extract import books
from shared.errors import UnprocessableContent

CONTAINER = '<container><rootfiles><rootfile full-path="OEBPS/a.opf"/></rootfiles></container>'
ITEM = '<item id="{0}" href="{0}.xhtml" media-type="application/xhtml+xml"{1}/>'
TERMS = "<dl><dt>Sluice</dt><dd>Opens slowly.</dd></dl>"


def book(chapters: dict[str, str], spine: list[str], *, more: dict[str, str] | None = None, nav: str = "") -> bytes:
    """Return a book whose chapters are bodies of pages."""
    items = "".join(ITEM.format(name, ' properties="nav"' if name == nav else "") for name in chapters)
    places = "".join(f'<itemref idref="{name}"/>' for name in spine)
    package = (
        f'<package xmlns="http://www.idpf.org/2007/opf"><manifest>{items}</manifest><spine>{places}</spine></package>'
    )
    parts = {"META-INF/container.xml": CONTAINER, "OEBPS/a.opf": package, **(more or {})}
    parts |= {f"OEBPS/{name}.xhtml": f"<html><body>{body}</body></html>" for name, body in chapters.items()}
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return data.getvalue()


async def test_chapters_come_in_the_order_of_the_spine_and_whole() -> None:
    """Terms of definition lists with their descriptions; a table of contents has only what the headings say."""
    chapters = {"two": f"<h1>Two</h1>{TERMS}", "one": "<h1>One</h1><p>First.</p>", "toc": "<nav>One Two</nav>"}
    found = await books.chapter_blocks(book(chapters, ["toc", "one", "two", "one", "gone"], nav="toc"))
    assert found == [(1, "One"), (0, "First."), (1, "Two"), (0, "Sluice\nOpens slowly.")]


@pytest.mark.parametrize(
    "data",
    [
        b"PK\x03\x04 nothing",
        book({}, []),
        book({"a": ""}, ["a"], more={"META-INF/container.xml": "<container/>"}),
        book({"a": "x"}, ["a"], more={"META-INF/container.xml": "<container"}),
    ],
    ids=["no archive", "no chapters", "no package", "broken"],
)
async def test_an_odd_book_is_left_to_the_library(data: bytes) -> None:
    """No verdict of ours."""
    assert await books.chapter_blocks(data) == []


async def test_locked_chapters_are_told_and_locked_fonts_are_none() -> None:
    """What is encrypted is listed; fonts often are."""
    listed = '<encryption><CipherReference URI="{}"/></encryption>'
    fonts = book({"a": "<p>Words.</p>"}, ["a"], more={"META-INF/encryption.xml": listed.format("OEBPS/f.otf")})
    assert await books.chapter_blocks(fonts) == [(0, "Words.")]
    locked = book({"a": "<p>x</p>"}, ["a"], more={"META-INF/encryption.xml": listed.format("OEBPS/a.xhtml")})
    with pytest.raises(UnprocessableContent) as caught:
        await books.chapter_blocks(locked)
    assert caught.value.code == "ENCRYPTED"


async def test_a_book_that_unfolds_into_too_much_is_refused_before_it_is_unpacked() -> None:
    """Two chapters of half the limit and a little are together too much."""
    chapter = "<p>" + "a " * (books.MAX_BYTES // 4 + 1000) + "</p>"
    with pytest.raises(UnprocessableContent) as caught:
        await books.chapter_blocks(book({"a": chapter, "b": chapter}, ["b", "a"]))
    assert caught.value.code == "TOO_COMPLEX"
