-- outside a transaction
-- Whether a task of the same kind about the same thing is waiting or running.

create index concurrently if not exists jobs_unfinished_tasks on document_processing_jobs
  (job_type, entity_type, entity_id) where document_id is null and status in ('pending', 'processing');
