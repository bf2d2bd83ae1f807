-- Search. Only chunks of a document's live job are seen. `{space_id}` and `{dimensions}` are integers from the database,
-- written into the text because a partition and an index expression cannot be parameters.

-- name: search
-- Candidates by vector and by words; both scores for all of them; fused as weighted z-scores (docs/adr/0025).
with question as (
  -- Any word may match (a question holds words that its answer does not); `ts_rank` prefers passages with many of them.
  -- Cover density (`ts_rank_cd`) would not: where any word is enough, a word that is repeated counts like many words.
  select :vector::halfvec({dimensions}) as vector,
         replace(plainto_tsquery('english', :text)::text, '&', '|')::tsquery as words
), eligible as not materialized (
  select c.job_id, c.ordinal, e.embedding::halfvec({dimensions}) <=> (select vector from question) as distance
  from embeddings e
  join chunks c on c.organization_id = e.organization_id and c.text_hash = e.text_hash
  join documents d on d.live_job_id = c.job_id
  where e.space_id = {space_id} and e.organization_id = :organization_id
    and (:name_prefix::text is null or starts_with(d.name, :name_prefix))
    and (cardinality(:media_types::text[]) = 0 or d.media_type = any (:media_types::text[]))
), near as materialized (
  select job_id, ordinal from eligible order by distance limit :candidates
), compared as materialized (
  -- The index gives up after `hnsw.max_scan_tuples` rows that another organization, a deleted file or a folder that was
  -- not asked for keeps out. Then whatever is eligible is compared: nothing orders by `distance + 0` but a sort.
  select job_id, ordinal from eligible where (select count(*) from near) < :limit
  order by distance + 0
  limit :candidates
), worded as materialized (
  select w.job_id, w.ordinal
  from question, headrace_worded(question.words, :name_prefix::text, :media_types::text[], :candidates) w
), scored as (
  select c.*, d.bucket, d.name, d.indexed_generation, d.media_type,
         1 - (e.embedding::halfvec({dimensions}) <=> question.vector) as vector_score,
         ts_rank(c.fts, question.words)::double precision as text_score
  from (select * from near union select * from compared union select * from worded) pool
  cross join question
  join chunks c on c.job_id = pool.job_id and c.ordinal = pool.ordinal
  join documents d on d.live_job_id = c.job_id
  join embeddings e
    on e.space_id = {space_id} and e.organization_id = c.organization_id and e.text_hash = c.text_hash
)
select document_id, bucket, name, indexed_generation, media_type, ordinal, text, locator, vector_score, text_score,
  :vector_weight::double precision
    * coalesce((vector_score - avg(vector_score) over ()) / nullif(stddev_pop(vector_score) over (), 0), 0)
  + (1 - :vector_weight::double precision)
    * coalesce((text_score - avg(text_score) over ()) / nullif(stddev_pop(text_score) over (), 0), 0) as score
from scored
order by score desc, vector_score desc, document_id, ordinal
limit :limit
