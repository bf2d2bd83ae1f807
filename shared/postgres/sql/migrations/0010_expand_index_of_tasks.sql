-- outside a transaction
-- Tasks are few beside the jobs of documents: whether one is waiting or running, and what became of the others.

create index concurrently if not exists jobs_tasks on document_processing_jobs
  (job_type, entity_type, entity_id) where document_id is null;
