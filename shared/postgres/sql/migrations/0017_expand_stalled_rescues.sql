-- Rescues since the job last got somewhere: those are bounded. `rescue_count` counts all of them, for people.
alter table document_processing_jobs add column stalled_rescues integer not null default 0;

grant update (stalled_rescues) on document_processing_jobs to headrace_ingest, headrace_process, headrace_recover,
  headrace_api;
