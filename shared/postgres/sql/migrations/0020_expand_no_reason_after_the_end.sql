-- Whoever cancels a job, or brings it back, takes off it what it waited for; ingest does both.
grant update (deferred_reason) on document_processing_jobs to headrace_ingest;
