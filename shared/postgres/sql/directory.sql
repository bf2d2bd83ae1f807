-- Jobs as people and programs see them; row-level security adds the tenant's bound.

-- name: get_job
-- One job.
select * from document_processing_jobs where id = :job_id

-- name: ledger
-- Every move, with how long the job stayed there (null for the present state and for an end).
select e.*, case when e.status not in ('completed', 'failed', 'cancelled') then
    round(extract(epoch from lead(e.occurred_at) over (order by e.seq) - e.occurred_at) * 1000)::bigint
  end as duration_ms
from job_events e where e.job_id = :job_id order by e.seq

-- name: page_jobs
-- Newest first, by key, so that a page stays right while jobs arrive.
select * from document_processing_jobs
where (:status::text is null or status = :status)
  and (:stage::text is null or processing_stage = :stage)
  and (:organization_id::text is null or organization_id = :organization_id)
  and (:job_type::text is null or job_type = :job_type)
  and (:error_code::text is null or error_code = :error_code)
  and (:name_prefix::text is null or starts_with(name, :name_prefix))
  and (:before_created_at::timestamptz is null
       or (created_at, id) < (:before_created_at::timestamptz, :before_id::uuid))
order by created_at desc, id desc limit :limit

-- name: count_jobs
-- By status, stage, lane, error and reason to wait, with what they used and saved.
select status, processing_stage, lane, case when status = 'failed' then error_code end as error_code,
  case when status = 'pending' then deferred_reason end as deferred_reason, count(*) as jobs,
  sum(model_calls)::bigint as calls, sum(tokens_used)::bigint as tokens_used,
  sum(tokens_saved)::bigint as tokens_saved, sum(cost_micros)::bigint as cost_micros,
  sum(cost_saved_micros)::bigint as cost_saved_micros
from document_processing_jobs group by 1, 2, 3, 4, 5

-- name: count_rest
-- What else an operator looks at first.
select
  (select extract(epoch from headrace_now() - min(next_attempt_at)) from document_processing_jobs
   where status = 'pending' and next_attempt_at <= headrace_now())::double precision as oldest_due_seconds,
  (select count(*) from documents where live_job_id is not null) as documents,
  (select count(*) from chunks join documents d on d.live_job_id = chunks.job_id) as chunks,
  (select count(*) from dead_letters where state = 'open') as dead_letters_open

-- name: last_run
-- The recover service's last summary.
select summary from recover_runs order by id desc limit 1

-- name: restart_job
-- By a person: fresh attempts.
update document_processing_jobs set
  status = 'pending', processing_stage = 'pending', attempts = 0, rescue_count = 0, stalled_rescues = 0,
  quarantined = false, may_finish = false, completed_at = null, checkpoint = null, progress_done = 0, deferred_reason = null, deferred_since = null,
  next_attempt_at = headrace_now(), last_rung_at = headrace_now(), ring_count = 0,
  document_revision = coalesce(:revision, document_revision), updated_at = headrace_now()
where id = :job_id returning *

-- name: replaying_letters
-- The letter waits for the outcome.
update dead_letters set state = 'replaying', replays = replays + 1
where job_id = :job_id and state = 'open'

-- name: forget_description
-- The next look at the object cannot find that nothing has changed, and the comparison with the bucket looks too.
update documents set metageneration = null where id = :document_id

-- name: say_asked
-- What whoever asked sees meanwhile.
update document_processing_jobs set updated_at = headrace_now(),
  error_message = case when error_code = 'TENANT_UNKNOWN' then :message else error_message end
where id = :job_id returning *
