-- What an import would take: what is known of objects, and of files of their kinds.

-- name: indexed_objects
-- Of these names, those that are indexed, with what tells whether the bytes are still the same.
select name, indexed_size_bytes, indexed_crc32c, indexed_md5 from documents
where bucket = :bucket and name = any (:names::text[]) and live_job_id is not null

-- name: tokens_per_byte
-- Of the newest files, by the end of their names; kinds of which there are few say nothing.
select kind, sum(tokens) / sum(size_bytes) as ratio from (
  select coalesce(lower(substring(name from '\.[^./]{1,7}$')), '') as kind,
    (tokens_used - page_tokens + tokens_saved)::double precision as tokens, size_bytes
  from document_processing_jobs
  where status = 'completed' and job_type = 'document_processing' and size_bytes > 0
    and tokens_used - page_tokens + tokens_saved > 0
  order by updated_at desc limit :newest) files
group by kind having count(*) >= :at_least

-- name: pages_per_byte
-- Of the newest files that went past a model that reads pages: how many it read, and what that cost.
select kind, sum(pages_read) as pages, sum(page_cost_micros)::double precision as micros,
  sum(pages_read)::double precision / sum(size_bytes) as ratio, count(*) as files
from (
  select coalesce(lower(substring(name from '\.[^./]{1,7}$')), '') as kind, pages_read, page_cost_micros, size_bytes
  from document_processing_jobs
  where status = 'completed' and job_type = 'document_processing' and size_bytes > 0 and pages_read is not null
  order by updated_at desc limit :newest) files
group by kind
