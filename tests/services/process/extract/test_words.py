"""Words in, words out: what one story says, in the files that many programs made of it, is read whole and once."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from services.process.extract.extractor import ChildExtractor

FILES = Path(__file__).resolve().parents[3] / "files"

STORY = (FILES / "txt/pandoc.txt").read_text("utf-8").split("\n\n", 1)[1]
"""Without the title, which some programs put into the properties alone."""

MADE_OF_IT = [
    "docx/libreoffice.docx",
    "docx/pandoc.docx",
    "odt/libreoffice.odt",
    "odt/pandoc.odt",
    "odt/docutils.odt",
    "rtf/libreoffice.rtf",
    "rtf/pandoc.rtf",
    "rtf/abiword.rtf",
    "doc/libreoffice.doc",
    "doc/libreoffice-from-pandoc.doc",
    "html/libreoffice.html",
    "html/pandoc.html",
    "html/docutils.html",
    "html/browser.htm",
    "md/pandoc-gfm.md",
    "md/pandoc-setext.markdown",
    "epub/pandoc.epub",
    "xml/pandoc-docbook.xml",
    "pdf/wkhtmltopdf.pdf",
]


def words(text: str) -> Counter[str]:
    """Count the words of a text."""
    return Counter(re.findall(r"[^\W_]+", text.replace("\xad", "")))


def sentences(text: str) -> list[str]:
    """Return the sentences that are long enough to occur once only, without the marks of lists."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text)]
    found = [sentence for paragraph in paragraphs for sentence in re.split(r"(?<=[.!?]) (?:- )?", paragraph)]
    return [sentence.removeprefix("- ") for sentence in found if len(sentence) > 30 and "--" not in sentence]


async def test_nothing_of_a_story_is_lost_and_nothing_told_twice() -> None:
    """Each word is there as often as in the story, those of headings at least; each sentence once."""
    wanted, once = words(STORY), dict.fromkeys(sentences(STORY), 1)
    assert len(once) > 10
    async with ChildExtractor(deadline_seconds=240) as extractor:
        for name in MADE_OF_IT:
            path = FILES / name
            found = extractor.extract(path, media_type=extractor.sniff(path, name=path.name))
            text = "\n".join([segment.text async for segment in found])
            assert wanted - words(text) == Counter(), name
            plain = " ".join(text.split())
            assert {sentence: plain.count(sentence) for sentence in once} == once, name
