-- outside a transaction
-- What became of the jobs of an import; and that no row of an older table is imported twice.

create index concurrently if not exists jobs_of_import on document_processing_jobs
  (entity_id, status) where entity_type = 'bulk_import' and job_type = 'document_processing';
create unique index concurrently if not exists jobs_history_once on document_processing_jobs
  (entity_id) where job_type = 'history';
