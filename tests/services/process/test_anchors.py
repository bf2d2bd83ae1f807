"""An edit changes the chunks around it, and no others: in prose, wrapped lines, lists, tables, pages and documents."""

from __future__ import annotations

import json
import random
import textwrap
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.process.anchors import REACH_BYTES, anchors
from services.process.chunking import chunk
from services.process.extract.sections import Numbering, Section, sheet_sections, table_text
from services.process.extract.trees import tree_sections
from shared.model import media
from shared.model.document import Segment
from shared.model.locator import Locator, LocatorKind

WORDS = (  # noqa: SIM905 - as prose
    "the water of a river falls through gates and turbines while pumps valves oil sensors crews and records keep it "
    "going"
).split()
CHUNKS = 300
AT_A1 = {"column": 1, "row": 1}


def tokens(text: str) -> int:
    """Count roughly as the local model's tokenizer does, and much faster."""
    return max(len(text.split()), -(-len(text) * 2 // 9))


def sentence(source: random.Random) -> str:
    """Make a sentence of no meaning."""
    return " ".join(source.choices(WORDS, k=source.randint(6, 28))).capitalize() + "."


def paragraph(source: random.Random) -> str:
    """Make one to seven sentences."""
    return " ".join(sentence(source) for _ in range(source.randint(1, 7)))


def wrapped(source: random.Random) -> str:
    """Make a paragraph in lines of 72 characters."""
    return textwrap.fill(paragraph(source), 72)


def row(source: random.Random) -> str:
    """Make three cells."""
    return ",".join(f"{word}-{source.randint(1, 999)}" for word in source.sample(["pump", "weir", "gate", "valve"], 3))


# What stands between two units of a file, and what a unit is.
KINDS: dict[str, tuple[str, Callable[[random.Random], str]]] = {
    "paragraphs": ("\n\n", paragraph),
    "wrapped lines": ("\n\n", wrapped),
    "a line each": ("\n", sentence),
    "one paragraph": (" ", sentence),
}


def cut(sections: list[Section]) -> list[str]:
    """Number and chunk as the process service does."""
    numbering = Numbering(start=0)
    segments: Iterator[Segment] = (one for section in sections for one in numbering.segments_of(section))
    return [made.text for made in chunk(segments, max_tokens=256, count_tokens=tokens)]


def text_file(units: list[str], separator: str) -> list[Section]:
    """Make what the reader of plain text makes."""
    return [Section(separator.join(units), Locator(kind=LocatorKind.TEXT, start_char=0))]


def units_for(kind: str, seed: int) -> list[str]:
    """Make a file of about 300 chunks."""
    source = random.Random(seed)
    units: list[str] = []
    while sum(map(len, units)) < CHUNKS * 640:
        units.append(KINDS[kind][1](source))
    return units


@pytest.mark.parametrize("kind", KINDS)
def test_an_edit_in_a_text_of_300_chunks_makes_three_new_ones_at_most(kind: str) -> None:
    """Whether a paragraph is added, changed or removed, at the beginning, in the middle or at the end."""
    separator, unit = KINDS[kind]
    most = 3 if "\n" in separator else 6  # where all is one paragraph, nothing tells its parts apart but their words
    units = units_for(kind, seed=7)
    before = cut(text_file(units, separator))
    assert len(before) >= CHUNKS
    source, known = random.Random(11), set(before)
    for place in (0, 1, len(units) // 3, len(units) // 2, len(units) - 2):
        for edit in ([unit(source), units[place]], [units[place] + " " + sentence(source)], []):
            after = cut(text_file([*units[:place], *edit, *units[place + 1 :]], separator))
            assert len([text for text in after if text not in known]) <= most, (kind, place, edit)


@pytest.mark.parametrize("size", [1, 40, 3000])
def test_an_insertion_of_any_size_costs_what_it_holds(size: int) -> None:
    """What is added is paid for, with the passages that it touches; the cuts of long files' segments do not move."""
    units = units_for("paragraphs", seed=3)
    known = set(cut(text_file(units, "\n\n")))
    added = " ".join(random.Random(5).choices(WORDS, k=size))
    after = cut(text_file([*units[:9], added, *units[9:]], "\n\n"))
    own = len(cut(text_file([added], "\n\n")))
    assert len([text for text in after if text not in known]) <= own + 3


def test_a_row_that_is_added_to_a_table_of_thousands_makes_three_new_chunks_at_most() -> None:
    """Also in the middle of a sheet, whose parts of some hundred rows begin at anchors."""
    source = random.Random(2)
    rows = [["part", "place", "note"], *(row(source).split(",") for _ in range(3000))]
    known = set(cut(list(sheet_sections("Parts", rows, column=1, row=1))))
    assert len(known) > 150
    for place in (1, 2, 1500, 2999):
        longer = [*rows[:place], ["new", "row", "x"], *rows[place:]]
        after = cut(list(sheet_sections("Parts", longer, column=1, row=1)))
        assert len([text for text in after if text not in known]) <= 3, place


def test_cells_of_many_sentences_stay_under_their_header_and_move_no_cut() -> None:
    """A row is cut only where it alone is too long, and a row that is added changes three chunks at most."""
    source = random.Random(3)
    rows = [["no", "note"], *([str(number), paragraph(source)[:700]] for number in range(450))]
    known = set(cut(list(sheet_sections("Notes", rows, column=1, row=1))))
    whole = [text for text in known if text.lstrip("| ")[:1].isdigit()]
    assert not whole  # a chunk that begins with a row begins with the header
    for place in (1, 2, 150, 449):
        after = cut(list(sheet_sections("Notes", [*rows[:place], ["x", paragraph(source)], *rows[place:]], **AT_A1)))
        assert len([text for text in after if text not in known]) <= 3, place


def test_a_long_table_has_its_header_on_every_chunk() -> None:
    """Also where a text is so long that it comes in several segments; the offsets are those of the rows."""
    table = table_text([["part", "place"], *([f"part-{n}", "on the shelf " * 6] for n in range(900))])
    text = f"Parts\n\n{table}\n\nEnd of the list."
    numbering = Numbering(start=0)
    segments = list(numbering.segments_of(Section(text, Locator(kind=LocatorKind.TEXT, start_char=0))))
    assert len(segments) > 2
    chunks = [made for segment in segments for made in chunk([segment], max_tokens=256, count_tokens=tokens)]
    rows_seen = 0
    for made in chunks:
        first, last = made.locator.start_char, made.locator.end_char
        assert last is not None
        if "| part-" in made.text:
            assert "| part | place |" in made.text
            rows_seen += made.text.count("| part-")
        assert text[:last].endswith(made.text[-20:]), (first, last)
    assert rows_seen == 900
    longer = text.replace("| part-400 |", "| part-new | x |\n| part-400 |")
    after = cut([Section(longer, Locator(kind=LocatorKind.TEXT, start_char=0))])
    assert len([made for made in after if made not in {one.text for one in chunks}]) <= 3


@pytest.mark.parametrize("kind", ["items", "elements", "rows"])
def test_an_item_that_is_added_to_a_tree_makes_three_new_chunks_at_most(kind: str) -> None:
    """JSON lists and XML neighbours are grouped where their words say so, not by counting from the first one."""
    source = random.Random(6)
    items = [paragraph(source) for _ in range(450)]

    def sections(units: list[str]) -> list[Section]:
        if kind == "items":
            return tree_sections(json.dumps({"log": [{"at": {"n": 1}, "t": unit} for unit in units]}), media.JSON) or []
        form = "<r><v>{}</v><w>1</w></r>" if kind == "rows" else "<p>{}</p>"
        return tree_sections(f"<log>{''.join(map(form.format, units))}</log>", media.XML) or []

    before = cut(sections(items))
    assert len(before) > 200
    for place in (0, 1, 150, 449):
        for edit in ([paragraph(source), items[place]], [paragraph(source)], []):
            after = cut(sections([*items[:place], *edit, *items[place + 1 :]]))
            assert len([text for text in after if text not in set(before)]) <= 3, (place, edit)


def test_an_edit_on_a_page_or_under_a_heading_stays_there() -> None:
    """Pages and sections are cut by themselves; only the edited one has new chunks."""
    source = random.Random(4)
    pages = ["\n".join(wrapped(source) for _ in range(5)) for _ in range(60)]
    places = [Locator(kind=LocatorKind.PAGE, page=number + 1) for number in range(60)]
    known = set(cut([Section(text, place) for text, place in zip(pages, places, strict=True)]))
    pages[30] = pages[30][:700] + "A sentence that was added. " + pages[30][700:]
    after = cut([Section(text, place) for text, place in zip(pages, places, strict=True)])
    assert 1 <= len([text for text in after if text not in known]) <= 3


def test_chunks_are_neither_fragments_nor_fewer_to_a_page() -> None:
    """Anchors cost some size: passages of prose still are 100 tokens and more on average, and few are tiny."""
    for kind in KINDS:
        units = units_for(kind, seed=9)
        sizes = sorted(tokens(text) for text in cut(text_file(units, KINDS[kind][0])))
        assert sum(sizes) / len(sizes) > 100, kind
        assert sizes[len(sizes) // 20] > 25, kind


def test_a_heading_is_not_cut_off_from_its_text_where_another_place_will_do() -> None:
    """In plain text, a short line without a full stop before a blank line stays with what follows."""
    source = random.Random(8)
    chapters = [f"Chapter {number}\n\n{wrapped(source)}\n\n{wrapped(source)}" for number in range(80)]
    text = "\n\n".join(chapters)
    places = anchors(text)
    assert len(places) > 40
    lines_before = [text[:place].rstrip().split("\n")[-1] for place in places]
    assert sum(line.startswith("Chapter") for line in lines_before) <= len(places) // 20


units_of_text = st.lists(st.text("ab .\n", max_size=300), max_size=30).map("\n\n".join)


@given(text=units_of_text, data=st.data())
def test_what_begins_and_ends_at_anchors_has_the_same_anchors(text: str, data: st.DataObject) -> None:
    """So a long text may be cut at any of them before its chunks are made; two are never close together."""
    found = anchors(text)
    ends = [0, *found, len(text)]
    assert all(end - start > REACH_BYTES for start, end in pairwise(ends) if found)
    first = data.draw(st.integers(0, len(ends) - 2))
    last = data.draw(st.integers(first + 1, len(ends) - 1))
    part = anchors(text[ends[first] : ends[last]])
    assert [ends[first] + place for place in part] == [place for place in found if ends[first] < place < ends[last]]
