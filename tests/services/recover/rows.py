"""Very many rows at once, written by SQL as the product would have left them."""

from __future__ import annotations

from tests.plugins.road import Road


async def flood(road: Road, count: int, *, status: str = "pending", organization: str = "acme", **columns: str) -> None:
    """Write documents with a job each; `columns` are SQL expressions for columns of the job, in which `n` counts."""
    values = {
        "status": f"'{status}'",
        "processing_stage": {"pending": "'pending'", "processing": "'embedding'"}.get(status, f"'{status}'"),
        "lease_until": "now() - interval '1 hour'" if status == "processing" else "null",
        "attempts": "1" if status == "processing" else "0",
        "error_code": "'BOOM'" if status == "failed" else "null",
        "completed_at": "now()" if status in {"completed", "failed", "cancelled"} else "null",
        "next_attempt_at": "now() - interval '1 hour'",
        "last_rung_at": "now() - interval '1 hour'",
    } | columns
    async with road.database.transaction() as connection:
        await connection.execute("set local statement_timeout = 0")
        await connection.execute(
            f"""with made as (
                 insert into documents (id, bucket, name, organization_id, generation, metageneration)
                 select gen_random_uuid(), 'uploads', '{organization}/' || lpad(n::text, 8, '0'), '{organization}', n, 1
                 from generate_series(1, {count}) n
                 returning id, bucket, name, organization_id, generation as n),
               jobs as (
                 insert into document_processing_jobs (id, document_id, bucket, name, generation, organization_id,
                   document_revision, {", ".join(values)})
                 select gen_random_uuid(), id, bucket, name, n, organization_id, 1, {", ".join(values.values())}
                 from made returning id, document_id)
               select count(*) from jobs""",
            timeout=300,
        )
        await connection.execute("update job_events set published_at = now() where published_at is null", timeout=300)
        await connection.execute(
            """update documents set current_job_id = job.id from document_processing_jobs job
               where job.document_id = documents.id and documents.current_job_id is null""",
            timeout=300,
        )
        await connection.execute("analyze")
