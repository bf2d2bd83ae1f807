"""One owner for each data directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shared.errors import ConfigurationError
from shared.local import lock


def test_a_held_lock_refuses_others_and_tells_who_holds_it(tmp_path: Path) -> None:
    """The second owner is told the first one's process id and what to do."""
    path = tmp_path / "x.lock"
    with (
        lock.hold(path, "the stack"),
        pytest.raises(ConfigurationError, match=rf"in use by process {os.getpid()}; stop it"),
        lock.hold(path, "the stack"),
    ):
        pass


def test_what_the_holder_wrote_is_readable_while_it_holds(tmp_path: Path) -> None:
    """Others read the holder's text, and nothing once it has gone, even if its file stayed."""
    path = tmp_path / "x.lock"
    assert lock.read_held(path) is None
    with lock.hold(path, "the stack") as held:
        assert lock.read_held(path) == ""
        held.write("first, longer")
        held.write("second")
        assert lock.read_held(path) == "second"
    assert lock.read_held(path) is None
    path.write_text("999\nleft behind by a killed process")
    assert lock.read_held(path) is None
    with lock.hold(path, "the stack"):
        assert lock.read_held(path) == ""
