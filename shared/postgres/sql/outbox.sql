-- What is committed and still to be told to the broker.

-- name: unsent_bells
-- Bells and dead letters, oldest first; rows that another sender holds are skipped.
select id, topic, attributes, body, data from outbox
where published_at is null and (:job_id::uuid is null or job_id = :job_id)
  and created_at <= headrace_now() - make_interval(secs => :older_than_seconds)
order by id limit :limit for update skip locked

-- name: mark_bells
-- Stored by the broker.
update outbox set published_at = headrace_now() where id = any (:ids::bigint[])

-- name: jobs_with_unsent_events
-- Jobs whose ledger has lines that were not published, those that wait longest first.
select job_id from (
  -- The oldest lines only: a broker that was away leaves very many, and each round would read them all.
  select job_id, occurred_at from job_events
  where published_at is null and occurred_at <= headrace_now() - make_interval(secs => :older_than_seconds)
  order by occurred_at, job_id limit 4 * :limit) oldest
group by job_id order by min(occurred_at) limit :limit

-- name: lock_events_of_job
-- One sender per job at a time; false when somebody else is at it.
select pg_try_advisory_xact_lock(hashtextextended('events:' || :job_id::text, 0))

-- name: unsent_events
-- In order, with what a stage event says of its job.
select e.job_id, e.seq, e.organization_id, e.attempt, e.status, e.stage, e.occurred_at, e.detail,
       j.file_path, j.generation, j.trace_parent
from job_events e join document_processing_jobs j on j.id = e.job_id
where e.job_id = :job_id and e.published_at is null
order by e.seq limit 100

-- name: mark_events
-- Stored by the broker, up to this line.
update job_events set published_at = headrace_now()
where job_id = :job_id and seq <= :seq and published_at is null

-- name: ring_due
-- A bell for each job that became due since its last one; the claim sees it from now on.
with due as (
  select id, lane, trace_parent, quarantined from document_processing_jobs
  where status = 'pending' and next_attempt_at <= headrace_now()
    and (last_rung_at is null or last_rung_at < next_attempt_at)
  order by next_attempt_at limit :limit for update skip locked
), rung as (
  update document_processing_jobs job set last_rung_at = headrace_now(), ring_count = 0, parked = false
  from due where job.id = due.id
)
select id, lane, trace_parent, quarantined from due

-- name: forget_bells
-- The broker started empty: whatever was rung, nobody will hear it.
update document_processing_jobs set last_rung_at = null where status = 'pending' and last_rung_at is not null
