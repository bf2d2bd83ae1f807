"""Pages of HTML: whatever a browser shows is in a block, once, and terms stand with what describes them."""

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from time import process_time

import pytest

from services.process.extract.files import Reading
from services.process.extract.hypertext import blocks
from services.process.extract.protocol import Request
from services.process.extract.texts import decode_page
from shared.model import media
from shared.model.document import Segment
from shared.model.locator import LocatorKind

ROOT = Path(__file__).parents[4]
PAGES = [*sorted((ROOT / "tests" / "files" / "html").iterdir()), ROOT / "cli" / "corpus" / "water-licence.html"]
EVERYTHING = ROOT / "tests" / "files" / "html" / "everything.html"

JOINED = set("a acronym b code em font i rp rt ruby script small span strong sub sup tt u".split(" "))  # noqa: SIM905
UNSHOWN = {"head", "script", "style", "template", "noscript", "iframe", "video", "rp"}


class Shown(HTMLParser):
    """A second reader, as simple as can be: everything between tags, unless it stands in what is not shown."""

    def __init__(self) -> None:
        """Begin before the page."""
        super().__init__()
        self.text = ""
        self._unshown: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Leave out what is not shown, add what attributes show, and end a word where a line ends."""
        told = dict(attrs)
        self.text += "" if tag in JOINED else " "
        if self._unshown and tag == "p" == self._unshown[-1]:
            self._unshown.pop()
        if tag in UNSHOWN or "hidden" in told:
            self._unshown.append(tag)
        if tag == "img" or (tag == "input" and told.get("type") != "hidden"):
            self.handle_data(f" {told.get('alt') or told.get('value') or told.get('placeholder') or ''} ")

    def handle_endtag(self, tag: str) -> None:
        """Show again."""
        self.text += "" if tag in JOINED else " "
        if self._unshown and self._unshown[-1] == tag:
            self._unshown.pop()

    def handle_data(self, data: str) -> None:
        """Take what is shown."""
        self.text += "" if self._unshown else data

    def unknown_decl(self, data: str) -> None:
        """Pass over Word's conditions."""


def words(text: str) -> Counter[str]:
    """Count the words of a text."""
    return Counter(re.findall(r"\w+", text))


async def read(path: Path, tmp_path: Path) -> list[Segment]:
    """Read a page as the child does."""
    request = Request(
        path=path,
        folder=tmp_path,
        media_type=media.HTML,
        start=0,
        max_text_bytes=1 << 20,
        cpu_seconds=60,
        pictures=False,
    )
    return [segment async for segment in Reading(request).segments()]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
async def test_every_word_that_is_shown_is_in_one_segment(path: Path, tmp_path: Path) -> None:
    """The words of all segments are those that a second reader sees, each as often."""
    shown = Shown()
    shown.feed(await decode_page(path.read_bytes()))
    shown.close()
    found = "\n".join(segment.text for segment in await read(path, tmp_path))
    assert words(found) == words(shown.text)
    assert "zz" not in found


def test_a_term_stands_above_its_description() -> None:
    """Both are one block, also with several terms, and where end tags are left out; a lone term is not lost."""
    found = [text for _, text in blocks(EVERYTHING.read_text())]
    assert "mast_height (metres)\nHow far the antenna stands above the quay." in found
    assert "mast_colour\nmast_paint\nWhat the painters use." in found
    assert "mast_lights\n- red" in found
    assert found[found.index("mast_steps") + 1].startswith("| Step | Height |")
    assert "mast_undescribed" in found


def test_navigation_comes_last_on_one_line() -> None:
    """What is marked as navigation, and a row of nothing but links, is no block of its own."""
    assert blocks(EVERYTHING.read_text())[-1] == (
        0,
        "Printed in spring\nPrevious page | Contents | Backwards | Upwards",
    )


def test_tables_keep_their_columns() -> None:
    """A cell over several columns or rows is told once, with empty cells for the rest; a caption stands above."""
    found = [text for _, text in blocks(EVERYTHING.read_text())]
    at = found.index("Table two: wind limits")
    assert found[at + 1].splitlines() == [
        "| Wind | Allowed |  |",
        "| --- | --- | --- |",
        "| Source | coast | guard |",
        "| strong | nobody | never \\| ever |",
        "|  | rigger | with harness |",
    ]


def test_tables_for_the_looks_are_read_cell_by_cell() -> None:
    """Headings and tables within cells are what they are elsewhere."""
    found = blocks(EVERYTHING.read_text())
    at = found.index((4, "Laid out"))
    assert found[at + 1 : at + 4] == [(0, "left column"), (0, "| inner | cells |\n| --- | --- |"), (0, "right column")]


async def test_a_title_is_the_heading_of_a_page_without_headings(tmp_path: Path) -> None:
    """Otherwise it is not read, because it says what a heading says."""
    path = tmp_path / "a.html"
    path.write_text("<title>Tide table</title><p>High water at noon.")
    (only,) = await read(path, tmp_path)
    assert (only.text, only.locator.heading_path) == ("Tide table\n\nHigh water at noon.", ("Tide table",))
    path.write_text("<p>High water at noon.")
    (only,) = await read(path, tmp_path)
    assert only.locator.kind is LocatorKind.TEXT


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ("<p>one<!-- two", "one"),
        ("<p>one<!-->two<!--x--!>three", "onetwothree"),
        ("<title>one<p>two", "one two"),
        ("<p>one<![CDATA[x]]>two", "onetwo"),
        ("<p>1 < 2 <3 </ <! x", None),
        ("<td>one</table></tr>two", "one two"),
        ("<li>one<li>two</ul></li>three", "- one - two three"),
        ("<h1>one<p>two</h1>three<h2>four<h3>five", "one two three four five"),
        ("<p>one<o:p> two</o:p><custom-part>three</custom-part>", "one two three"),
        ("a\x00b", None),
    ],
)
def test_broken_pages_are_read_as_browsers_read_them(page: str, seen: str | None) -> None:
    """Tags left open or closed twice lose nothing; whatever the bytes are, there is an end."""
    found = " ".join(" ".join(text for _, text in blocks(page)).split())
    assert seen is None or found == seen


@pytest.mark.parametrize(
    "page",
    [
        "<!--" * 100_000,
        "<!--x>" * 100_000,
        "<div>" * 20_000 + "<p>x" * 5_000,
        "<p>" + "<i>" * 20_000 + "</b>" * 20_000,
        "<table><tr><td>" * 5_000 + "x",
        "<li><ul>" * 10_000,
        "<dl><dt>x" * 5_000,
        "<table>" + "<tr><td colspan=50 rowspan=50>x" * 500,
    ],
    ids=lambda page: page[:20],
)
def test_deep_and_endless_pages_take_time_in_proportion(page: str) -> None:
    """Tens of thousands of tags are read in a moment, where a look back at each would take minutes."""
    began = process_time()
    blocks(page)
    assert process_time() - began < 60
