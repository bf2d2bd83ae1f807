-- Failures that can be listed, grouped, discarded and replayed (replays.sql).

-- name: record_message
-- One row per message; the same one again raises its count.
insert into dead_letters
  (id, identity, origin, organization_id, subscription, message_id, published_at, last_published_at, body, attributes,
   code, message)
values (:id, :identity, 'message', :organization_id, :subscription, :message_id, :published_at, :published_at, :body,
        :attributes, :code, :message)
on conflict (identity) do update set
  state = 'open', failures = dead_letters.failures + 1, last_seen_at = headrace_now(), resolved_at = null,
  resolution = null, code = excluded.code, message = excluded.message
returning id

-- name: fail_again
-- A replayed message died: its row is open again. What was published no later than the last failure is no news.
update dead_letters set
  state = 'open', failures = failures + 1, last_seen_at = headrace_now(), resolved_at = null, resolution = null,
  code = coalesce(:code, code), message = coalesce(:message, message), deliveries = coalesce(:deliveries, deliveries),
  last_published_at = coalesce(:published_at, last_published_at)
where id = :id and origin = 'message'
  and (:published_at::timestamptz is null or last_published_at is null or :published_at > last_published_at)
returning id

-- name: take_in
-- A message that Pub/Sub gave up on, with its first source; one that is here already stays as it is.
insert into dead_letters
  (id, identity, origin, organization_id, subscription, message_id, published_at, last_published_at, deliveries, body,
   attributes, code, message)
values (:id, :identity, 'message', :organization_id, :subscription, :message_id, :published_at, :published_at,
        :deliveries, :body, :attributes, :code, :message)
on conflict (identity) do nothing
returning id

-- name: letter_exists
-- Whether there is such a row.
select exists (select from dead_letters where id = :id)

-- name: resolve_message
-- A replayed message was handled.
update dead_letters set state = 'resolved', resolved_at = headrace_now(), resolution = 'handled'
where id = :id and origin = 'message' and state in ('open', 'replaying')

-- name: get_letter
-- One letter with its body.
select l.*, coalesce(length(l.body), 0) as size_bytes, j.file_path
from dead_letters l left join document_processing_jobs j on j.id = l.job_id
where l.id = :id

-- name: page_letters
-- Newest first, by key, so that a page stays right while letters arrive. Without their bodies.
select l.id, l.origin, l.state, l.code, l.message, l.stage, l.organization_id, l.job_id, l.subscription, l.message_id,
       l.published_at, l.deliveries, l.attributes, l.failures, l.replays, l.first_seen_at, l.last_seen_at,
       l.resolved_at, l.resolution, l.note, coalesce(length(l.body), 0) as size_bytes, j.file_path
from dead_letters l left join document_processing_jobs j on j.id = l.job_id
where (:code::text is null or l.code = :code)
  and (:stage::text is null or coalesce(l.stage, '') = :stage)
  and (:origin::text is null or l.origin = :origin)
  and (:state::text is null or l.state = :state)
  and (:organization_id::text is null or l.organization_id = :organization_id)
  and (:since::timestamptz is null or l.last_seen_at >= :since)
  and (:ids::uuid[] is null or l.id = any (:ids))
  and (:before_id::uuid is null or l.id < :before_id)
order by l.id desc limit :limit

-- name: groups
-- Causes of what is not ended, with the newest example of each and what people wrote about it.
select cause.*, newest.message as newest_message, noted.note
from (
  select code, stage, count(*) as letters, count(*) filter (where state = 'replaying') as replaying,
         sum(failures)::bigint as failures, min(first_seen_at) as first_seen_at, max(last_seen_at) as last_seen_at,
         (array_agg(id order by last_seen_at desc, id desc))[1] as newest_id
  from dead_letters where state in ('open', 'replaying') group by code, stage) cause
join dead_letters newest on newest.id = cause.newest_id
left join dead_letter_groups noted on noted.code = cause.code and noted.stage = coalesce(cause.stage, '')
order by cause.letters desc, cause.code, cause.stage nulls first

-- name: note_group
-- A note on a cause.
insert into dead_letter_groups (code, stage, note) values (:code, :stage, :note)
on conflict (code, stage) do update set note = excluded.note, updated_at = headrace_now()

-- name: forget_group_note
-- No note any more.
delete from dead_letter_groups where code = :code and stage = :stage

-- name: discard_letters
-- By a person, with a reason. What is on its way goes on, and reopens its letter when it fails.
with found as (
  select id from dead_letters
  where state in ('open', 'replaying')
    and (:code::text is null or code = :code)
    and (:stage::text is null or coalesce(stage, '') = :stage)
    and (:origin::text is null or origin = :origin)
    and (:state::text is null or state = :state)
    and (:organization_id::text is null or organization_id = :organization_id)
    and (:since::timestamptz is null or last_seen_at >= :since)
    and (:ids::uuid[] is null or id = any (:ids))
  order by id limit :limit for update
)
update dead_letters set state = 'discarded', resolved_at = headrace_now(), resolution = :reason
from found where dead_letters.id = found.id
