"""Footnotes of RTF are read where they stand, as Word and LibreOffice write them."""

from __future__ import annotations

import pytest

from services.process.extract import library, office, rich
from shared.model import media

HEAD = rb"{\rtf1\ansi{\fonttbl{\f0 Arial;}}"
WORD = rb"\pard First gate{\super\chftn}{\footnote\pard\plain\s20 {\super\chftn} It leaks\{a\}.\par More.} opens.\par"
LIBRE = rb"\pard First gate{{\super \chftn{\*\footnote \chftn\pard\plain \s20{It leaks\{a\}.\par More.}}}} opens.\par"


REMARK = (
    rb"\pard First gate{\*\atnid R}{\*\atnauthor Ann}\chatn"
    rb"{\*\annotation{\*\atnref 1}It leaks\{a\}.\par More.} opens.\par"
)


@pytest.mark.parametrize("body", [WORD, LIBRE, REMARK], ids=["word", "libreoffice", "comment"])
async def test_a_note_stands_in_the_sentence_that_refers_to_it(body: bytes) -> None:
    """The paragraph stays one, and what follows stays the text."""
    data = rich.with_notes(HEAD + body + rb"\pard Second gate.\par}")
    (section,) = office.heading_sections(await library.read_document(data, media.RTF))
    first, second = section.text.split("\n\n")
    assert " ".join(first.split()).replace(" ]", "]") == "First gate [Note: It leaks{a}. More.] opens."
    assert second == "Second gate."


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEAD + rb"\pard No note\par}",
        HEAD + rb"{\footnotes x}\par}",
        HEAD + rb"{\footnote never ends",
        HEAD + rb"Type \\footnote\{x\}.}",
    ],
    ids=["empty", "no note", "another word", "no end", "typed"],
)
def test_what_has_no_whole_note_stays_as_it_is(data: bytes) -> None:
    """To the byte."""
    assert rich.with_notes(data) == data


def test_notes_in_notes_and_bytes_that_look_like_braces_do_not_mislead() -> None:
    """Each note ends where its group ends."""
    data = rb"{a{\footnote one{\footnote two}\bin3 }}}three}b{\footnote four}}"
    assert rich.with_notes(data) == rb"{a{ [Note: one{two}\bin3 }}}three]}b{ [Note: four]}}"
