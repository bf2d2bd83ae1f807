-- Imports name themselves on the jobs they make; and the process service removes what is old when it is asked to.

grant insert (entity_type, entity_id) on document_processing_jobs to headrace_ingest;

grant delete on outbox, job_events, dead_letters, replay_batches, recover_runs to headrace_process;
grant select (resolved_at) on dead_letters to headrace_process;
grant select on replay_batches to headrace_process;
grant update (state) on replay_batches to headrace_process;
grant select (batch_id, state) on replays to headrace_process;
grant select (id, started_at), update (id) on recover_runs to headrace_process;
