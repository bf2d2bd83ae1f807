"""Locators: stored and read back, and shown to people."""

import pytest

from shared.errors import InvalidRequest
from shared.model.document import ObjectRef
from shared.model.locator import Locator, LocatorKind
from shared.model.space import EmbeddingSpace

LOCATORS = {
    "page 3": Locator(kind=LocatorKind.PAGE, page=3, start_char=0, end_char=10),
    "slide 2": Locator(kind=LocatorKind.SLIDE, slide=2),
    "sheet Budget, A1:D20": Locator(kind=LocatorKind.SHEET, sheet="Budget", cells="A1:D20"),
    "Installation › Upgrade": Locator(kind=LocatorKind.HEADING, heading_path=("Installation", "Upgrade")),
    "characters 5–9": Locator(kind=LocatorKind.TEXT, start_char=5, end_char=9),
    "Offer › prices.xlsx › sheet May, A1:B2": Locator(
        kind=LocatorKind.SHEET, sheet="May", cells="A1:B2", attachment=("Offer", "prices.xlsx")
    ),
    "1:05–2:00": Locator(kind=LocatorKind.TIME, start_ms=65_000, end_ms=120_999),
}


@pytest.mark.parametrize("label", LOCATORS)
def test_a_locator_survives_storage_and_has_a_label(label: str) -> None:
    """What was stored is read back equal, and says where the passage is."""
    locator = LOCATORS[label]
    assert Locator.from_json(locator.to_json()) == locator
    assert locator.label == label


def test_fields_of_a_newer_version_are_ignored() -> None:
    """A row that a newer version wrote can be read."""
    assert Locator.from_json({"kind": "page", "page": 1, "box": [0, 0, 1, 1]}).page == 1


def test_object_addresses() -> None:
    """`gs://bucket/name` is read and written; anything else is refused with a hint."""
    assert ObjectRef.parse("gs://b/x/y z.txt") == ObjectRef("b", "x/y z.txt")
    assert ObjectRef("b", "x/y").uri == "gs://b/x/y"
    for wrong in ("b/x", "s3://b/x", "gs://b", "gs:///x", ""):
        with pytest.raises(InvalidRequest, match="gs://bucket/name"):
            ObjectRef.parse(wrong)


def test_a_space_differs_when_anything_in_it_differs() -> None:
    """Model, dimensions, metric, task type and normaliser are all part of the identity."""
    space = EmbeddingSpace(model="m", dimensions=8)
    others = [
        EmbeddingSpace(model="n", dimensions=8),
        EmbeddingSpace(model="m", dimensions=9),
        EmbeddingSpace(model="m", dimensions=8, task_type="X"),
        EmbeddingSpace(model="m", dimensions=8, normaliser_version=2),
    ]
    assert len({space.key, *(other.key for other in others)}) == 5
