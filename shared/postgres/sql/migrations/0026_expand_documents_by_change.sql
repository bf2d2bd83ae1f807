-- outside a transaction
-- A switch of spaces looks at what changed since it began, and nobody completes a job meanwhile.

create index concurrently if not exists documents_changed on documents (updated_at) where live_job_id is not null;
