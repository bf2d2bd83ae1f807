-- Jobs without a document: which roles may ask for one. The queue itself takes them as they are.

grant insert (job_type, entity_type, entity_id, payload) on document_processing_jobs
  to headrace_process, headrace_recover, headrace_api;
