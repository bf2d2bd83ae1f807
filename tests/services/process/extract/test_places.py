"""Whatever a file calls its parts, where a passage stands can be stored, and takes no more room than passages do."""

import json
import zipfile
from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from services.process.extract.extractor import ChildExtractor
from services.process.extract.places import MAX_NAME_CHARACTERS, MAX_NAMES, bounded
from shared.errors import UnprocessableContent
from shared.model.document import Segment
from shared.model.locator import Locator, LocatorKind
from shared.model.text import storable

CORPUS = Path(__file__).parents[4] / "cli" / "corpus"
LONG = "gate " * 20_000
LARGE = {f"item {number}": "The intake gate closes in 75 seconds. " * 30 for number in range(40)}
"""A branch that is cited item by item."""

LISTED = [[text] for text in LARGE.values()]


@pytest.fixture
async def extractor(tmp_path: Path) -> AsyncIterator[ChildExtractor]:
    """Hand out an extractor."""
    async with ChildExtractor(work_dir=tmp_path, deadline_seconds=60) as extractor:
        yield extractor


async def read(extractor: ChildExtractor, path: Path) -> list[Segment]:
    """Read a whole file, and check that all places can be kept."""
    media_type = extractor.sniff(path, name=path.name)
    found = [segment async for segment in extractor.extract(path, media_type=media_type)]
    for place in (segment.locator for segment in found):
        paths = [(place.sheet,) if place.sheet else (), place.heading_path or (), place.attachment or ()]
        assert max(map(len, paths)) <= MAX_NAMES
        for name in sum(paths, ()):
            assert name == storable(name)
            assert len(name) <= MAX_NAME_CHARACTERS
    return found


@pytest.mark.parametrize(
    ("key", "called"),
    [("ga\x00te", "gate"), ("ga\ud800te", "gate"), (LONG, f"{LONG[: MAX_NAME_CHARACTERS - 1]}…")],
    ids=["nul", "surrogate", "long"],
)
@pytest.mark.parametrize("branch", [{"a": LARGE}, LISTED], ids=["branches", "items"])
async def test_a_key_may_be_anything(
    extractor: ChildExtractor, tmp_path: Path, key: str, called: str, branch: Any
) -> None:
    """Keys that no database stores, or that are longer than what stands below them, cost no file."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps({key: branch, "b": 1}))
    found = await read(extractor, path)
    below = [segment for segment in found if (segment.locator.heading_path or ("",))[0] == called]
    assert len(below) > 1
    assert sum(segment.text.count("75 seconds") for segment in below) == 30 * len(LARGE)
    assert sum(len(segment.text) + len(segment.locator.label) for segment in found) < 100_000


async def test_of_a_deep_path_both_ends_are_kept(extractor: ChildExtractor, tmp_path: Path) -> None:
    """Where there are more levels than anybody reads, those in the middle are left out."""
    branch: Any = LARGE
    for level in range(60, 0, -1):
        branch = {f"level {level}": branch}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(branch))
    names = {segment.locator.heading_path for segment in await read(extractor, path)}
    (ends,) = {(path[:8], path[8:]) for path in names if path}
    assert ends == (
        tuple(f"level {level}" for level in range(1, 9)),
        ("…", *(f"level {level}" for level in range(54, 61))),
    )


async def test_titles_sheets_and_attachments_take_the_same_road(extractor: ChildExtractor, tmp_path: Path) -> None:
    """What other kinds of files call their parts is cut as well, also within a mail."""
    tree, book, mail = tmp_path / "a.xml", tmp_path / "a.xlsx", tmp_path / "a.eml"
    called = f"{LONG[: MAX_NAME_CHARACTERS - 1]}…"
    tree.write_text(f"<a><part><title>{LONG.strip()}</title><p>Close the gate.</p></part></a>")
    with zipfile.ZipFile(CORPUS / "spare-parts.xlsx") as old, zipfile.ZipFile(book, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b' name="', f' name="{LONG}'.encode()))
    made = EmailMessage()
    made["Subject"] = "gates"
    made.set_content("Close the gate.")
    made.add_attachment(tree.read_bytes(), maintype="text", subtype="xml", filename=tree.name)
    mail.write_bytes(made.as_bytes())
    assert {segment.locator.heading_path for segment in await read(extractor, tree)} == {("a", called)}
    assert {segment.locator.sheet for segment in await read(extractor, book)} == {called}
    within = {(segment.locator.attachment, segment.locator.heading_path) for segment in await read(extractor, mail)}
    assert (("a.xml",), ("a", called)) in within


async def test_names_count_as_text(tmp_path: Path) -> None:
    """A file whose places take more than its text may is refused, though its text is short."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"k" * MAX_NAME_CHARACTERS: {"a": {"b": [["x" * 801]] * 40}}}))
    async with ChildExtractor(work_dir=tmp_path, max_text_bytes=40_000) as extractor:
        with pytest.raises(UnprocessableContent) as caught:
            await read(extractor, path)
    assert caught.value.code == "TOO_COMPLEX"


def test_places_of_usual_names_stay_as_they_are() -> None:
    """What is short and storable is not touched."""
    place = Locator(
        kind=LocatorKind.HEADING, heading_path=("Gates", "") * 8, attachment=("a.eml",), sheet="Fuel", start_char=3
    )
    assert bounded(place) == place
