-- What the recover service asks: found through partial indexes, taken with SKIP LOCKED, in batches.

-- name: expired_leases
-- Jobs whose worker went silent; not locked yet, because a failure has to lock the document first.
select id, document_id from document_processing_jobs
where status = 'processing' and lease_until < headrace_now()
order by lease_until limit :limit

-- name: lock_expired
-- Still silent? Locked, or skipped when another run has it.
select * from document_processing_jobs
where id = :job_id and status = 'processing' and lease_until < headrace_now()
for update skip locked

-- name: lock_document_if_free
-- A document that is being written to proves that somebody is alive.
select * from documents where id = :document_id for update skip locked

-- name: rescue_job
-- Back in the queue, to run alone; the attempt is not charged.
update document_processing_jobs set
  status = 'pending', processing_stage = 'pending', lease_owner = null, lease_until = null,
  attempts = greatest(attempts - 1, 0), rescue_count = rescue_count + 1, quarantined = true,
  next_attempt_at = headrace_now(), last_rung_at = headrace_now(), ring_count = 0, updated_at = headrace_now()
where id = :job_id

-- name: ring_stuck
-- Due, its bell not in the outbox any more, and last rung longer ago than the threshold, doubled per ring up to 4 times.
with stuck as (
  select id, lane, trace_parent, quarantined from document_processing_jobs job
  where status = 'pending' and next_attempt_at <= headrace_now()
    and greatest(coalesce(last_rung_at, next_attempt_at), next_attempt_at)
        < headrace_now() - make_interval(secs => :threshold_seconds * power(2, least(ring_count, 2)))
    and not exists (select from outbox where outbox.job_id = job.id and outbox.published_at is null)
  order by next_attempt_at limit :limit for update skip locked
), rung as (
  update document_processing_jobs job set last_rung_at = headrace_now(), ring_count = job.ring_count + 1
  from stuck where job.id = stuck.id
)
select id, lane, trace_parent, quarantined from stuck

-- name: list_documents
-- Documents whose object is believed to be live, in the order in which Storage lists.
select d.*, j.status as current_job_status from documents d
left join document_processing_jobs j on j.id = d.current_job_id
where d.bucket = :bucket and d.generation is not null and d.name collate "C" > :after
order by d.name collate "C" limit :limit

-- name: record_run
-- The summary, for people and for the next run.
insert into recover_runs (started_at, summary) values (:started_at, :summary)

-- name: reconciled_since
-- Whether a run has compared everything within the last while.
select exists (
  select from recover_runs
  where started_at > headrace_now() - make_interval(secs => :every_seconds)
    and summary -> 'duties' ? 'reconcile' and not summary -> 'duties' -> 'reconcile' ? 'unfinished')

-- name: queue_figures
-- Pending and due jobs per lane.
select lane, count(*) as pending, count(*) filter (where next_attempt_at <= headrace_now()) as due
from document_processing_jobs where status = 'pending' group by lane

-- name: outbox_lag
-- Age of the oldest row that is still to be published.
select coalesce(extract(epoch from headrace_now() - least(
    (select min(created_at) from outbox where published_at is null),
    (select min(occurred_at) from job_events where published_at is null))), 0)::double precision
