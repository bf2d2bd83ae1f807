-- What is committed and still to be told to the broker.

-- name: topics_with_unsent
-- The topics that have something waiting, one step through the index for each.
with recursive waiting as (
  (select topic from outbox where published_at is null order by topic limit 1)
  union all
  select (select topic from outbox o where published_at is null and o.topic > waiting.topic order by topic limit 1)
  from waiting where waiting.topic is not null
)
select topic from waiting where topic is not null

-- name: unsent_of_topic
-- What waits for one topic, oldest first, as much as fits (one always does); rows that another sender holds are skipped.
with held as materialized (
  select id, coalesce(octet_length(data), pg_column_size(body)) + pg_column_size(attributes) as bytes from outbox
  where published_at is null and topic = :topic
    and created_at <= headrace_now() - make_interval(secs => :older_than_seconds)
  order by id limit :limit for update skip locked
), summed as (
  select id, bytes, sum(bytes) over (order by id) as up_to from held
)
select o.id, o.topic, o.attributes, o.body, o.data from summed join outbox o on o.id = summed.id
where summed.up_to <= :limit_bytes or summed.up_to = summed.bytes
order by o.id

-- name: unsent_of_job
-- One job's bells and dead letters, a few small rows.
select id, topic, attributes, body, data from outbox
where published_at is null and job_id = :job_id
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

-- name: hold_events
-- One sender per job at a time: those of these jobs that nobody else is at.
select job_id from unnest(:job_ids::uuid[]) with ordinality as waiting (job_id, place)
where pg_try_advisory_xact_lock(hashtextextended('events:' || job_id::text, 0))
order by place

-- name: unsent_events
-- Job by job and in order, with what a stage event says of its job. Asked once the jobs are held: what a sender before
-- us has marked is seen.
select e.job_id, e.seq, e.organization_id, e.attempt, e.status, e.stage, e.occurred_at, e.detail,
       j.file_path, j.generation, j.trace_parent
from unnest(:job_ids::uuid[]) with ordinality as held (job_id, place)
join job_events e on e.job_id = held.job_id join document_processing_jobs j on j.id = held.job_id
where e.published_at is null
order by held.place, e.seq limit :limit

-- name: mark_events
-- Stored by the broker, up to these lines.
update job_events e set published_at = headrace_now()
from unnest(:job_ids::uuid[], :seqs::bigint[]) as told (job_id, seq)
where e.job_id = told.job_id and e.seq <= told.seq and e.published_at is null

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
