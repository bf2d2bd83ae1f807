-- Embedding spaces: which is searched, which are filled, what is missing in them.

-- name: add_space
-- The id of a space; made with its partition and index when it is new. The first one of all is active.
select headrace_add_space(:key, :model, :dimensions, :metric, :task_type, :version)

-- name: find_space
-- A space, if there is such a row.
select id, state from embedding_spaces where key = :key

-- name: active_space
-- The one that is searched.
select id, key from embedding_spaces where state = 'active'

-- name: space_exists
-- Whether a space was not dropped.
select exists (select from embedding_spaces where id = :space_id::smallint)

-- name: hold_active_space
-- Whoever makes passages visible holds this: the searched space does not change before the commit.
select pg_advisory_xact_lock_shared(hashtext('headrace_active_space'))

-- name: hold_switch
-- Nobody makes passages visible, switches or drops until this transaction ends; those who had begun have committed.
select pg_advisory_xact_lock(hashtext('headrace_active_space'))

-- name: wanted_spaces
-- Where new text goes.
select key, state from embedding_spaces where state in ('active', 'filling') order by id

-- name: list_spaces
-- With the number of vectors, as the statistics say.
select s.*, greatest(part.reltuples, 0)::bigint as vectors
from embedding_spaces s left join pg_class part on part.oid = to_regclass('embeddings_' || s.id)
order by s.id

-- name: fill_tasks
-- Of each space and organization, the newest task that fills it.
select entity_id as key, status, count(*) as tasks, sum(progress_done)::bigint as done,
  sum(coalesce(progress_total, 0))::bigint as total
from (
  select distinct on (entity_id, organization_id) * from document_processing_jobs
  where document_id is null and job_type = 'embedding_generation' and entity_type = 'space'
  order by entity_id, organization_id, created_at desc) newest
group by 1, 2

-- name: refill_space
-- A space that was left behind is written to again.
update embedding_spaces set state = 'filling' where id = :space_id and state = 'retired'

-- name: organizations
-- Stepping through the index, so that the cost grows with organizations, not with documents.
with recursive found as (
  (select organization_id from documents order by organization_id limit 1)
  union all
  select (select next.organization_id from documents next
          where next.organization_id > found.organization_id order by next.organization_id limit 1)
  from found where found.organization_id is not null
)
select organization_id from found where organization_id is not null and exists (
  select from documents d where d.organization_id = found.organization_id and d.live_job_id is not null)

-- name: count_texts
-- A stretch of an organization's texts, each once: where it ends, how many there are, how many of them can be found, and
-- how many of those have no vector in the space. Stepping through the index, so that a statement's cost is bounded.
with recursive texts as (
  (select text_hash, 1 as place from chunks
   where organization_id = :organization_id and text_hash > :after order by text_hash limit 1)
  union all
  select (select next.text_hash from chunks next
          where next.organization_id = :organization_id and next.text_hash > texts.text_hash
          order by next.text_hash limit 1), texts.place + 1
  from texts where texts.text_hash is not null and texts.place < :limit
), looked_at as materialized (
  -- Not `exists`: Postgres would answer that for all texts at once where it takes them for few.
  select text_hash, place, (
      select true from chunks c join documents d on d.live_job_id = c.job_id
      where c.organization_id = :organization_id and c.text_hash = texts.text_hash limit 1) as is_shown, (
      select true from embeddings e
      where e.space_id = :space_id::smallint and e.organization_id = :organization_id
        and e.text_hash = texts.text_hash) as has_vector
  from texts where text_hash is not null
)
select count(*) as seen, count(*) filter (where is_shown) as texts,
  count(*) filter (where is_shown and has_vector is null) as missing,
  (select text_hash from looked_at order by place desc limit 1) as last
from looked_at

-- name: missing_texts
-- The same stretch, by hash: the order in which a successor goes on. With their text those that can be found and have no
-- vector.
with recursive texts as (
  (select text_hash, 1 as place from chunks
   where organization_id = :organization_id and text_hash > :after order by text_hash limit 1)
  union all
  select (select next.text_hash from chunks next
          where next.organization_id = :organization_id and next.text_hash > texts.text_hash
          order by next.text_hash limit 1), texts.place + 1
  from texts where texts.text_hash is not null and texts.place < :limit
)
select text_hash, case when (
    select true from embeddings e
    where e.space_id = :space_id::smallint and e.organization_id = :organization_id and e.text_hash = texts.text_hash
  ) is null then (
    select c.text from chunks c join documents d on d.live_job_id = c.job_id
    where c.organization_id = :organization_id and c.text_hash = texts.text_hash limit 1) end as text
from texts where text_hash is not null order by place

-- name: gaps_in_page
-- A stretch of documents: where it ends, and how many of their passages have no vector in the space.
with page as materialized (
  select id, live_job_id from documents
  where live_job_id is not null and id > :after order by id limit :limit
)
select (select id from page order by id desc limit 1) as last, (
  select count(*) from page join chunks c on c.job_id = page.live_job_id
  where not exists (
    select from embeddings e
    where e.space_id = :space_id::smallint and e.organization_id = c.organization_id
      and e.text_hash = c.text_hash)) as gaps

-- name: gaps_since
-- The same, of documents that were changed since a moment. Those first: that hardly any passage lacks a vector is no
-- reason to begin with all of them.
with changed as materialized (
  select live_job_id from documents where live_job_id is not null and updated_at >= :since
)
select count(*) from changed join chunks c on c.job_id = changed.live_job_id
where not exists (
  select from embeddings e
  where e.space_id = :space_id::smallint and e.organization_id = c.organization_id and e.text_hash = c.text_hash)

-- name: moment
-- By the clock of `documents.updated_at`.
select headrace_now()

-- name: retire_active
-- First half of the switch.
update embedding_spaces set state = 'retired' where state = 'active'

-- name: activate
-- Second half.
update embedding_spaces set state = 'active', activated_at = headrace_now() where id = :space_id

-- name: unfinished_fills
-- What would write into a space that goes.
select id from document_processing_jobs
where document_id is null and job_type = 'embedding_generation' and entity_type = 'space' and entity_id = :key
  and status in ('pending', 'processing')
for update

-- name: wait_briefly
-- Whoever stands behind the lock that is asked for here waits no longer than this.
select set_config('lock_timeout', '2s', true)

-- name: drop_space
-- Partition, index, claims and row.
select headrace_drop_space(:space_id::smallint)

-- name: sample_vectors
-- Texts of anybody that have a vector in both spaces and can be found, spread over all hashes.
select picked.organization_id, picked.text_hash from (
  select decode(md5(n::text), 'hex') as start from generate_series(1, :sample::int) n) probe
cross join lateral (
  select one.organization_id, one.text_hash from embeddings one
  where one.space_id = :one::smallint and one.organization_id = :organization_id and one.text_hash >= probe.start
    and exists (
      select from embeddings other where other.space_id = :other::smallint
        and other.organization_id = one.organization_id and other.text_hash = one.text_hash)
    and exists (
      select from chunks c join documents d on d.live_job_id = c.job_id
      where c.organization_id = one.organization_id and c.text_hash = one.text_hash)
  order by one.text_hash limit 1) picked
group by 1, 2

-- name: neighbours
-- The texts nearest to a stored one within its organization, itself left out.
select e.text_hash from embeddings e
where e.space_id = {space_id} and e.organization_id = :organization_id and e.text_hash <> :text_hash
  and exists (
    select from chunks c join documents d on d.live_job_id = c.job_id
    where c.organization_id = e.organization_id and c.text_hash = e.text_hash)
order by e.embedding::halfvec({dimensions}) <=> (
  select own.embedding::halfvec({dimensions}) from embeddings own
  where own.space_id = {space_id} and own.organization_id = :organization_id and own.text_hash = :text_hash)
limit :nearest
