"""Rows of an older table of jobs, as text, read leniently: what each means here, or why it means nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from shared.model.document import ObjectRef
from shared.model.job import WORKING_STAGES, Stage, Status
from shared.model.text import storable

COLUMNS: dict[str, tuple[str, ...]] = {
    "id": ("id", "job_id"),
    "path": ("file_path", "gcs_path", "gcs_uri", "file_uri", "uri", "storage_path", "object_path", "object_name"),
    "bucket": ("bucket", "bucket_name"),
    "status": ("status", "job_status", "state"),
    "stage": ("processing_stage", "stage"),
    "organization_id": ("organization_id", "org_id", "tenant_id"),
    "user_id": ("user_id",),
    "error": ("error_message", "error"),
    "retry_count": ("retry_count", "attempts"),
    "created_at": ("created_at",),
    "started_at": ("started_at",),
    "completed_at": ("completed_at", "processed_at", "finished_at"),
    "updated_at": ("updated_at",),
}
"""What is read, and the names that columns have had; the first that the table has is taken."""

_DONE = {"completed", "complete", "processed", "done", "success", "succeeded"}
_OPEN = {"pending", "queued", "in_progress", "processing", "retrying", *(stage.value for stage in WORKING_STAGES)}
_FAILED = {"failed", "error", "errored"}
_CANCELLED = {"cancelled", "canceled"}

_STORAGE_HOSTS = {"storage.googleapis.com", "storage.cloud.google.com"}
_BUCKET_HOST = ".storage.googleapis.com"
_NAME_LIMIT_BYTES, _ERROR_LIMIT = 1024, 2000
_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}")


@dataclass(frozen=True, kw_only=True, slots=True)
class OldJob:
    """A row that means something. `anew`: it had not ended well, so its object is to be looked at again."""

    source_id: str
    ref: ObjectRef
    status: Status
    stage: Stage
    anew: bool
    organization_id: str
    user_id: str | None
    created_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    said: dict[str, str]
    """What the row said, as it said it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RefusedRow:
    """A row that cannot be imported."""

    source_id: str
    reason: str


def read_old_job(row: Mapping[str, str | None], *, bucket: str, default_organization_id: str) -> OldJob | RefusedRow:
    """Return what a row means; its keys are those of `COLUMNS`, and any may be missing or dirty.

    The status counts. Where it is missing the stage does; where the stage is missing, `pending` or strange, it follows
    from the status.
    """
    value = {name: storable(text).strip() for name, text in row.items() if text is not None and text.strip()}
    source_id = value.get("id", "")
    if not source_id:
        return RefusedRow(source_id="", reason="it has no id")
    ref = _ref(value.get("path", ""), value.get("bucket") or bucket)
    if isinstance(ref, str):
        return RefusedRow(source_id=source_id, reason=ref)
    if ref.bucket != bucket:
        return RefusedRow(source_id=source_id, reason="its file is in another bucket")
    word = value.get("status") or value.get("stage")
    if word is None:
        return RefusedRow(source_id=source_id, reason="it has neither status nor stage")
    word = word.lower().replace("-", "_").replace(" ", "_")
    if word not in _DONE | _OPEN | _FAILED | _CANCELLED:
        return RefusedRow(source_id=source_id, reason="its status is not known")
    owner = value.get("organization_id", "")
    created_at, updated_at = _time(value.get("created_at")), _time(value.get("updated_at"))
    return OldJob(
        source_id=source_id,
        ref=ref,
        # What had not ended well ends here: the decision about its object is another job's.
        status=Status.COMPLETED if word in _DONE else Status.CANCELLED,
        stage=Stage.COMPLETED if word in _DONE else _stage(value.get("stage")),
        anew=word in _OPEN | _FAILED,
        organization_id=owner if _OWNER.fullmatch(owner) else default_organization_id,
        user_id=value.get("user_id"),
        created_at=created_at,
        started_at=_time(value.get("started_at")),
        completed_at=_time(value.get("completed_at")) or updated_at or created_at,
        said={
            name: value[name][:_ERROR_LIMIT] for name in ("status", "stage", "error", "retry_count") if name in value
        },
    )


def _stage(said: str | None) -> Stage:
    stages: dict[str, Any] = {stage.value: stage for stage in WORKING_STAGES}
    found: Stage = stages.get((said or "").lower(), Stage.PENDING)
    return found


def _ref(path: str, bucket: str) -> ObjectRef | str:
    """Return the object that a path means, or what is wrong with the path."""
    if path.startswith("gs://"):
        bucket, _, name = path.removeprefix("gs://").partition("/")
    elif path.startswith(("https://", "http://")):
        try:
            parts = urlsplit(path)
        except ValueError:
            return "its path is no address"
        place = unquote(f"{parts.path}#{parts.fragment}" if parts.fragment else parts.path).lstrip("/")
        if parts.hostname in _STORAGE_HOSTS:
            bucket, _, name = place.partition("/")
        elif parts.hostname and parts.hostname.endswith(_BUCKET_HOST):
            bucket, name = parts.hostname.removesuffix(_BUCKET_HOST), place
        else:
            return "its path is not one of Cloud Storage"
    else:
        name = path.removeprefix("/")
    if not name:
        return "it names no file"
    if name.endswith("/"):
        return "it names a folder"
    if len(name.encode()) > _NAME_LIMIT_BYTES:
        return "its file's name is longer than Cloud Storage allows"
    return ObjectRef(bucket, name)


def _time(text: str | None) -> datetime | None:
    try:
        read = datetime.fromisoformat(text or "")
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):  # also `infinity`, years before Christ, and what people typed
        return None
