-- Batches that replay dead letters, a step at a time. Locks are taken in the order batch, document, job, letter, replay.

-- name: preview
-- What a request would do with letters that are open (or on their way) now.
select
  count(*) filter (where state = 'open' and sendable and (:force or replays < :free_replays)) as replayable,
  count(*) filter (where state = 'open' and sendable and not :force and replays >= :free_replays) as need_force,
  count(*) filter (where state = 'open' and not sendable) as not_replayable,
  count(*) filter (where state = 'replaying') as replaying
from (
  select state, replays, origin = 'job' or coalesce(subscription = any (:subscriptions::text[]), false) as sendable
  from dead_letters
  where state in ('open', 'replaying')
    and (:code::text is null or code = :code)
    and (:stage::text is null or coalesce(stage, '') = :stage)
    and (:origin::text is null or origin = :origin)
    and (:state::text is null or state = :state)
    and (:organization_id::text is null or organization_id = :organization_id)
    and (:since::timestamptz is null or last_seen_at >= :since)
    and (:ids::uuid[] is null or id = any (:ids))) matching

-- name: add_batch
-- A request, once.
insert into replay_batches (id, requested_by, selection, max_letters, rate_per_second, canary, force)
values (:id, :requested_by, :selection, :max_letters, :rate_per_second, :canary, :force)
on conflict do nothing

-- name: add_automatic_batch
-- A request for what our own outage may have caused, if there is such a thing and no other asks for it.
insert into replay_batches (id, requested_by, selection, rate_per_second, automatic)
select :id, :requested_by, :selection, :rate_per_second, true
where exists (
    select from dead_letters
    where origin = 'message' and state = 'open' and replays = 0 and not auto_replayed and code = :code
      and subscription = any (:subscriptions::text[]))
on conflict do nothing
returning id

-- name: get_batch
-- One batch with what became of its letters. Without its next turn: an absurd rate made times beyond any calendar.
select b.id, b.state, b.requested_by, b.selection, b.max_letters, b.rate_per_second, b.canary, b.force, b.automatic,
       b.reason, b.created_at, b.ended_at, t.*
from replay_batches b cross join lateral (
  select count(*) filter (where r.state = 'staged') as staged, count(*) filter (where r.state = 'sent') as sent,
         count(*) filter (where r.state = 'resolved') as resolved, count(*) filter (where r.state = 'failed') as failed,
         count(*) filter (where r.state = 'superseded') as superseded,
         count(*) filter (where r.state = 'unknown') as unknown, count(*) filter (where r.state = 'dropped') as dropped
  from replays r where r.batch_id = b.id) t
where b.id = :id

-- name: newest_batches
-- The newest first.
select id from replay_batches order by created_at desc, id desc limit :limit

-- name: unfinished_batches
-- A page of those that a step can be taken of, the oldest first: not those that only wait for outcomes, of which there
-- may be any number. Scalar questions, because Postgres may answer `exists` by reading every replay there is.
select id, created_at from (
  (select id, created_at from replay_batches b
   where state in ('requested', 'canary', 'running')
     and created_at >= :after_created_at and (created_at, id) > (:after_created_at::timestamptz, :after_id::uuid)
     and (state = 'requested'
          or (select true from replays r where r.batch_id = b.id and r.state = 'sent' limit 1) is null
          or (state = 'running'
              and (select true from replays r where r.batch_id = b.id and r.state = 'staged' limit 1)))
   order by created_at, id limit :limit)
  union all
  (select id, created_at from replay_batches b
   where state = 'stopped' and (created_at, id) > (:after_created_at::timestamptz, :after_id::uuid)
     and (select true from replays r where r.batch_id = b.id and r.state = 'staged' limit 1)
   order by created_at, id limit :limit)) found
order by created_at, id limit :limit

-- name: lock_requested
-- A batch whose letters are being staged, for one stager at a time.
select selection, max_letters, force, automatic, created_at,
       (select count(*) from replays where batch_id = replay_batches.id) as letters
from replay_batches where id = :id and state = 'requested' for update

-- name: stage_letters
-- Open letters that match, none twice, none that failed after the request; from now on nobody else takes them.
with found as (
  select id from dead_letters l
  where l.state = 'open' and l.last_seen_at <= :before
    and (:code::text is null or l.code = :code)
    and (:stage::text is null or coalesce(l.stage, '') = :stage)
    and (:origin::text is null or l.origin = :origin)
    and (:state::text is null or l.state = :state)
    and (:organization_id::text is null or l.organization_id = :organization_id)
    and (:since::timestamptz is null or l.last_seen_at >= :since)
    and (:ids::uuid[] is null or l.id = any (:ids))
    and (:force or l.replays < :free_replays)
    and (not :automatic or (l.replays = 0 and not l.auto_replayed))
    and (l.origin = 'job' or l.subscription = any (:subscriptions::text[]))
    and not exists (select from replays r where r.batch_id = :batch_id and r.letter_id = l.id)
  order by l.id limit :limit for update
), staged as (
  update dead_letters set state = 'replaying' from found where dead_letters.id = found.id
)
insert into replays (batch_id, letter_id) select :batch_id, id from found

-- name: move_batch
-- On to another state, if nobody else has moved it.
update replay_batches set state = :after, reason = coalesce(:reason, reason),
  ended_at = case when :after in ('done', 'stopped') then headrace_now() end
where id = :id and state = :before

-- name: lock_running
-- A batch that may send, for one sender at a time; how long until its rate allows the next letter.
select id, state, automatic, rate_per_second,
       extract(epoch from next_send_at - headrace_now())::double precision as wait_seconds
from replay_batches where id = :id and state in ('canary', 'running') for update skip locked

-- name: canary_is_out
-- Whether a canary was sent, whatever became of it.
select exists (select from replays where batch_id = :id and state in ('sent', 'resolved', 'failed', 'unknown'))

-- name: next_staged
-- Whose turn it is; not locked yet, because a job's document and row come first.
select r.letter_id, l.origin, l.job_id, j.document_id
from replays r join dead_letters l on l.id = r.letter_id left join document_processing_jobs j on j.id = l.job_id
where r.batch_id = :id and r.state = 'staged' order by r.letter_id limit 1

-- name: take_turn
-- The next letter waits for its turn; a pause saves up the turns of one second. A turn that was taken was due.
update replay_batches
set next_send_at = least(greatest(next_send_at, headrace_now() - interval '1 second'), headrace_now())
                 + make_interval(secs => :pace_seconds)
where id = :id

-- name: lock_letter
-- Still staged here, and still wanted? Locked, or nothing.
select l.*, r.state as replay_state from dead_letters l join replays r on r.letter_id = l.id
where l.id = :letter_id and r.batch_id = :batch_id and l.state = 'replaying' and r.state = 'staged' for update

-- name: drop_replay
-- No longer wanted.
update replays set state = 'dropped', ended_at = headrace_now()
where batch_id = :batch_id and letter_id = :letter_id and state = 'staged'

-- name: mark_sent
-- On its way.
update replays set state = 'sent', sent_at = headrace_now() where batch_id = :batch_id and letter_id = :letter_id

-- name: count_replay
-- The letter's own count, and whether this was the one replay nobody asked for.
update dead_letters set replays = replays + 1, auto_replayed = auto_replayed or :automatic where id = :letter_id

-- name: end_replay
-- An outcome that is neither success nor failure; told before the letter moves, which would tell another.
update replays set state = :state, ended_at = headrace_now()
where batch_id = :batch_id and letter_id = :letter_id and state in ('staged', 'sent')

-- name: resolve_letter
-- Nothing is left to be done about it.
update dead_letters set state = 'resolved', resolved_at = headrace_now(), resolution = :resolution
where id = :letter_id and state in ('open', 'replaying')

-- name: add_message
-- The message as it was, to be published once this transaction is committed.
insert into outbox (topic, job_id, attributes, data) values (:topic, null, :attributes, :data)

-- name: release_letters
-- Letters that a stopped batch did not send are open again; the trigger ends their replays.
update dead_letters set state = 'open' where state = 'replaying' and id in (
  select r.letter_id from replays r join replay_batches b on b.id = r.batch_id
  where b.id = :id and b.state = 'stopped' and r.state = 'staged' order by r.letter_id limit :limit)

-- name: forget_staged
-- Staged replays of a stopped batch whose letters have moved on by themselves.
update replays set state = 'dropped', ended_at = headrace_now()
where batch_id = :id and state = 'staged'
  and not exists (select from dead_letters l where l.id = replays.letter_id and l.state = 'replaying')

-- name: ended_jobs
-- Letters that wait for jobs which have ended without saying so to them; one that failed and whose file has a newer
-- version by now will not begin again either.
select l.id as letter_id, j.status from dead_letters l join document_processing_jobs j on j.id = l.job_id
left join documents d on d.id = j.document_id
where l.state = 'replaying' and l.origin = 'job'
  and (j.status in ('completed', 'cancelled') or j.status = 'failed' and d.generation is distinct from j.generation)
  and not exists (select from replays r where r.letter_id = l.id and r.state = 'staged')
order by l.id limit :limit for update of l skip locked

-- name: supersede_replays
-- The outstanding replay of a letter whose job was cancelled.
update replays set state = 'superseded', ended_at = headrace_now() where letter_id = :letter_id and state = 'sent'

-- name: silent_messages
-- Messages that were sent long ago and not heard of: lost, or handled without a word.
select r.batch_id, r.letter_id from replays r join dead_letters l on l.id = r.letter_id
where r.state = 'sent' and l.origin = 'message' and l.state = 'replaying'
  and r.sent_at < headrace_now() - make_interval(secs => :outcome_seconds)
order by r.sent_at limit :limit for update of l skip locked

-- name: reopen_letter
-- Open, as it was before it was replayed; not counted as a failure. Nobody asks by himself for it again.
update dead_letters set state = 'open', auto_replayed = auto_replayed or :automatic
where id = :letter_id and state = 'replaying'
