-- Files that a model reads: of the same bytes in one organization, one job at a time.

-- name: reader_of_file
-- The job that has a file read, whether that is (still) for this organization, in how many seconds it goes on if that is
-- for a budget to say (else null: what it waited for stays on a row), and what it came to if its passages are shown.
select f.job_id, job.organization_id = f.organization_id as is_ours, job.status, d.id is not null as is_shown, job.result, job.page_cost_micros,
  job.tokens_used - job.page_tokens + job.tokens_saved as tokens,
  case when job.status = 'pending' and job.deferred_reason = 'BUDGET_EXHAUSTED' and job.next_attempt_at > headrace_now()
       then greatest(extract(epoch from job.next_attempt_at - headrace_now()), 1)::double precision end as budget_seconds
from files_read f
join document_processing_jobs job on job.id = f.job_id
left join documents d on d.live_job_id = job.id
where f.organization_id = :organization_id and f.content_sha256 = :content_sha256 and f.reader = :reader
for update of f

-- name: claim_file
-- Nothing where somebody was faster.
insert into files_read (organization_id, content_sha256, reader, job_id)
values (:organization_id, :content_sha256, :reader, :job_id)
on conflict do nothing
returning job_id

-- name: take_over_file
-- From a job that has ended without passages, or has them made for another organization by now.
update files_read set job_id = :job_id
where organization_id = :organization_id and content_sha256 = :content_sha256 and reader = :reader

-- name: end_waiting
-- Who waited for another job to read the file, and has it read now, has its whole patience for that.
update document_processing_jobs set deferred_since = null where id = :job_id

-- name: copy_chunks
-- In one statement: all passages of a job that is shown at this moment, or none. The job that gets them has none.
insert into chunks (job_id, document_id, organization_id, ordinal, text, locator, text_hash)
select :job_id, :document_id, c.organization_id, c.ordinal, c.text, c.locator, c.text_hash
from chunks c join documents d on d.live_job_id = c.job_id
where c.job_id = :from_job_id and c.organization_id = :organization_id
