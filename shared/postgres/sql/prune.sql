-- What is old enough to go, found through indexes and removed in batches.

-- name: prune_outbox
-- Bells and dead letters that were published long ago.
delete from outbox where id = any (array(
  select id from outbox
  where published_at < headrace_now() - make_interval(days => :keep_days)
  order by published_at limit :limit for update skip locked))

-- name: prune_ledger
-- Lines of the ledger that were published long ago.
delete from job_events where ctid = any (array(
  select ctid from job_events
  where published_at < headrace_now() - make_interval(days => :keep_days)
  order by published_at limit :limit for update skip locked))

-- name: prune_runs
-- Summaries of old runs, and of those that a wrong clock put into the future.
delete from recover_runs where id = any (array(
  select id from (
    select id from (
      select id from recover_runs
      where started_at < headrace_now() - make_interval(days => :keep_days)
      order by started_at limit :limit for update skip locked) old
    union all
    select id from (
      select id from recover_runs
      where started_at > headrace_now() + interval '1 day'
      order by started_at limit :limit for update skip locked) ahead) gone
  limit :limit))

-- name: prune_letters
-- Dead letters that ended long ago, with the replays they had; one that is open or on its way never goes.
delete from dead_letters where id = any (array(
  select id from dead_letters
  where state in ('resolved', 'discarded')
    and resolved_at < headrace_now() - make_interval(days => :keep_days)
  order by resolved_at limit :limit for update skip locked))

-- name: prune_replays
-- Batches that ended long ago, with what became of their letters, unless an outcome is still waited for.
delete from replay_batches where id = any (array(
  select id from replay_batches b
  where state in ('done', 'stopped') and ended_at < headrace_now() - make_interval(days => :keep_days)
    and not exists (select from replays r where r.batch_id = b.id and r.state in ('staged', 'sent'))
  order by ended_at limit :limit for update skip locked))

-- name: prune_claims
-- Claims on texts that are worth nothing any more: their job has ended, or was begun anew.
delete from embedding_claims where ctid = any (array(
  select claim.ctid from embedding_claims claim
  where not exists (
    select from document_processing_jobs holder
    where holder.id = claim.job_id and holder.lease_epoch = claim.lease_epoch and holder.status = 'processing')
  limit :limit for update skip locked))

-- name: page_vectors
-- A page of vectors in the order of their key, and which of them nobody seems to need any more.
select page.space_id, page.organization_id, page.text_hash,
  page.created_at < headrace_now() - make_interval(hours => :keep_hours) and (
    -- Not `exists`: that would be answered by reading all chunks into a table of hashes.
    select true from chunks c
    where c.organization_id = page.organization_id and c.text_hash = page.text_hash limit 1) is null as unused
from (
  select space_id, organization_id, text_hash, created_at from embeddings
  where (space_id, organization_id, text_hash) > (:space_id::smallint, :organization_id::text, :text_hash::bytea)
  order by space_id, organization_id, text_hash limit :limit) page
order by page.space_id, page.organization_id, page.text_hash

-- name: wait_briefly
-- Whoever stands behind a lock that is asked for here waits no longer than this.
select set_config('lock_timeout', '2s', true)

-- name: hold_vectors
-- Nobody adds chunks or vectors until the end of this transaction.
select pg_advisory_xact_lock(hashtext('headrace_vectors'))

-- name: prune_vectors
-- Asked again now that nobody can begin to need them.
delete from embeddings e
using unnest(:space_ids::smallint[], :organization_ids::text[], :text_hashes::bytea[])
  as gone (space_id, organization_id, text_hash)
where e.space_id = gone.space_id and e.organization_id = gone.organization_id and e.text_hash = gone.text_hash
  and not exists (select from chunks c where c.organization_id = e.organization_id and c.text_hash = e.text_hash)

-- name: lock_gone_jobs
-- Jobs that ended, with nothing left to publish, of documents whose object went long ago. The document is locked too, so
-- that nobody decides on it meanwhile.
select job.id from documents d
join document_processing_jobs job on job.document_id = d.id
where d.deleted_at < headrace_now() - make_interval(days => :keep_days)
  and job.status in ('completed', 'failed', 'cancelled')
  and not exists (select from job_events e where e.job_id = job.id and e.published_at is null)
order by d.deleted_at limit :limit for update of d, job skip locked

-- name: close_letters
-- Their dead letters stay for people to read, but there is nothing left to replay.
update dead_letters set state = 'discarded', resolved_at = headrace_now()
where state in ('open', 'replaying') and job_id = any (:job_ids::uuid[])

-- name: drop_jobs
-- The jobs themselves, with ledger.
delete from document_processing_jobs where id = any (:job_ids::uuid[])

-- name: prune_documents
-- Documents whose object went long ago, once the last of their jobs has gone.
delete from documents where id = any (array(
  select d.id from documents d
  where d.deleted_at < headrace_now() - make_interval(days => :keep_days)
    and not exists (select from document_processing_jobs job where job.document_id = d.id)
  order by d.deleted_at limit :limit for update of d skip locked))
