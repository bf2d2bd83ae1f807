-- What the recover service asks: found through partial indexes, taken with SKIP LOCKED, in batches.

-- name: expired_leases
-- Jobs whose worker went silent; not locked yet, because the document has to be locked first.
select id, document_id, lease_until, stalled_rescues from document_processing_jobs
where status = 'processing' and lease_until < headrace_now()
  and (lease_until, id) > (:after_until::timestamptz, :after_id::uuid)
order by lease_until, id limit :limit

-- name: bound_statement
-- A statement of this transaction ends after so long.
select set_config('statement_timeout', :milliseconds::text, true)

-- name: lock_expired
-- Still silent? Locked, or skipped when another run has it.
select * from document_processing_jobs
where id = any (:job_ids::uuid[]) and status = 'processing' and lease_until < headrace_now()
for update skip locked

-- name: lock_documents_if_free
-- A document that is being written to proves that somebody is alive.
select * from documents where id = any (:document_ids::uuid[]) for update skip locked

-- name: rescue_jobs
-- Back in the queue, to run alone; the attempt is not charged.
update document_processing_jobs set
  status = 'pending', processing_stage = 'pending', lease_owner = null, lease_until = null,
  attempts = greatest(attempts - 1, 0), rescue_count = rescue_count + 1,
  stalled_rescues = stalled_rescues + 1, quarantined = true,
  next_attempt_at = headrace_now(), last_rung_at = headrace_now(), ring_count = 0, updated_at = headrace_now()
where id = any (:job_ids::uuid[])

-- name: ring_room
-- How many bells may be added in a lane: twice the jobs that its workers took lately (within two thresholds, since runs
-- are about one apart), `at_least` if they took few, less the bells that are out: still in the outbox, or rung again
-- within the threshold and not answered.
select greatest(:at_least::int, 2 * (
    select count(*) from (
      select from document_processing_jobs
      where status in ('processing', 'completed', 'failed') and lane = :lane
        and updated_at > headrace_now() - make_interval(secs => 2 * :threshold_seconds)
        and claimed_at is not null limit 20000) taken)
  ) - greatest((
    select count(*) from (
      select from outbox
      where published_at is null and topic = 'work' and attributes ->> 'lane' = :lane limit 40000) unsent), (
    select count(*) from (
      select from document_processing_jobs
      where status = 'pending' and lane = :lane and quarantined = :quarantined
        and least(ring_count, 2) in (1, 2) and greatest(last_rung_at, next_attempt_at)
          > headrace_now() - make_interval(secs => :threshold_seconds) limit 40000) unanswered))

-- name: ring_stuck
-- Due, its bell not in the outbox any more, and last rung longer ago than the threshold, doubled per ring up to 4 times.
with stuck as (
  select pick.* from (values (0, 1), (1, 2), (2, 4)) pace (rings, factor)
  cross join lateral (
    select id, lane, trace_parent, quarantined from document_processing_jobs job
    where status = 'pending' and lane = :lane and quarantined = :quarantined
      and least(ring_count, 2) = pace.rings
      and greatest(last_rung_at, next_attempt_at)
          < headrace_now() - make_interval(secs => :threshold_seconds * pace.factor)
      and not exists (select from outbox where outbox.job_id = job.id and outbox.published_at is null)
    order by greatest(last_rung_at, next_attempt_at) limit :limit for update skip locked) pick
  limit :limit
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
-- The summary, for people and for the next run; when it began is told by the clock that asks how long ago that was.
insert into recover_runs (started_at, summary)
values (headrace_now() - make_interval(secs => :lasted_seconds::double precision), :summary)

-- name: last_done
-- When a duty was last done or failed half-way, and where it stopped. A run of the future tells of a clock that was
-- wrong, not of what was done.
select extract(epoch from headrace_now() - started_at)::double precision as seconds_ago,
       summary -> 'cursors' -> :duty::text as cursor
from recover_runs
where started_at > headrace_now() - interval '1 day' and started_at <= headrace_now()
  and (summary -> 'duties' ? :duty::text or summary -> 'cursors' ? :duty::text)
order by started_at desc limit 1

-- name: queue_figures
-- A lane's pending and due jobs, counted up to a cap: entries of one index, however long the queue is. What waits for
-- its time is parked; of those that became due since, few are not woken yet.
select count(*) as pending,
  count(*) filter (where not parked) + (select count(*) filter (where lane = :lane) from (
    -- Without the lane, which would lead Postgres to another index, and from there to every row that is parked.
    select lane from document_processing_jobs
    where status = 'pending' and parked and next_attempt_at <= headrace_now()
    order by next_attempt_at limit :cap) woken) as due
from (select parked from document_processing_jobs where status = 'pending' and lane = :lane limit :cap) counted

-- name: estimate_pending
-- Never run, only planned: how many rows Postgres expects.
select from document_processing_jobs where status = 'pending' and lane = :lane

-- name: estimate_due
-- Never run, only planned: how many rows Postgres expects.
select from document_processing_jobs where status = 'pending' and lane = :lane and not parked

-- name: outbox_lag
-- Age of the oldest row that is still to be published.
select coalesce(extract(epoch from headrace_now() - least(
    (select min(created_at) from outbox where published_at is null),
    (select min(occurred_at) from job_events where published_at is null))), 0)::double precision

-- name: oldest_due
-- Of the jobs that are due longest, by lane: how long the first has waited, and how many wait for too long.
select lane, extract(epoch from headrace_now() - min(next_attempt_at))::double precision as seconds,
  count(*) filter (where next_attempt_at < headrace_now() - make_interval(secs => :overdue_seconds)) as overdue
from (
  select lane, next_attempt_at from document_processing_jobs
  where status = 'pending' and next_attempt_at <= headrace_now() order by next_attempt_at limit :limit) oldest
group by lane

-- name: lane_is_worked
-- Whether a job of this lane was taken lately, whatever became of it.
select exists (
  select from document_processing_jobs
  where status in ('processing', 'completed', 'failed', 'cancelled') and lane = :lane
    and updated_at > headrace_now() - make_interval(secs => :seconds) and claimed_at is not null
) or exists (
  select from (
    select lane, claimed_at from document_processing_jobs
    where status = 'pending' and updated_at > headrace_now() - make_interval(secs => :seconds)
    order by updated_at desc limit 5000) back
  where lane = :lane and claimed_at > clock_timestamp() - make_interval(secs => :seconds))

-- name: silent
-- Jobs whose lease ended so long ago that a run should have rescued them.
select count(*) from (
  select from document_processing_jobs
  where status = 'processing' and lease_until < headrace_now() - make_interval(secs => :seconds) limit :cap) silent

-- name: open_letters
-- Dead letters that wait for a decision.
select count(*) from (select from dead_letters where state = 'open' limit :cap) waiting
