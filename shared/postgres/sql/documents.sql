-- Decisions about objects. Each is one transaction, fenced by the document's revision.

-- name: read_document
-- The row as it is now, with what became of the job that is to index it.
select d.*, j.status as current_job_status from documents d
left join document_processing_jobs j on j.id = d.current_job_id
where d.bucket = :bucket and d.name = :name

-- name: lock_document_by_name
-- The fence.
select * from documents where bucket = :bucket and name = :name for update

-- name: insert_document
-- The first sight of a name; a second one at the same moment writes nothing.
insert into documents (id, bucket, name, organization_id, user_id, revision, generation, metageneration, size_bytes,
  crc32c, md5, object_metadata)
values (:id, :bucket, :name, :organization_id, :user_id, 1, :generation, :metageneration, :size_bytes,
  :crc32c, :md5, :object_metadata)
on conflict (bucket, name) do nothing

-- name: record_generation
-- What is live now.
update documents set
  revision = revision + 1, generation = :generation, metageneration = :metageneration, size_bytes = :size_bytes,
  crc32c = :crc32c, md5 = :md5, object_metadata = :object_metadata, organization_id = :organization_id,
  user_id = :user_id, supersessions = :supersessions, deleted_at = null, updated_at = headrace_now()
where id = :id

-- name: point_to_job
-- The job that is to index the live generation; null when none is needed.
update documents set current_job_id = :job_id where id = :id

-- name: adopt_generation
-- The visible chunks stand for the new generation too.
update documents set indexed_generation = generation, current_job_id = null where id = :id

-- name: remove_document
-- The object is gone.
update documents set
  revision = revision + 1, generation = null, metageneration = null, live_job_id = null, current_job_id = null,
  indexed_generation = null, indexed_size_bytes = null, indexed_crc32c = null, indexed_md5 = null,
  supersessions = 0, deleted_at = headrace_now(), updated_at = headrace_now()
where id = :id

-- name: lock_active_jobs
-- Work in hand for a document.
select id, status, generation, lane, quarantined, trace_parent from document_processing_jobs
where document_id = :document_id and job_type = 'document_processing' and status in ('pending', 'processing')
order by created_at for update

-- name: let_finish
-- Superseded too often in a row: this running job may finish and swap, so that the file is indexed at all.
update document_processing_jobs set may_finish = true, updated_at = headrace_now() where id = :job_id

-- name: keep_job
-- The decision changed nothing about this work: carry its fence forward. Only of the job of what is live, so that the
-- revisions of jobs that may finish still say which of them is the older one.
update document_processing_jobs set
  document_revision = :revision, metageneration = :metageneration, organization_id = :organization_id,
  user_id = :user_id, updated_at = headrace_now()
where id = :job_id

-- name: insert_job
-- One per generation. A tenant's jobs beyond 50 waiting ones go to the bulk lane, and those of an import always.
insert into document_processing_jobs (id, document_id, bucket, name, file_path, generation, metageneration,
  document_revision, organization_id, user_id, priority, max_attempts, size_bytes, crc32c, md5, trace_parent, metadata,
  entity_type, entity_id, last_rung_at, lane)
values (:id, :document_id, :bucket, :name, :file_path, :generation, :metageneration, :revision, :organization_id,
  :user_id, :priority, :max_attempts, :size_bytes, :crc32c, :md5, :trace_parent, :metadata,
  case when :import_id::text is not null then 'bulk_import' end, :import_id, headrace_now(),
  case when :import_id::text is null and (select count(*) from (
         select from document_processing_jobs
         where status = 'pending' and lane = 'interactive' and not quarantined and organization_id = :organization_id
         limit 50) waiting) < 50
       then 'interactive' else 'bulk' end)
on conflict (bucket, name, generation) where job_type = 'document_processing' do nothing
returning id, lane

-- name: revive_job
-- A generation that was decided on before and has to be indexed after all: its owner became known, or it was taken for
-- gone although it was completed, and its passages went with it.
update document_processing_jobs set
  status = 'pending', processing_stage = 'pending', attempts = 0, rescue_count = 0, stalled_rescues = 0,
  quarantined = false, may_finish = false, completed_at = null, checkpoint = null, progress_done = 0,
  progress_total = null, error_code = null, error_message = null, deferred_reason = null, deferred_since = null,
  next_attempt_at = headrace_now(), last_rung_at = headrace_now(), ring_count = 0, document_revision = :revision,
  organization_id = :organization_id, user_id = :user_id, updated_at = headrace_now()
where bucket = :bucket and name = :name and generation = :generation and job_type = 'document_processing'
  and status in ('completed', 'failed', 'cancelled')
returning id, lane

-- name: reopen_letters
-- It was looked again whose the file is, and nobody's it still is; not counted as a failure.
update dead_letters set state = 'open'
from document_processing_jobs job
where job.document_id = :document_id and dead_letters.job_id = job.id and dead_letters.state = 'replaying'
  and job.status = 'failed'

-- name: move_jobs
-- A changed owner takes the rows along.
update document_processing_jobs set organization_id = :organization_id, user_id = :user_id
where document_id = :document_id and organization_id <> :organization_id

-- name: move_events
-- The ledger too.
update job_events set organization_id = :organization_id
from document_processing_jobs job
where job.document_id = :document_id and job_events.job_id = job.id and job_events.organization_id <> :organization_id

-- name: move_dead_letters
-- And its failures.
update dead_letters set organization_id = :organization_id
from document_processing_jobs job
where job.document_id = :document_id and dead_letters.job_id = job.id
  and dead_letters.organization_id is distinct from :organization_id

-- name: count_passages
-- Of what is shown of a document, if that is kept, and of work in hand on a generation, up to a limit.
select count(*) from (
  select from chunks c join document_processing_jobs job on job.id = c.job_id
  where c.document_id = :document_id
    and (job.id = :shown_job_id or (job.generation = :generation and job.status in ('pending', 'processing')))
  limit :limit) counted

-- name: copy_vectors
-- Vectors are kept per organization: the new owner gets copies of those it needs.
insert into embeddings (space_id, organization_id, text_hash, embedding)
select distinct on (e.space_id, e.text_hash) e.space_id, :organization_id, e.text_hash, e.embedding
from chunks c join embeddings e on e.organization_id = c.organization_id and e.text_hash = c.text_hash
where c.document_id = :document_id and c.organization_id <> :organization_id
order by e.space_id, e.text_hash
on conflict (space_id, organization_id, text_hash) do nothing

-- name: move_chunks
-- Last, when the vectors are there.
update chunks set organization_id = :organization_id
where document_id = :document_id and organization_id <> :organization_id
