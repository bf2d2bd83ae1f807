"""Delimited text is read row by row: whatever its encoding and delimiter, and however many rows it has."""

import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.process.extract.extractor import ChildExtractor
from services.process.extract.sections import sheet_sections
from shared.errors import UnprocessableContent
from shared.model import media
from shared.model.document import Segment

ROWS = [["name", "remark"], *([f"Grüße {number}", "naïve café, daily; always"] for number in range(40))]


@pytest.fixture
async def extractor(tmp_path: Path) -> AsyncIterator[ChildExtractor]:
    """Hand out an extractor."""
    async with ChildExtractor(work_dir=tmp_path, deadline_seconds=60) as extractor:
        yield extractor


async def read(extractor: ChildExtractor, path: Path, data: bytes, media_type: str = media.CSV) -> list[Segment]:
    """Read these bytes as a file."""
    path.write_bytes(data)
    return [segment async for segment in extractor.extract(path, media_type=media_type)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be-mark", "cp1252", "latin-1"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
async def test_encodings_and_delimiters_are_told(
    extractor: ChildExtractor, tmp_path: Path, encoding: str, delimiter: str
) -> None:
    """The same rows give the same cells, by a mark, as UTF-8, or as Windows wrote them."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter).writerows(ROWS)
    text = buffer.getvalue()
    data = b"\xfe\xff" + text.encode("utf-16-be") if encoding == "utf-16-be-mark" else text.encode(encoding)
    kind = media.TSV if delimiter == "\t" else media.CSV
    (segment,) = await read(extractor, tmp_path / "a.csv", data, kind)
    assert segment.locator.label == "sheet data, A1:B41"
    assert "| Grüße 39 | naïve café, daily; always |" in segment.text


async def test_cyrillic_rows_are_read_as_what_they_are(extractor: ChildExtractor, tmp_path: Path) -> None:
    """Lines that are neither UTF-8 nor marked are shown to the library, whose guess holds for the whole file."""
    rows = "имя,место\n" + "насос в порядке,зал номер семь у реки\n" * 30
    (segment,) = await read(extractor, tmp_path / "a.csv", rows.encode("cp1251"))
    assert "| насос в порядке | зал номер семь у реки |" in segment.text


@pytest.mark.parametrize("line", [b"abcdefghi " * 2_000_000, b"ab," * 7_000_000], ids=["one cell", "many cells"])
async def test_one_endless_line_is_too_complex(extractor: ChildExtractor, tmp_path: Path, line: bytes) -> None:
    """A file of 20 MB without a line's end is not called damaged."""
    with pytest.raises(UnprocessableContent) as caught:
        await read(extractor, tmp_path / "a.csv", line)
    assert caught.value.code == "TOO_COMPLEX"


async def test_a_quote_that_is_never_closed_is_damage(extractor: ChildExtractor, tmp_path: Path) -> None:
    """Everything after it would be one cell."""
    with pytest.raises(UnprocessableContent) as caught:
        await read(extractor, tmp_path / "a.csv", b'a,b\n"' + b"x,y\n" * 400_000)
    assert caught.value.code == "CORRUPT"


async def test_empty_rows_within_count_and_those_at_the_end_do_not(extractor: ChildExtractor, tmp_path: Path) -> None:
    """Cells keep their true rows; what trails behind is no part of the table, however wide."""
    (segment,) = await read(extractor, tmp_path / "a.csv", b"a,b\n\n1,2\n,,,,,\n\n")
    assert segment.locator.label == "sheet data, A1:B3"
    assert segment.text.endswith("| 1 | 2 |")


def test_rows_that_come_one_by_one_are_cut_as_those_that_are_held() -> None:
    """Where a part ends is decided by what is within reach of it."""
    rows = [["n", "words"], *([str(number), "w" * (number * number % 97)] for number in range(3000))]
    held = list(sheet_sections("data", rows, column=1, row=1))
    taken = 0

    def source() -> object:
        nonlocal taken
        for row in rows:
            taken += 1
            yield row

    sections = sheet_sections("data", source(), column=1, row=1, width=2)  # type: ignore[arg-type]
    assert next(sections) == held[0]
    assert taken < 300
    assert list(sections) == held[1:]
    assert sum(section.text.count("\n") - 1 for section in held) == 3000
