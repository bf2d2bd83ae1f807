"""The decision about one object, as a table of what is known and what is live."""

import dataclasses
from uuid import uuid4

import pytest

from shared.model.decision import UNKNOWN_ORGANIZATION, Adopt, Describe, Index, Nothing, Owner, Remove, decide
from shared.model.document import Document, ObjectMetadata, ObjectRef

REF = ObjectRef("uploads", "a.txt")
OWNER = Owner(organization_id="acme")
LIVE = ObjectMetadata(
    ref=REF,
    generation=5,
    metageneration=1,
    size_bytes=3,
    crc32c="crc",
    md5="md5",
    content_type=None,
    updated_at=None,
    metadata={"k": "v"},
)
KNOWN = Document(
    id=uuid4(),
    ref=REF,
    organization_id="acme",
    user_id=None,
    revision=1,
    generation=5,
    metageneration=1,
    object_metadata={"k": "v"},
    indexed_size_bytes=3,
    indexed_crc32c="crc",
    indexed_md5="md5",
    live_job_id=uuid4(),
    current_job_id=None,
    current_job_status=None,
    supersessions=0,
    deleted_at=None,
)


def changed(**fields: object) -> ObjectMetadata:
    """Return the live object with other facts."""
    return dataclasses.replace(LIVE, **fields)


def known(**fields: object) -> Document:
    """Return the document with other facts."""
    return dataclasses.replace(KNOWN, **fields)


@pytest.mark.parametrize(
    ("document", "live", "owner", "expected"),
    [
        (None, None, None, Nothing()),
        (None, LIVE, OWNER, Index(LIVE, OWNER)),
        (None, LIVE, None, Index(LIVE, None)),
        (KNOWN, LIVE, OWNER, Nothing()),
        (KNOWN, None, None, Remove()),
        (known(generation=None), None, None, Nothing()),
        (known(organization_id=UNKNOWN_ORGANIZATION), LIVE, OWNER, Describe(LIVE, OWNER)),
        (known(organization_id=UNKNOWN_ORGANIZATION, live_job_id=None), LIVE, OWNER, Index(LIVE, OWNER)),
    ],
)
def test_decide(document: Document | None, live: ObjectMetadata | None, owner: Owner | None, expected: object) -> None:
    """Each case of the table leads to its decision."""
    assert decide(document, live, owner) == expected


def test_a_folder_is_decided_on_as_if_it_were_not_there() -> None:
    """A name that ends in `/` and no bytes: only both together are no file."""
    folder = changed(ref=ObjectRef("uploads", "docs/"), size_bytes=0)
    assert decide(None, folder, OWNER) == decide(None, folder, None) == decide(known(generation=None), folder, OWNER)
    assert decide(None, folder, OWNER) == Nothing()
    assert decide(KNOWN, folder, OWNER) == Remove()
    for file in (changed(size_bytes=0), changed(ref=folder.ref)):
        assert decide(None, file, OWNER) == Index(file, OWNER)


@pytest.mark.parametrize("left", [{"live_job_id": None}, {"indexed_md5": "x"}, {"indexed_size_bytes": 4}])
def test_a_generation_that_is_known_and_neither_shown_nor_worked_on_is_indexed(left: dict[str, object]) -> None:
    """Such a row would never come right by itself; with a job of its own it is left to that job."""
    assert decide(known(**left), LIVE, OWNER) == Index(LIVE, OWNER)
    assert decide(known(**left, organization_id=UNKNOWN_ORGANIZATION), LIVE, OWNER) == Index(LIVE, OWNER)
    assert decide(known(**left), LIVE, None) == Index(LIVE, None)
    assert decide(known(**left, current_job_id=uuid4()), LIVE, OWNER) == Nothing()


def test_metadata_that_no_longer_name_an_owner_take_the_file_from_everybody() -> None:
    """They are recorded, so that bucket and index are equal again, and the former owner does not find it any more."""
    live = changed(metageneration=2, metadata={"organization-id": "not a name!"})
    assert decide(KNOWN, live, None) == Describe(live, Owner(organization_id=UNKNOWN_ORGANIZATION))


@pytest.mark.parametrize("generation", [1, 4, 6, 2**62])
def test_another_generation_is_new_whether_its_number_is_smaller_or_greater(generation: int) -> None:
    """Generations are compared for equality only."""
    live = changed(generation=generation, md5="other")
    assert decide(KNOWN, live, OWNER) == Index(live, OWNER)


def test_the_same_bytes_are_adopted_only_if_they_are_indexed() -> None:
    """Size and checksum must equal those of the visible chunks, and there must be visible chunks."""
    again = changed(generation=6)
    assert decide(KNOWN, again, OWNER) == Adopt(again, OWNER)
    assert decide(known(live_job_id=None), again, OWNER) == Index(again, OWNER)
    assert decide(known(indexed_size_bytes=4), again, OWNER) == Index(again, OWNER)
    assert decide(known(indexed_md5="x"), again, OWNER) == Index(again, OWNER)
    composed = changed(generation=6, md5=None)
    assert decide(KNOWN, composed, OWNER) == Adopt(composed, OWNER)
    unknown = changed(generation=6, md5=None, crc32c=None)
    assert decide(KNOWN, unknown, OWNER) == Index(unknown, OWNER)


def test_changed_metadata_is_described() -> None:
    """A moved metageneration or other metadata of the same generation is recorded, not indexed again."""
    for live in (changed(metageneration=2), changed(metadata={})):
        assert decide(KNOWN, live, OWNER) == Describe(live, OWNER)
