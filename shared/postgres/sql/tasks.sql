-- Jobs without a document. Claims, leases and failures are those of all jobs (jobs.sql).

-- name: take_turn
-- Two people who ask for the same at once get one task.
select pg_advisory_xact_lock(hashtext('headrace_tasks'), hashtext(:entity))

-- name: unfinished_task
-- The one that is waiting or running.
select id from document_processing_jobs
where document_id is null and job_type = :job_type and organization_id = :organization_id
  and entity_type = :entity_type and entity_id = :entity_id and status in ('pending', 'processing')
order by created_at limit 1

-- name: insert_task
-- Its bell is written in the same transaction.
insert into document_processing_jobs (id, job_type, organization_id, user_id, entity_type, entity_id, payload, lane,
  priority, max_attempts, trace_parent, last_rung_at)
values (:id, :job_type, :organization_id, :user_id, :entity_type, :entity_id, :payload, :lane,
  :priority, :max_attempts, :trace_parent, headrace_now())

-- name: save_task
-- Fenced by the lease's epoch; there is no document whose revision could have moved. What is new proves that the job
-- gets somewhere: neither its rescues nor its waiting so far count against it.
update document_processing_jobs set
  checkpoint = :checkpoint, progress_done = :done, progress_total = :total, progress_unit = :unit,
  stalled_rescues = case when checkpoint is distinct from :checkpoint then 0 else stalled_rescues end,
  deferred_since = case when checkpoint is distinct from :checkpoint then null else deferred_since end,
  updated_at = headrace_now()
where id = :job_id and lease_epoch = :epoch and status = 'processing'

-- name: pause_task
-- Back to the queue with what was done: the work got somewhere, so it goes on with fresh attempts and not alone.
update document_processing_jobs set
  status = 'pending', processing_stage = 'pending', lease_owner = null, lease_until = null,
  attempts = 0, stalled_rescues = 0, quarantined = false, deferred_since = null, error_code = null, error_message = null,
  checkpoint = :checkpoint, progress_done = :done, progress_total = :total, progress_unit = :unit,
  next_attempt_at = headrace_now() + make_interval(secs => :delay_seconds),
  last_rung_at = case when :delay_seconds > 0 then last_rung_at else headrace_now() end, updated_at = headrace_now()
where id = :job_id and lease_epoch = :epoch and status = 'processing'
returning id, lane, quarantined, trace_parent

-- name: count_waiting
-- Jobs of an import that have not ended.
select count(*) from (
  select from document_processing_jobs
  where entity_type = 'bulk_import' and entity_id = :import_id and job_type = 'document_processing'
    and status in ('pending', 'processing')
  limit :limit) waiting

-- name: count_outcomes
-- What became of the jobs of an import; asked once, at its end.
select status, count(*) as jobs from document_processing_jobs
where entity_type = 'bulk_import' and entity_id = :import_id and job_type = 'document_processing'
group by status

-- name: finish_task
-- The end of the road.
update document_processing_jobs set
  status = 'completed', processing_stage = 'completed', lease_owner = null, lease_until = null, checkpoint = null,
  quarantined = false, result = :result, error_code = null, error_message = null, deferred_since = null,
  completed_at = headrace_now(), updated_at = headrace_now()
where id = :job_id and lease_epoch = :epoch and status = 'processing'

-- name: resolve_letters
-- The effect resolves the letters of the failures before it.
update dead_letters set state = 'resolved', resolved_at = headrace_now()
where job_id = :job_id and state in ('open', 'replaying')
