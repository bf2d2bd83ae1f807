"""Records of the database, turned into the model."""

from __future__ import annotations

from typing import Any

from shared.model.document import Document, ObjectRef
from shared.model.job import Job, JobType, Lane, Stage, Status


def job(row: Any) -> Job:
    """Return the job in a row of `document_processing_jobs`."""
    return Job(
        id=row["id"],
        document_id=row["document_id"],
        job_type=JobType.named(row["job_type"]),
        bucket=row["bucket"],
        name=row["name"],
        file_path=row["file_path"],
        generation=row["generation"],
        organization_id=row["organization_id"],
        user_id=row["user_id"],
        lane=Lane(row["lane"]),
        priority=row["priority"],
        status=Status(row["status"]),
        stage=Stage(row["processing_stage"]),
        attempts=row["attempts"],
        max_attempts=row["max_attempts"],
        retry_count=row["retry_count"],
        rescue_count=row["rescue_count"],
        quarantined=row["quarantined"],
        next_attempt_at=row["next_attempt_at"],
        deferred_reason=row["deferred_reason"],
        deferred_since=row["deferred_since"],
        lease_owner=row["lease_owner"],
        lease_epoch=row["lease_epoch"],
        lease_until=row["lease_until"],
        progress_done=row["progress_done"],
        progress_total=row["progress_total"],
        progress_unit=row["progress_unit"],
        payload=row["payload"],
        result=row["result"],
        checkpoint=row["checkpoint"],
        entity_type=row["entity_type"],
        entity_id=row["entity_id"],
        error_code=row["error_code"],
        error_message=row["error_message"],
        media_type=row["media_type"],
        size_bytes=row["size_bytes"],
        content_sha256=row["content_sha256"],
        model_calls=row["model_calls"],
        tokens_used=row["tokens_used"],
        tokens_saved=row["tokens_saved"],
        cost_micros=row["cost_micros"],
        cost_saved_micros=row["cost_saved_micros"],
        pages_read=row["pages_read"],
        page_tokens=row["page_tokens"],
        page_cost_micros=row["page_cost_micros"],
        trace_parent=row["trace_parent"],
        metadata=row["metadata"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
    )


def document(row: Any) -> Document:
    """Return the document in a row of `documents` joined with its current job's status."""
    status = row["current_job_status"]
    return Document(
        id=row["id"],
        ref=ObjectRef(row["bucket"], row["name"]),
        organization_id=row["organization_id"],
        user_id=row["user_id"],
        revision=row["revision"],
        generation=row["generation"],
        metageneration=row["metageneration"],
        object_metadata=row["object_metadata"],
        indexed_size_bytes=row["indexed_size_bytes"],
        indexed_crc32c=row["indexed_crc32c"],
        indexed_md5=row["indexed_md5"],
        live_job_id=row["live_job_id"],
        current_job_id=row["current_job_id"],
        current_job_status=None if status is None else Status(status),
        supersessions=row["supersessions"],
        deleted_at=row["deleted_at"],
    )
