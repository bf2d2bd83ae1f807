"""Chunks cover their segments exactly, within the budget, the same way each time."""

import dataclasses
import functools
import math
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from services.process.chunking import TARGET_TOKENS, Chunker, chunk
from shared.ids import text_hash
from shared.model.document import BoxSpan, Chunk, Segment
from shared.model.locator import Locator, LocatorKind
from shared.model.text import storable


def words(text: str) -> int:
    """Count like a simple tokenizer: four characters or one word, whichever is more."""
    return max(len(text.split()), math.ceil(len(text) / 4))


@functools.cache
def tokenizer() -> Tokenizer:
    """Return the local model's own tokenizer, which cuts and fills nothing here."""
    made = Tokenizer.from_file(str(Path(__file__).parents[3] / "shared" / "embedding" / "minilm-tokenizer.json"))
    made.no_truncation()
    made.no_padding()
    return made


def real_tokens(text: str) -> int:
    """Count as the local model does, its two markers included."""
    return len(tokenizer().encode(text).ids)


def segment(text: str, index: int = 0, **fields: object) -> Segment:
    """Make a page of text, or another place when fields say so."""
    place = {"kind": LocatorKind.PAGE, "page": index + 1} | fields
    return Segment(index=index, text=text, locator=Locator(**place))  # type: ignore[arg-type]


def cut(*texts: str, max_tokens: int = 20) -> list[Chunk]:
    """Chunk pages with a small budget."""
    pages = [segment(text, index) for index, text in enumerate(texts)]
    return list(chunk(pages, max_tokens=max_tokens, count_tokens=words))


prose = st.text(st.characters(codec="utf-8") | st.sampled_from(" \n.,|-abcdefgh\x00"), max_size=600)
tables = st.lists(st.lists(st.text("abc 1", max_size=30), min_size=2, max_size=3), min_size=2, max_size=12).map(
    lambda rows: "\n".join(["| a | b |", "| --- | --- |"] + ["| " + " | ".join(row) + " |" for row in rows])
)
pages = st.lists(st.one_of(prose, tables, st.tuples(prose, tables, prose).map("\n".join)), max_size=4)


@given(texts=pages, max_tokens=st.integers(8, 60))
@settings(deadline=None, max_examples=150)
def test_chunks_cover_every_visible_character_once_and_in_order(texts: list[str], max_tokens: int) -> None:
    """Joined without white space, the chunks' own stretches are the text without white space."""
    chunks = cut(*texts, max_tokens=max_tokens)
    stretches = [storable(texts[(c.locator.page or 0) - 1])[c.locator.start_char : c.locator.end_char] for c in chunks]
    assert "".join("".join(stretches).split()) == "".join("".join(storable(text) for text in texts).split())


@given(texts=pages, max_tokens=st.integers(8, 60))
@settings(deadline=None, max_examples=150)
def test_offsets_are_exact_and_the_budget_holds(texts: list[str], max_tokens: int) -> None:
    """A chunk ends with exactly the characters its locator names, trimmed, and is never over the budget."""
    for ordinal, piece in enumerate(cut(*texts, max_tokens=max_tokens)):
        source = storable(texts[(piece.locator.page or 0) - 1])
        stretch = source[piece.locator.start_char : piece.locator.end_char]
        assert stretch
        assert stretch == stretch.strip()
        assert piece.text.endswith(stretch)
        assert piece.text == stretch or piece.text.startswith("|")
        assert words(piece.text) <= max_tokens or len(stretch) == 1
        assert piece.ordinal == ordinal
        assert piece.text_hash == text_hash(piece.text)


@given(texts=pages)
@settings(deadline=None, max_examples=30)
def test_the_same_segments_give_the_same_chunks_also_when_resumed(texts: list[str]) -> None:
    """A successor that starts at a later segment and ordinal makes what the first one would have made."""
    whole = cut(*texts)
    first = [c for c in whole if c.locator.page == 1]
    rest = [segment(text, index) for index, text in enumerate(texts)][1:]
    resumed = list(chunk(rest, max_tokens=20, count_tokens=words, first_ordinal=len(first)))
    assert first + resumed == whole


@given(text=st.text("aeb .\n", min_size=1, max_size=300))
@settings(deadline=None, max_examples=100)
def test_the_budget_holds_for_a_tokenizer_that_counts_oddly(text: str) -> None:
    """A tokenizer for which a part may count more than the whole does not lead to a chunk that is too large."""

    def odd(part: str) -> int:
        return words(part) + (9 if part[-1:] == "e" else 0)

    chunks = list(chunk([segment(text)], max_tokens=16, count_tokens=odd))
    assert all(odd(c.text) <= 16 for c in chunks)
    assert "".join("".join(c.text.split()) for c in chunks) == "".join(text.split())


def test_offsets_go_on_from_where_the_segment_begins() -> None:
    """The second segment of a long file is cited by its place in the file."""
    later = segment("words here", kind=LocatorKind.TEXT, page=None, start_char=1_000, end_char=1_010)
    (only,) = chunk([later], max_tokens=20, count_tokens=words)
    assert only.locator.label == "characters 1000–1010"


def test_a_header_that_is_only_repeated_is_not_in_the_range() -> None:
    """Rows 202 to 211 under the header of row 1 are cited as these rows."""
    rows = "\n".join(f"| turbine {number} | {number * 7} MW |" for number in range(202, 212))
    text = "| name | value |\n| --- | --- |\n" + rows
    sheet = segment(text, kind=LocatorKind.SHEET, sheet="Units", cells="A202:B211", page=None)
    chunks = list(chunk([sheet], max_tokens=40, count_tokens=words))
    assert chunks[0].locator.cells == "A202:B205"
    assert "turbine 205" in chunks[0].text
    assert "turbine 206" not in chunks[0].text
    assert chunks[-1].locator.cells is not None
    assert chunks[-1].locator.cells.endswith(":B211")


def test_a_short_segment_is_one_chunk_and_segments_are_never_mixed() -> None:
    """Two short pages stay two chunks, each with its own page."""
    one, two = cut("A short page.", "  Another one.\n")
    assert (one.text, one.locator.page) == ("A short page.", 1)
    assert (two.text, two.locator.page, two.locator.start_char) == ("Another one.", 2, 2)


def test_white_space_alone_makes_no_chunk() -> None:
    """An empty page is skipped and takes no ordinal."""
    assert [(c.ordinal, c.locator.page) for c in cut("", " \n\t", "x")] == [(0, 3)]


def test_what_postgres_refuses_is_removed() -> None:
    """NUL characters and lone surrogates are not in the chunk."""
    assert cut("a\x00b\ud800c")[0].text == "abc"


def test_prose_is_cut_between_paragraphs_before_sentences_before_words() -> None:
    """Two paragraphs that do not fit together are two chunks."""
    assert [c.text for c in cut("one two three four. " * 3 + "\n\n" + "five six seven. " * 4)] == [
        ("one two three four. " * 3).strip(),
        ("five six seven. " * 4).strip(),
    ]


def test_each_piece_of_a_table_repeats_its_header() -> None:
    """Rows are kept whole and every chunk starts with the two header lines."""
    header = "| name | value |\n| --- | --- |\n"
    rows = "\n".join(f"| turbine {number} | {number * 7} MW |" for number in range(20))
    chunks = cut(header + rows, max_tokens=40)
    assert len(chunks) > 4
    assert all(c.text.startswith(header) for c in chunks)
    assert sum(c.text.count("MW |") for c in chunks) == 20


def test_the_cell_range_of_a_chunk_names_its_own_rows() -> None:
    """A sheet's table from B3 on that is cut in pieces says which rows each piece holds."""
    header = "| name | value |\n| --- | --- |\n"
    rows = "\n".join(f"| turbine {number} | {number * 7} MW |" for number in range(10))
    sheet = segment(header + rows, kind=LocatorKind.SHEET, sheet="Units", cells="B3:C13", page=None)
    chunks = list(chunk([sheet], max_tokens=40, count_tokens=words))
    assert [c.locator.cells for c in chunks] == ["B3:C7", "B8:C11", "B12:C13"]
    assert ["turbine 4" in c.text for c in chunks] == [False, True, False]


def test_a_row_that_is_too_long_is_cut_itself() -> None:
    """One cell of 400 characters makes several chunks within the budget, with nothing lost."""
    table = "| a | b |\n| --- | --- |\n| k | " + "word " * 80 + "|\n| l | m |"
    chunks = cut(table)
    assert all(words(c.text) <= 20 for c in chunks)
    assert sum(c.text.count("word") for c in chunks) == 80


@pytest.mark.parametrize("cluster", ["e\u0301", "👩‍👩‍👧‍👦", "🇩🇪", "\u1100\u1161\u11a8", "\u0915\u094d\u0937", "👍🏽"])
def test_a_character_that_readers_see_as_one_is_never_split(cluster: str) -> None:
    """Long runs of composed characters without any space are cut between them only, also at block borders."""
    text = "." + cluster * (42_000 // len(cluster))
    pieces = [c.text for c in cut(text, max_tokens=100)]
    assert "".join(pieces) == text
    assert all(piece.lstrip(".").replace(cluster, "") == "" for piece in pieces)


@pytest.mark.parametrize("text", ["x" * 1_000_000, "word " * 200_000], ids=["no space", "one line"])
def test_a_million_characters_on_one_line_take_seconds(text: str) -> None:
    """Huge lines are cut into blocks first, so that time grows with the input and not faster."""
    started = time.perf_counter()
    chunks = Chunker(max_tokens=256, count_tokens=words).feed(segment(text))
    assert time.perf_counter() - started < 20
    assert sum(len(c.text.replace(" ", "")) for c in chunks) == len(text.replace(" ", ""))
    assert max(words(c.text) for c in chunks) <= TARGET_TOKENS


clusters = st.sampled_from(
    [
        "e\u0301",
        "👩‍👩‍👧‍👦",
        "🏳️‍🌈",
        "👍🏽",
        "🇩🇪",
        "🇫🇷",
        "1️⃣",
        "\u1100\u1161\u11a8",
        "\u0915\u094d\u0937",
        "\u0e19\u0e49\u0e33",
        "n\u0303\u0323",
        "ß",
        "漢",
    ]
)
pieces_of_text = st.lists(st.one_of(clusters, st.sampled_from([" ", "\n", "a", "b. ", "\n\n", "word "])), max_size=200)


@given(parts=pieces_of_text, max_tokens=st.integers(10, 40))
@settings(deadline=None, max_examples=150)
def test_no_cut_is_inside_what_readers_see_as_one_character(parts: list[str], max_tokens: int) -> None:
    """Emoji of several parts, flags, marks that combine, and syllables are whole in one chunk, wherever they stand."""
    # Between two flags stands something else, so that it is plain which halves belong together.
    text = "".join(part + ("." if "\U0001f1e6" <= part[0] <= "\U0001f1ff" else "") for part in parts)
    inside = set()
    place = 0
    for part in parts:
        whole = part if part.strip() and part.strip() not in {"a", "b.", "word"} else ""
        inside |= set(range(place + 1, place + len(whole)))
        place += len(part) + ("\U0001f1e6" <= part[0] <= "\U0001f1ff")
    for made in chunk([segment(text)], max_tokens=max_tokens, count_tokens=words):
        assert made.locator.start_char not in inside
        assert made.locator.end_char not in inside


@given(texts=pages, data=st.data())
@settings(deadline=None, max_examples=60)
def test_a_run_that_is_cut_anywhere_makes_the_chunks_of_one_that_was_not(texts: list[str], data: st.DataObject) -> None:
    """However often workers change between two segments, the chunks and their ordinals are the same."""
    segments = [segment(text, index) for index, text in enumerate(texts)]
    whole = list(chunk(segments, max_tokens=20, count_tokens=words))
    assert list(chunk(segments, max_tokens=20, count_tokens=words)) == whole
    made: list[Chunk] = []
    while segments:
        taken = data.draw(st.integers(1, len(segments)))
        made += chunk(segments[:taken], max_tokens=20, count_tokens=words, first_ordinal=len(made))
        segments = segments[taken:]
    assert made == whole


@given(texts=st.lists(st.one_of(prose, tables, pieces_of_text.map("".join)), min_size=1, max_size=2))
@settings(deadline=None, max_examples=60)
def test_the_local_model_reads_every_chunk_to_its_end(texts: list[str]) -> None:
    """By the model's own tokenizer, no chunk is over its limit, so nothing is cut silently."""
    for made in chunk(
        [segment(text * 9, index) for index, text in enumerate(texts)], max_tokens=64, count_tokens=real_tokens
    ):
        assert real_tokens(made.text) <= 64 or len(made.text) == 1


def test_a_box_is_what_holds_the_lines_of_the_chunk() -> None:
    """Lines of a page have boxes; a chunk has the smallest that holds its own, and none where most are unknown."""
    first, second = "one two three four. " * 3 + "\n\n", "five six seven. " * 4
    lines = (BoxSpan(0, 20, (10, 10, 90, 20)), BoxSpan(20, 60, (10, 22, 95, 32)), BoxSpan(62, 66, (10, 50, 30, 60)))
    page = dataclasses.replace(segment(first + second), boxes=lines)
    known, unknown = chunk([page], max_tokens=20, count_tokens=words)
    assert known.locator.box == (10, 10, 95, 32)
    assert unknown.locator.box is None
    assert Locator.from_json(known.locator.to_json()) == known.locator
