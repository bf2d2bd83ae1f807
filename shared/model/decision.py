"""What to do about one object, decided from the document row and what Storage says now. Pure: no clock, no I/O.

An event is only a hint that something may have changed. The decision compares generations for equality, never for
order, and is committed only if the document's revision has not moved since it was read; otherwise it is made anew.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.model.document import Document, ObjectMetadata

UNKNOWN_ORGANIZATION = "?"
"""Stands on rows whose owner nobody knows; no caller can be of that name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """Whose document it is. Unknown owners are not guessed: the job fails with `TENANT_UNKNOWN`."""

    organization_id: str
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class Nothing:
    """The row and the bucket agree, or work that will make them agree is under way."""


@dataclass(frozen=True, slots=True)
class Index:
    """This generation is new: record it, supersede older work, make a job."""

    live: ObjectMetadata
    owner: Owner | None


@dataclass(frozen=True, slots=True)
class Adopt:
    """A new generation of the very bytes that are indexed: keep the chunks, call no model."""

    live: ObjectMetadata
    owner: Owner


@dataclass(frozen=True, slots=True)
class Describe:
    """The same generation with other metadata; a changed owner moves the rows."""

    live: ObjectMetadata
    owner: Owner


@dataclass(frozen=True, slots=True)
class Remove:
    """The object is gone, or only a folder by now: its chunks go, its work is cancelled."""


Decision = Nothing | Index | Adopt | Describe | Remove


def decide(document: Document | None, live: ObjectMetadata | None, owner: Owner | None) -> Decision:
    """Return what brings the document in step with the bucket; `owner` is who the live object belongs to, if known."""
    if live is None or live.is_folder:
        return Nothing() if document is None or document.generation is None else Remove()
    if document is None:
        return Index(live, owner)
    if document.generation == live.generation:
        if is_abandoned(document, live):
            return Index(live, owner)
        described = live.metageneration == document.metageneration and live.metadata == document.object_metadata
        if document.organization_id == UNKNOWN_ORGANIZATION and owner is not None:
            return Describe(live, owner) if document.live_job_id is not None else Index(live, owner)
        if described:
            return Nothing()
        # Metadata that no longer say whose it is take the file away from everybody, until they do again.
        return Describe(live, owner or Owner(organization_id=UNKNOWN_ORGANIZATION))
    if owner is not None and _holds_content_of(document, live):
        return Adopt(live, owner)
    return Index(live, owner)


def is_abandoned(document: Document, live: ObjectMetadata) -> bool:
    """Say whether the row knows this generation, and yet nothing shows it and no job ever will.

    A generation without a job of its own stands on passages of an older one, made from the very same bytes. No decision
    of today leaves a row without either; one that an older release or a person left so is found by the comparison.
    """
    known = document.generation == live.generation and document.current_job_id is None
    return known and not _holds_content_of(document, live)


def _holds_content_of(document: Document, live: ObjectMetadata) -> bool:
    """Say whether the visible chunks were made from these very bytes."""
    return (
        document.generation is not None
        and document.live_job_id is not None
        and live.has_content_of(
            size_bytes=document.indexed_size_bytes, crc32c=document.indexed_crc32c, md5=document.indexed_md5
        )
    )
