"""How commands find a running stack."""

from __future__ import annotations

import os
from pathlib import Path

from services import address
from services.address import Address

HERE = Address(pid=os.getpid(), api="http://a", recover="http://r", storage="http://s", project="p", bucket="b")


def test_the_file_is_there_for_as_long_as_the_stack_runs(tmp_path: Path) -> None:
    """Inside the block it is found, after it nothing is left."""
    with address.published(HERE, tmp_path):
        assert address.find(tmp_path) == HERE
    assert address.find(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_what_another_stack_wrote_is_left_to_it(tmp_path: Path) -> None:
    """A stack that ends does not remove the file of one that started meanwhile."""
    with address.published(HERE, tmp_path):
        other = HERE.model_copy(update={"pid": 1})
        (tmp_path / address.FILE_NAME).write_text(other.model_dump_json())
    assert address.find(tmp_path) == other


def test_a_damaged_file_counts_as_none(tmp_path: Path) -> None:
    """Half a file, or one of another kind, is no stack."""
    for content in ("", '{"pid": 1', "[]", '{"pid": "x"}'):
        (tmp_path / address.FILE_NAME).write_text(content)
        assert address.find(tmp_path) is None
