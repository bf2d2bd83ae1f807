"""Objects in the bucket, the documents they become, and the pieces that are searched."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from shared.errors import InvalidRequest
from shared.model.job import Status
from shared.model.locator import Box, Locator
from shared.model.text import storable


@dataclass(frozen=True, order=True, slots=True)
class ObjectRef:
    """A bucket and a name in it; says nothing about which generation."""

    bucket: str
    name: str

    @property
    def uri(self) -> str:
        """`gs://bucket/name`."""
        return f"gs://{self.bucket}/{self.name}"

    @classmethod
    def parse(cls, uri: str) -> ObjectRef:
        """Read `gs://bucket/name`.

        Raises:
            InvalidRequest: it is not such an address.
        """
        scheme, _, rest = uri.partition("://")
        bucket, _, name = rest.partition("/")
        if scheme != "gs" or not bucket or not name:
            raise InvalidRequest(f"{uri!r} is not an object address; write gs://bucket/name.")
        return cls(bucket, name)


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectMetadata:
    """What Storage says of a live object.

    `generation` is unique but not ordered: compare for equality only.
    """

    ref: ObjectRef
    generation: int
    metageneration: int
    size_bytes: int
    crc32c: str | None
    md5: str | None
    content_type: str | None
    updated_at: datetime | None
    metadata: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Metadata are what users write: keep what can be stored, so that no value can keep a file out."""
        clean = {storable(key): storable(value) for key, value in self.metadata.items()}
        object.__setattr__(self, "metadata", clean)

    @property
    def is_folder(self) -> bool:
        """Whether it only stands for a folder, as consoles, mounts and copying tools make them: nothing to index.

        Its name ends in `/` and it has no bytes. With bytes it is a file, and so is an empty one of another name.
        """
        return self.size_bytes == 0 and self.ref.name.endswith("/")

    def has_content_of(self, *, size_bytes: int | None, crc32c: str | None, md5: str | None) -> bool:
        """Say whether size and checksum equal the ones given; unknown checksums are never equal."""
        if size_bytes != self.size_bytes:
            return False
        if md5 is not None and self.md5 is not None:
            return md5 == self.md5
        return crc32c is not None and crc32c == self.crc32c


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """One (bucket, name), as far as it has been decided on. `revision` is the fence: every decision raises it."""

    id: UUID
    ref: ObjectRef
    organization_id: str
    user_id: str | None
    revision: int
    generation: int | None
    """The live generation as last decided; None when the object is gone."""
    metageneration: int | None
    object_metadata: dict[str, str]
    indexed_size_bytes: int | None
    indexed_crc32c: str | None
    indexed_md5: str | None
    """Size and checksums of the bytes whose chunks are visible."""
    live_job_id: UUID | None
    current_job_id: UUID | None
    current_job_status: Status | None
    supersessions: int
    deleted_at: datetime | None


class BoxSpan(NamedTuple):
    """Where the characters from `start` to before `end` of a segment's text stand on their page."""

    start: int
    end: int
    box: Box


@dataclass(frozen=True, slots=True)
class Picture:
    """A page as an image, small enough for one request to a model."""

    data: bytes = field(repr=False)
    media_type: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A stretch of extracted text under one locator, in reading order. `index` counts from 0 within the file."""

    index: int
    text: str
    locator: Locator
    boxes: tuple[BoxSpan, ...] = ()
    """In order of `start`, as far as the parser knows them."""
    by_ocr: bool = False
    """The text was read from a picture, or is still to be."""
    picture: Picture | None = None
    """What a model is to read; until it has, there is no text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """What is embedded and found: a text small enough for the model, and where it stands in its file."""

    ordinal: int
    text: str
    locator: Locator
    text_hash: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchHit:
    """One passage that answers a query. `score` is comparable within one answer only; higher is better."""

    document_id: UUID
    ref: ObjectRef
    generation: int
    media_type: str | None
    ordinal: int
    text: str
    locator: Locator
    score: float
    vector_score: float | None
    text_score: float | None
