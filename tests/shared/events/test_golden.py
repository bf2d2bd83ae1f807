"""The contract changes only in sight."""

import pytest

from shared.events.catalogue import CATALOGUE, Event
from shared.events.golden import FOLDER, path_of, schema_of


@pytest.mark.parametrize("kind", CATALOGUE, ids=lambda kind: kind.TYPE)
def test_schema_equals_its_file(kind: type[Event]) -> None:
    """An event looks as its golden schema says; `python -m shared.events.golden` records a wanted change."""
    assert path_of(kind).read_text() == schema_of(kind)


def test_every_file_belongs_to_an_event_or_an_older_version() -> None:
    """No schema is left behind by an event that is gone."""
    types = {kind.TYPE for kind in CATALOGUE}
    assert {path.name.rsplit(".v", 1)[0] for path in FOLDER.glob("*.json")} == types


def test_event_types_are_unique() -> None:
    """Two events never share a name and version."""
    assert len({(kind.TYPE, kind.VERSION) for kind in CATALOGUE}) == len(CATALOGUE)
