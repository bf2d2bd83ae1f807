-- Rows of an older table of jobs. Asked by the owner of the schema, as migrations are; no service may write history.

-- name: add_history
-- Rows that are not here yet; the source's id is what makes a row the same.
insert into document_processing_jobs (id, job_type, bucket, name, file_path, organization_id, user_id, entity_type,
  entity_id, lane, status, processing_stage, error_code, error_message, metadata, created_at, updated_at, started_at,
  completed_at)
select old.id, 'history', old.bucket, old.name, old.file_path, old.organization_id, old.user_id, 'old_job',
  old.entity_id, 'bulk', old.status, old.stage, old.error_code, old.error_message, old.metadata::jsonb,
  coalesce(old.created_at, old.completed_at, headrace_now()), headrace_now(), old.started_at,
  coalesce(old.completed_at, headrace_now())
from unnest(:ids::uuid[], :buckets::text[], :names::text[], :file_paths::text[], :organization_ids::text[],
    :user_ids::text[], :entity_ids::text[], :statuses::text[], :stages::text[], :error_codes::text[],
    :error_messages::text[], :metadata::text[], :created::timestamptz[], :started::timestamptz[],
    :completed::timestamptz[])
  as old (id, bucket, name, file_path, organization_id, user_id, entity_id, status, stage, error_code, error_message,
    metadata, created_at, started_at, completed_at)
on conflict (entity_id) where job_type = 'history' do nothing
returning entity_id, id

-- name: known_history
-- Which of these are here already.
select entity_id from document_processing_jobs where job_type = 'history' and entity_id = any (:entity_ids::text[])

-- name: date_moves
-- What happened long ago is no news: nobody is told, and the ledger says when it was.
update job_events set occurred_at = job.completed_at, published_at = headrace_now()
from document_processing_jobs job
where job.id = any (:ids::uuid[]) and job_events.job_id = job.id

-- name: source_name
-- What the source calls itself; the table's name as it must be written. Null: there is no such table.
select current_database() as database, to_regclass(:table)::text as table,
  (select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
   where c.oid = to_regclass(:table)) as name

-- name: source_columns
-- Its columns.
select attname from pg_attribute where attrelid = to_regclass(:table) and attnum > 0 and not attisdropped
