-- The queue, as workers use it. Every write of a worker locks document, then job, and checks the lease (jobs.py).

-- name: claim_job
-- The lane's best due job: priority, then the tenant served longest ago, then age. Tenants that wait are found by
-- skipping through the queue's index, so that the cost grows with tenants, not with jobs; those that wait for their
-- time are parked behind the others, so that the head of a tenant's range is always due.
with recursive tenants as (
  (select organization_id from document_processing_jobs
   where status = 'pending' and lane = :lane and quarantined = :quarantined
   order by organization_id limit 1)
  union all
  select (select next.organization_id from document_processing_jobs next
          where next.status = 'pending' and next.lane = :lane and next.quarantined = :quarantined
            and next.organization_id > tenants.organization_id
          order by next.organization_id limit 1)
  from tenants where tenants.organization_id is not null
), ranked as materialized (
  select tenants.organization_id
  from tenants
  cross join lateral (
    select job.priority, job.created_at from document_processing_jobs job
    where job.status = 'pending' and job.lane = :lane and job.quarantined = :quarantined
      and job.organization_id = tenants.organization_id and not job.parked and job.next_attempt_at <= headrace_now()
    order by job.priority desc, job.created_at, job.id limit 1) best
  left join lateral (
    select served.claimed_at from document_processing_jobs served
    where served.organization_id = tenants.organization_id and served.claimed_at is not null
    order by served.claimed_at desc limit 1) turn on true
  order by best.priority desc, turn.claimed_at nulls first, best.created_at
), chosen as (
  select pick.id from ranked
  cross join lateral (
    select job.id from document_processing_jobs job
    where job.status = 'pending' and job.lane = :lane and job.quarantined = :quarantined
      and job.organization_id = ranked.organization_id and not job.parked and job.next_attempt_at <= headrace_now()
    order by job.priority desc, job.created_at, job.id limit 1
    for update skip locked) pick
  limit 1
)
update document_processing_jobs job set
  status = 'processing', processing_stage = 'downloading', attempts = job.attempts + 1,
  lease_owner = :worker, lease_epoch = job.lease_epoch + 1,
  lease_until = headrace_now() + make_interval(secs => :lease_seconds),
  claimed_at = clock_timestamp(), started_at = coalesce(job.started_at, headrace_now()),
  deferred_reason = null, updated_at = headrace_now()
from chosen where job.id = chosen.id
returning job.*

-- name: wake_parked
-- Jobs whose time came and for which nobody has rung yet.
with due as (
  select id from document_processing_jobs
  where status = 'pending' and parked and next_attempt_at <= headrace_now()
  order by next_attempt_at limit :limit for update skip locked
)
update document_processing_jobs job set parked = false from due where job.id = due.id

-- name: renew_lease
-- Heartbeat: one row, no other lock.
update document_processing_jobs set lease_until = headrace_now() + make_interval(secs => :lease_seconds)
where id = :job_id and lease_epoch = :epoch and status = 'processing'

-- name: lock_document
-- First lock of every fenced write.
select * from documents where id = :document_id for update

-- name: lock_job
-- Second lock of every fenced write.
select * from document_processing_jobs where id = :job_id for update

-- name: enter_stage
-- Forward only; entering the present stage again changes nothing.
update document_processing_jobs set processing_stage = :stage, updated_at = headrace_now()
where id = :job_id and lease_epoch = :epoch and status = 'processing'
  and array_position(array['downloading', 'processing', 'embedding', 'storing'], :stage::text)
    > array_position(array['downloading', 'processing', 'embedding', 'storing'], processing_stage)

-- name: describe_job
-- What was downloaded; what comes next is reading it.
update document_processing_jobs set
  media_type = :media_type, content_sha256 = :content_sha256, updated_at = headrace_now(),
  processing_stage = case when processing_stage = 'downloading' then 'processing' else processing_stage end
where id = :job_id

-- name: add_chunks
-- A batch of chunks, invisible until the swap. Deterministic, so a repeated batch changes nothing.
insert into chunks (job_id, document_id, organization_id, ordinal, text, locator, text_hash)
select :job_id, :document_id, :organization_id, c.ordinal, c.text, c.locator::jsonb, c.text_hash
from unnest(:ordinals::int[], :texts::text[], :locators::text[], :hashes::bytea[])
  as c (ordinal, text, locator, text_hash)
on conflict (job_id, ordinal) do nothing

-- name: save_checkpoint
-- Where a successor goes on, and the stage the committed work belongs to; after the last batch, the next one. A new
-- place proves that the job gets somewhere: neither its rescues nor its waiting so far count against it.
update document_processing_jobs set
  checkpoint = :checkpoint, progress_done = :done, progress_unit = :unit, updated_at = headrace_now(),
  stalled_rescues = case when checkpoint is distinct from :checkpoint then 0 else stalled_rescues end,
  deferred_since = case when checkpoint is distinct from :checkpoint then null else deferred_since end,
  processing_stage = case
    when :extracted and processing_stage in ('downloading', 'processing') then 'embedding'
    when processing_stage = 'downloading' then 'processing'
    else processing_stage end
where id = :job_id

-- name: unembedded
-- Texts of this job without a vector in the space, each once, in reading order.
select text_hash, text from (
  select distinct on (c.text_hash) c.text_hash, c.text, c.ordinal
  from chunks c
  where c.job_id = :job_id and not exists (
    select from embeddings e
    where e.space_id = :space_id and e.organization_id = c.organization_id and e.text_hash = c.text_hash)
  order by c.text_hash, c.ordinal) missing
order by ordinal limit :limit

-- name: claim_texts
-- Of these texts, those that this job is to send to the model: they have no vector, and nobody else has claimed them
-- under a lease that still holds. In one order everywhere, so that two claims do not wait for each other crosswise.
insert into embedding_claims as claim (space_id, organization_id, text_hash, job_id, lease_epoch)
select :space_id, own.organization_id, wanted.text_hash, own.id, own.lease_epoch
from document_processing_jobs own cross join unnest(:hashes::bytea[]) as wanted (text_hash)
where own.id = :job_id and own.lease_epoch = :epoch and own.status = 'processing' and not exists (
  select from embeddings e
  where e.space_id = :space_id and e.organization_id = own.organization_id and e.text_hash = wanted.text_hash)
order by wanted.text_hash
on conflict (space_id, organization_id, text_hash) do update
  set job_id = excluded.job_id, lease_epoch = excluded.lease_epoch
  where claim.job_id = excluded.job_id or not exists (
    select from document_processing_jobs holder
    where holder.id = claim.job_id and holder.lease_epoch = claim.lease_epoch and holder.status = 'processing'
      and holder.lease_until > headrace_now())
returning text_hash

-- name: forget_claims
-- Every text of this job has its vector.
delete from embedding_claims where job_id = :job_id

-- name: add_embeddings
-- A text that has a vector keeps it.
insert into embeddings (space_id, organization_id, text_hash, embedding)
select :space_id, :organization_id, v.text_hash, v.embedding
from unnest(:hashes::bytea[], :vectors::halfvec[]) as v (text_hash, embedding)
order by v.text_hash -- in one order everywhere: two jobs with the same texts must not wait for each other crosswise
on conflict (space_id, organization_id, text_hash) do nothing

-- name: count_model_use
-- Tokens, calls and money of one batch, and the stage it belongs to; new vectors prove that the job gets somewhere.
update document_processing_jobs set
  tokens_used = tokens_used + :tokens, model_calls = model_calls + :calls, cost_micros = cost_micros + :cost_micros,
  progress_done = progress_done + :done, updated_at = headrace_now(),
  stalled_rescues = case when :new_vectors::int > 0 then 0 else stalled_rescues end,
  deferred_since = case when :new_vectors::int > 0 then null else deferred_since end,
  processing_stage = case when processing_stage in ('downloading', 'processing') then 'embedding'
                          else processing_stage end
where id = :job_id

-- name: count_pages
-- What a model that reads pages was asked and has cost; part of what the job costs in all.
update document_processing_jobs set
  pages_read = coalesce(pages_read, 0) + :pages, page_tokens = page_tokens + :tokens,
  page_cost_micros = page_cost_micros + :cost_micros, tokens_used = tokens_used + :tokens,
  model_calls = model_calls + :calls, cost_micros = cost_micros + :cost_micros, updated_at = headrace_now()
where id = :job_id

-- name: chunk_counts
-- All chunks of a job, and those without a vector in the space.
select count(*) as chunks, count(*) filter (where e.text_hash is null) as unembedded
from chunks c
left join embeddings e
  on e.space_id = :space_id and e.organization_id = c.organization_id and e.text_hash = c.text_hash
where c.job_id = :job_id

-- name: show_chunks
-- The swap: this job's chunks become the document's.
update documents set
  live_job_id = :job_id, indexed_generation = :generation, indexed_size_bytes = :size_bytes,
  indexed_crc32c = :crc32c, indexed_md5 = :md5, media_type = :media_type, supersessions = 0,
  updated_at = headrace_now()
where id = :document_id

-- name: drop_other_chunks
-- Chunks of jobs that have ended and are not the given one.
delete from chunks using document_processing_jobs job
where chunks.document_id = :document_id and chunks.job_id <> :job_id
  and job.id = chunks.job_id and job.status not in ('pending', 'processing')

-- name: complete_job
-- The end of the road.
update document_processing_jobs set
  status = 'completed', processing_stage = 'completed', lease_owner = null, lease_until = null, checkpoint = null,
  progress_done = :chunks, progress_total = :chunks, progress_unit = 'chunks', quarantined = false,
  result = :result, error_code = null, error_message = null, deferred_since = null,
  tokens_saved = :tokens_saved, cost_saved_micros = :cost_saved_micros,
  completed_at = headrace_now(), updated_at = headrace_now()
where id = :job_id

-- name: cancel_outrun
-- Older work that was still allowed to finish has been overtaken: all of it, or what was decided on up to a revision.
update document_processing_jobs set
  status = 'cancelled', error_code = 'SUPERSEDED', error_message = :message, checkpoint = null, deferred_reason = null,
  lease_owner = null, lease_until = null, completed_at = headrace_now(), updated_at = headrace_now()
where document_id = :document_id and id <> :job_id and may_finish and status in ('pending', 'processing')
  and (:up_to_revision::bigint is null or document_revision <= :up_to_revision)

-- name: resolve_dead_letters
-- The effect resolves the letters of the file: all, or those of versions that were decided on up to a revision.
update dead_letters set state = 'resolved', resolved_at = headrace_now()
from document_processing_jobs job
where job.document_id = :document_id and dead_letters.job_id = job.id and dead_letters.state in ('open', 'replaying')
  and (:up_to_revision::bigint is null or job.document_revision <= :up_to_revision)

-- name: fail_job
-- The end without success; the code and the sentence are for people.
update document_processing_jobs set
  status = 'failed', processing_stage = 'failed', lease_owner = null, lease_until = null, checkpoint = null,
  error_code = :code, error_message = :message,
  error_context = jsonb_build_object('stage', processing_stage, 'attempt', attempts),
  completed_at = headrace_now(), updated_at = headrace_now()
where id = :job_id

-- name: withdraw_chunks
-- The live generation could not be indexed: what an older one said is no longer found.
update documents set
  live_job_id = null, indexed_generation = null, indexed_size_bytes = null, indexed_crc32c = null, indexed_md5 = null,
  updated_at = headrace_now()
where id = :document_id

-- name: drop_chunks_of_job
-- Partial work of a job that has ended.
delete from chunks where job_id = :job_id

-- name: drop_chunks_of_document
-- Everything that was found of a document.
delete from chunks where document_id = :document_id

-- name: add_dead_letter
-- One row per failed job; failing again reopens it and raises its count.
insert into dead_letters (id, identity, origin, organization_id, job_id, code, message, stage)
values (:id, :identity, 'job', :organization_id, :job_id, :code, :message, :stage)
on conflict (identity) do update set
  state = 'open', failures = dead_letters.failures + 1, last_seen_at = headrace_now(), resolved_at = null,
  resolution = null, code = excluded.code, message = excluded.message, stage = excluded.stage
returning id

-- name: requeue_job
-- Back to pending, for a retry, a deferral or a shutdown; `refund` gives the attempt back, `counts` says whether it
-- is remembered since when the job waits for this reason.
update document_processing_jobs set
  status = 'pending', processing_stage = 'pending', lease_owner = null, lease_until = null,
  attempts = greatest(attempts - :refund::int, 0),
  next_attempt_at = headrace_now() + make_interval(secs => :delay_seconds),
  error_code = coalesce(:code, error_code), error_message = coalesce(:message, error_message),
  deferred_reason = :deferred_reason,
  -- Handing a job back at a shutdown says nothing about how long it has been waiting; nor do days without a budget.
  deferred_since = case when :deferred_reason::text = 'BUDGET_EXHAUSTED' then null
                        when :counts::boolean and error_code is distinct from :code then headrace_now()
                        when :counts::boolean then coalesce(deferred_since, headrace_now())
                        when :refund::int > 0 then deferred_since end,
  -- A refunded attempt has proved nothing about the job; a charged one ended without killing its worker.
  quarantined = quarantined and :refund::int > 0,
  last_rung_at = case when :rung then headrace_now() else last_rung_at end,
  updated_at = headrace_now()
where id = :job_id

-- name: deferred_too_long
-- Whether the bound on waiting for one reason is reached.
select coalesce(error_code = :code and deferred_since < headrace_now() - make_interval(hours => :hours), false)
from document_processing_jobs where id = :job_id

-- name: any_completed
-- Whether the queue gets on: the last job that was completed was so within the last hours.
select coalesce((
  select updated_at from document_processing_jobs where status = 'completed' order by updated_at desc limit 1
) > headrace_now() - make_interval(hours => :hours), false)

-- name: cancel_job
-- Keeps its last stage. Its chunks go with it, so nothing is left to go on from.
update document_processing_jobs set
  status = 'cancelled', lease_owner = null, lease_until = null, checkpoint = null, deferred_reason = null,
  error_code = :code, error_message = :message,
  completed_at = headrace_now(), updated_at = headrace_now()
where id = :job_id

-- name: add_outbox
-- Something to publish once this transaction is committed.
insert into outbox (topic, job_id, attributes, body) values (:topic, :job_id, :attributes, :body)
