"""Tables and trees that nobody draws, and that people have all the same."""

import pytest

from services.process.extract.sections import sheet_sections, table_text
from services.process.extract.trees import tree_sections
from shared.model import media


@pytest.mark.parametrize("encoding", ["ISO-8859-1", "windows-1252", "UTF-16", "utf-8"])
def test_a_tree_says_what_it_says_in_any_encoding(encoding: str) -> None:
    """The text was decoded already; what the file declares of its encoding is not applied a second time."""
    found = tree_sections(f"<?xml version='1.0' encoding='{encoding}'?><a><b>Grüße aus Köln</b></a>", media.XML)
    assert found is not None
    assert "Grüße aus Köln" in found[0].text


def test_a_lone_cell_far_below_a_table_brings_no_empty_rows() -> None:
    """The rows in between are not told; table and cell are, where they stand."""
    rows = [["Part", "Price"], ["bolt", "2"], *[["", ""]] * 5_000, ["checked by Ann", ""]]
    found = list(sheet_sections("Parts", rows, column=1, row=1))
    assert len(found) == 2
    assert "| bolt | 2 |" in found[0].text
    assert "checked by Ann" in found[1].text
    assert found[1].locator.cells is not None
    assert found[1].locator.cells.endswith("B5003")
    assert all("|  |  |" not in section.text for section in found)


def test_one_wide_row_does_not_unfold_all_others() -> None:
    """Short rows are filled up to where people look, and no further."""
    text = table_text([["a"] * 10_000, *[["b"]] * 100])
    assert len(text) < 200_000
    assert table_text([["a", "b"], ["c"]]).splitlines()[-1] == "| c |  |"
