-- The present truth. Migrations reach it (a test compares); nothing newer than Postgres 16 and pgvector 0.8 is used.
-- Roles: migrations are made by the owner of these tables, a member of `headrace_service` and `headrace_tenant`; each
-- service logs in as a member of its own role (at the end of this file), or on a laptop as the owner. Row-level security
-- is forced on every tenant table: the owner and the services see all rows of what they have grants on, as
-- `headrace_tenant` (`set local role`, with `headrace.organization_id` set) only one organization's are seen.

do $$ begin create role headrace_service nologin; exception when duplicate_object or unique_violation then null; end $$;
do $$ begin create role headrace_tenant nologin; exception when duplicate_object or unique_violation then null; end $$;
do $$ begin
  execute format('grant headrace_service to %I', current_user);
  execute format('grant headrace_tenant to %I', current_user);
exception when unique_violation then null; -- another database of this cluster grants it at the same moment
end $$;

create extension if not exists vector;

-- The one clock of leases and due times. Several machines must agree on it; tests replace it to move time.
create function headrace_now() returns timestamptz language sql stable parallel safe
as $$ select statement_timestamp() $$;

------------------------------------------------------------------------------------------------------ documents

create table documents (
  id                  uuid primary key,
  bucket              text not null,
  name                text not null,
  organization_id     text not null,
  user_id             text,
  media_type          text,
  revision            bigint not null default 1 check (revision > 0),
  generation          bigint,           -- live in the bucket as last decided; null: gone
  metageneration      bigint,
  size_bytes          bigint,
  crc32c              text,
  md5                 text,
  object_metadata     jsonb not null default '{}',
  indexed_generation  bigint,           -- what the visible chunks were made from, or adopted for
  indexed_size_bytes  bigint,
  indexed_crc32c      text,
  indexed_md5         text,
  current_job_id      uuid,             -- the job that is to index `generation`
  live_job_id         uuid,             -- the job whose chunks are visible
  supersessions       integer not null default 0,
  deleted_at          timestamptz,
  created_at          timestamptz not null default headrace_now(),
  updated_at          timestamptz not null default headrace_now(),
  unique (bucket, name),
  check ((generation is null) = (deleted_at is not null))
);
create index documents_live_job on documents (live_job_id) where live_job_id is not null;
create index documents_by_organization on documents (organization_id);
-- Byte order, as Cloud Storage lists: the two are merged.
create index documents_listing on documents (bucket, name collate "C") where generation is not null;
create index documents_deleted on documents (deleted_at) where deleted_at is not null;
-- What a switch of spaces looks at while nobody may complete a job.
create index documents_changed on documents (updated_at) where live_job_id is not null;

----------------------------------------------------------------------------------------------------------- jobs

create table document_processing_jobs (
  id                uuid primary key,
  document_id       uuid references documents (id),
  job_type          text not null default 'document_processing',
  bucket            text,
  name              text,
  file_path         text,
  generation        bigint,
  metageneration    bigint,
  document_revision bigint,
  organization_id   text not null,
  user_id           text,
  entity_type       text,
  entity_id         text,
  lane              text not null default 'interactive' check (lane in ('interactive', 'bulk')),
  priority          integer not null default 0,
  status            text not null default 'pending',
  processing_stage  text not null default 'pending',
  attempts          integer not null default 0 check (attempts >= 0),
  max_attempts      integer not null default 4 check (max_attempts > 0),
  retry_count       integer not null generated always as (greatest(attempts - 1, 0)) stored,
  rescue_count      integer not null default 0,
  stalled_rescues   integer not null default 0, -- rescues since the job last got somewhere: those are bounded
  quarantined       boolean not null default false,
  next_attempt_at   timestamptz not null default headrace_now(),
  deferred_reason   text,
  deferred_since    timestamptz,
  last_rung_at      timestamptz,
  ring_count        integer not null default 0,
  lease_owner       text,
  lease_epoch       bigint not null default 0,
  lease_until       timestamptz,
  claimed_at        timestamptz,
  may_finish        boolean not null default false, -- superseded too often: may finish and swap all the same
  checkpoint        jsonb,
  progress_done     bigint not null default 0,
  progress_total    bigint,
  progress_unit     text,
  payload           jsonb not null default '{}',
  result            jsonb,
  error_code        text,
  error_message     text,
  error_context     jsonb,
  media_type        text,
  size_bytes        bigint,
  crc32c            text,
  md5               text,
  content_sha256    text,
  model_calls       integer not null default 0,
  tokens_used       bigint not null default 0,
  tokens_saved      bigint not null default 0,
  cost_micros       bigint not null default 0,
  cost_saved_micros bigint not null default 0,
  pages_read        integer, -- by a model; null: none was there to read any
  page_tokens       bigint not null default 0, -- of tokens_used
  page_cost_micros  bigint not null default 0, -- of cost_micros
  trace_parent      text,
  metadata          jsonb not null default '{}',
  event_seq         bigint not null default 0,
  parked            boolean not null default false, -- waits for its time, out of the way of the claim
  created_at        timestamptz not null default headrace_now(),
  updated_at        timestamptz not null default headrace_now(),
  started_at        timestamptz,
  completed_at      timestamptz,
  constraint jobs_state_is_consistent check (case status
    when 'pending'    then processing_stage = 'pending'
    when 'processing' then processing_stage in ('downloading', 'processing', 'embedding', 'storing')
    when 'completed'  then processing_stage = 'completed'
    when 'failed'     then processing_stage = 'failed'
    when 'cancelled'  then processing_stage in ('pending', 'downloading', 'processing', 'embedding', 'storing')
    else false end),
  constraint jobs_lease_while_processing check ((status = 'processing') = (lease_until is not null)),
  constraint jobs_failure_has_a_code check (status <> 'failed' or error_code is not null),
  constraint jobs_end_has_a_time check ((status in ('completed', 'failed', 'cancelled')) = (completed_at is not null)),
  constraint jobs_document_work_has_an_object check (
    job_type <> 'document_processing' or (document_id is not null and bucket is not null and generation is not null))
);

create unique index jobs_one_per_generation on document_processing_jobs (bucket, name, generation)
  where job_type = 'document_processing';
-- The claim: one tenant's queue is a range of this index, its head the best job.
create index jobs_queue on document_processing_jobs
  (lane, quarantined, organization_id, parked, priority desc, created_at, id) where status = 'pending';
-- Whose turn it is: when a tenant was served last.
create index jobs_turn on document_processing_jobs (organization_id, claimed_at desc) where claimed_at is not null;
create index jobs_due on document_processing_jobs (next_attempt_at) include (last_rung_at) where status = 'pending';
create index jobs_parked on document_processing_jobs (next_attempt_at) where status = 'pending' and parked;
create index jobs_unrung on document_processing_jobs (next_attempt_at)
  where status = 'pending' and (last_rung_at is null or last_rung_at < next_attempt_at);
-- Whose bell is old: three ranges, for each pace at which it is rung again.
create index jobs_rung on document_processing_jobs
  (lane, quarantined, least(ring_count, 2), greatest(last_rung_at, next_attempt_at)) where status = 'pending';
-- With the id, so that a run can step past those that it cannot rescue now.
create index jobs_leases on document_processing_jobs (lease_until, id) where status = 'processing';
create index jobs_by_status on document_processing_jobs (status, updated_at);
create index jobs_newest on document_processing_jobs (created_at desc, id desc);
create index jobs_newest_of_organization on document_processing_jobs (organization_id, created_at desc, id desc);
create index jobs_of_document on document_processing_jobs (document_id);
create index jobs_tasks on document_processing_jobs (job_type, entity_type, entity_id) where document_id is null;
create index jobs_of_import on document_processing_jobs
  (entity_id, status) where entity_type = 'bulk_import' and job_type = 'document_processing';
create unique index jobs_history_once on document_processing_jobs (entity_id) where job_type = 'history';
create index jobs_failures on document_processing_jobs (error_code) where status = 'failed';

-- The ledger: every move, and the outbox of stage events (published_at is null: still to be sent).
create table job_events (
  job_id          uuid not null references document_processing_jobs (id) on delete cascade,
  seq             bigint not null,
  organization_id text not null,
  attempt         integer not null,
  status          text not null,
  stage           text not null,
  occurred_at     timestamptz not null,
  detail          jsonb not null default '{}',
  published_at    timestamptz,
  primary key (job_id, seq)
);
create index job_events_unsent on job_events (occurred_at, job_id) where published_at is null;
create index job_events_published on job_events (published_at) where published_at is not null;

create function headrace_state_is_consistent(status text, stage text) returns boolean language sql immutable as $$
  select case status
    when 'pending'    then stage = 'pending'
    when 'processing' then stage in ('downloading', 'processing', 'embedding', 'storing')
    when 'completed'  then stage = 'completed'
    when 'failed'     then stage = 'failed'
    when 'cancelled'  then stage in ('pending', 'downloading', 'processing', 'embedding', 'storing')
    else false end
$$;

-- The same table of moves as shared/model/job.py; a test compares the two, pair by pair.
create function headrace_move_is_legal(from_status text, from_stage text, to_status text, to_stage text)
returns boolean language sql immutable as $$
  select headrace_state_is_consistent(from_status, from_stage)
     and headrace_state_is_consistent(to_status, to_stage)
     and (from_status, from_stage) <> (to_status, to_stage)
     and case from_status
       when 'pending' then to_status in ('processing', 'failed') or (to_status = 'cancelled' and to_stage = from_stage)
       when 'processing' then
            to_status in ('pending', 'completed', 'failed')
         or (to_status = 'cancelled' and to_stage = from_stage)
         or (to_status = 'processing'
             and array_position(array['downloading', 'processing', 'embedding', 'storing'], to_stage)
               > array_position(array['downloading', 'processing', 'embedding', 'storing'], from_stage))
       when 'completed' then to_status = 'pending' -- its generation was taken for gone, and is there again
       when 'failed' then to_status = 'pending'
       when 'cancelled' then to_status = 'pending'
       else false end
$$;

create function headrace_check_move() returns trigger language plpgsql as $$
begin
  if tg_op = 'UPDATE' and (old.status, old.processing_stage) = (new.status, new.processing_stage) then
    return new;
  end if;
  if tg_op = 'UPDATE'
     and not headrace_move_is_legal(old.status, old.processing_stage, new.status, new.processing_stage) then
    raise exception 'illegal move of job %: %/% to %/%',
      old.id, old.status, old.processing_stage, new.status, new.processing_stage
      using errcode = 'check_violation', constraint = 'jobs_legal_moves';
  end if;
  new.event_seq := case tg_op when 'INSERT' then 1 else old.event_seq + 1 end;
  return new;
end $$;

create function headrace_record_move() returns trigger language plpgsql
security definer set search_path = public, pg_temp as $$
begin
  if tg_op = 'UPDATE' and old.event_seq = new.event_seq then
    return null;
  end if;
  insert into job_events (job_id, seq, organization_id, attempt, status, stage, occurred_at, detail)
  values (new.id, new.event_seq, new.organization_id, new.attempts, new.status, new.processing_stage, headrace_now(),
    jsonb_strip_nulls(jsonb_build_object(
      'worker', case when new.status = 'processing' then new.lease_owner end,
      'error_code', case when new.status in ('failed', 'cancelled') or new.deferred_reason is not null
                           or (tg_op = 'UPDATE' and old.error_code is distinct from new.error_code)
                         then new.error_code end,
      'deferred_reason', new.deferred_reason,
      'due_at', case when new.status = 'pending' and tg_op = 'UPDATE' then new.next_attempt_at end,
      'rescue_count', nullif(new.rescue_count, 0),
      'done', case when new.progress_unit is not null then new.progress_done end,
      'unit', new.progress_unit,
      'model_calls', case when new.status = 'completed' then new.model_calls end,
      'tokens_used', case when new.status = 'completed' then new.tokens_used end,
      'tokens_saved', case when new.status = 'completed' then new.tokens_saved end,
      'cost_micros', case when new.status = 'completed' then nullif(new.cost_micros, 0) end,
      'cost_saved_micros', case when new.status = 'completed' then nullif(new.cost_saved_micros, 0) end,
      'pages_read', case when new.status in ('completed', 'failed') then nullif(new.pages_read, 0) end,
      'refused_pages', case when new.status = 'completed' then new.result -> 'refused_pages' end)));
  return null;
end $$;

-- A job that waits for its time is parked, whoever sets that time; who rings for what became due brings it back.
create function headrace_park() returns trigger language plpgsql as $$
begin
  new.parked := new.status = 'pending' and new.next_attempt_at > headrace_now();
  return new;
end $$;

-- Only the process service takes jobs and completes them; columns cannot say so, since others cancel and put back.
create function headrace_check_worker() returns trigger language plpgsql as $$
begin
  if pg_has_role(current_user, 'headrace_process', 'usage') or pg_has_role(current_user, 'headrace_service', 'usage') then
    return new;
  end if;
  raise exception 'only the process service moves jobs to %', new.status using errcode = 'insufficient_privilege';
end $$;

create trigger jobs_park before insert or update of status, next_attempt_at on document_processing_jobs
  for each row execute function headrace_park();
create trigger jobs_check_move before insert or update on document_processing_jobs
  for each row execute function headrace_check_move();
create trigger jobs_check_worker before update of status on document_processing_jobs
  for each row when (old.status <> new.status and new.status in ('processing', 'completed'))
  execute function headrace_check_worker();
create trigger jobs_record_move after insert or update on document_processing_jobs
  for each row execute function headrace_record_move();

--------------------------------------------------------------------------------------------------------- outbox

-- Bells and dead letters that are committed and still to be published. `topic` is a logical name.
create table outbox (
  id           bigint generated always as identity primary key,
  topic        text not null,
  job_id       uuid,
  attributes   jsonb not null default '{}',
  body         jsonb not null default '{}',
  created_at   timestamptz not null default headrace_now(),
  published_at timestamptz,
  data         bytea            -- of a message that is replayed as it was; else the body is what is sent
);
create index outbox_unsent_of_topic on outbox (topic, id) where published_at is null;
create index outbox_unsent_of_job on outbox (job_id) where published_at is null;
create index outbox_published on outbox (published_at) where published_at is not null;

-- Failures that can be listed and replayed, of jobs and of messages alike.
create table dead_letters (
  id              uuid primary key,
  identity        text not null unique, -- the same failure again raises the count of the same row
  origin          text not null check (origin in ('job', 'message')),
  state           text not null default 'open' check (state in ('open', 'replaying', 'resolved', 'discarded')),
  organization_id text,
  job_id          uuid references document_processing_jobs (id) on delete set null,
  subscription    text,
  message_id      text,
  published_at    timestamptz,
  body            bytea,
  attributes      jsonb not null default '{}',
  code            text not null,
  message         text not null,
  stage           text,
  failures        integer not null default 1,
  replays         integer not null default 0,
  first_seen_at   timestamptz not null default headrace_now(),
  last_seen_at    timestamptz not null default headrace_now(),
  resolved_at     timestamptz,
  note            text,
  deliveries        integer,     -- how often Pub/Sub had delivered it when it gave up
  last_published_at timestamptz, -- of the message that failed last: the same one, or an older one, is no news
  auto_replayed     boolean not null default false,
  resolution        text         -- why it was resolved or discarded
);
create index dead_letters_open on dead_letters (code, stage, last_seen_at desc) where state = 'open';
create index dead_letters_of_job on dead_letters (job_id);
create index dead_letters_by_state on dead_letters (state, id);
-- What may be our own outage's doing, and is replayed once without being asked.
create index dead_letters_undelivered on dead_letters (id)
  where origin = 'message' and state = 'open' and replays = 0 and not auto_replayed;
create index dead_letters_ended on dead_letters (resolved_at) where state in ('resolved', 'discarded');

-- A request to replay letters, carried out step by step: each step may be repeated after a crash.
create table replay_batches (
  id              uuid primary key,
  state           text not null default 'requested'
                  check (state in ('requested', 'canary', 'running', 'done', 'stopped')),
  requested_by    text not null,
  selection       jsonb not null,            -- which letters: ids or a filter
  max_letters     integer check (max_letters > 0),
  rate_per_second double precision not null check (rate_per_second > 0),
  canary          boolean not null default false,
  force           boolean not null default false,
  automatic       boolean not null default false,
  reason          text,                      -- why it was stopped
  next_send_at    timestamptz not null default headrace_now(),
  created_at      timestamptz not null default headrace_now(),
  ended_at        timestamptz
);
create index replay_batches_unfinished on replay_batches (created_at) where state in ('requested', 'canary', 'running');
create index replay_batches_ended on replay_batches (ended_at) where state in ('done', 'stopped');
create unique index replay_batches_one_automatic on replay_batches (automatic)
  where automatic and state in ('requested', 'canary', 'running');

-- One replay of one letter. At most one of a letter is outstanding, whoever asks.
create table replays (
  batch_id  uuid not null references replay_batches (id) on delete cascade,
  letter_id uuid not null references dead_letters (id) on delete cascade,
  state     text not null default 'staged'
            check (state in ('staged', 'sent', 'resolved', 'failed', 'superseded', 'unknown', 'dropped')),
  sent_at   timestamptz,
  ended_at  timestamptz,
  primary key (batch_id, letter_id)
);
create unique index replays_one_outstanding on replays (letter_id) where state in ('staged', 'sent');
create index replays_by_state on replays (batch_id, state, letter_id);
create index replays_sent on replays (sent_at) where state = 'sent';
create index replays_of_letter on replays (letter_id);

-- What people wrote about a cause; the stage is empty where there is none.
create table dead_letter_groups (
  code       text not null,
  stage      text not null default '',
  note       text not null,
  updated_at timestamptz not null default headrace_now(),
  primary key (code, stage)
);

-- Whoever moves a letter out of `replaying` ends its outstanding replay: no transaction can forget it.
create function headrace_end_replay() returns trigger language plpgsql
security definer set search_path = public, pg_temp as $$
begin
  update replays set ended_at = headrace_now(), state = case
      when state = 'staged' then 'dropped'
      when new.state = 'open' then 'failed'
      when new.state = 'resolved' then 'resolved'
      else 'dropped' end
  where letter_id = new.id and state in ('staged', 'sent');
  return null;
end $$;
create trigger dead_letters_end_replay after update on dead_letters
  for each row when (old.state = 'replaying' and new.state <> 'replaying') execute function headrace_end_replay();

create table recover_runs (
  id         bigint generated always as identity primary key,
  started_at timestamptz not null,
  ended_at   timestamptz not null default headrace_now(),
  summary    jsonb not null
);
create index recover_runs_by_start on recover_runs (started_at);

-- Models that refuse calls for being too many, and the pace that all processes keep together.
create table rate_limits (
  model         text primary key,
  rate          double precision check (rate > 0), -- calls per second of all processes; null: being made
  seeking       boolean,
  blocked_until timestamptz,
  next_turn_at  timestamptz,
  refused_at    timestamptz,
  requests_until timestamptz, -- with a quota: until when the requests that were taken are being earned
  tokens_until  timestamptz
);

-- Calls under way, of models that have a bound on them. Those of a dead process are free again after `until`.
create table model_calls (
  id    uuid primary key,
  model text not null,
  until timestamptz not null
);
create index model_calls_of_model on model_calls (model, until);

--------------------------------------------------------------------------------------------------------- chunks

create table chunks (
  job_id          uuid not null references document_processing_jobs (id) on delete cascade,
  ordinal         integer not null check (ordinal >= 0),
  document_id     uuid not null references documents (id) on delete cascade,
  organization_id text not null,
  text            text not null,
  locator         jsonb not null,
  text_hash       bytea not null,
  fts             tsvector not null generated always as (to_tsvector('english', text)) stored,
  primary key (job_id, ordinal)
);
create index chunks_by_text on chunks (organization_id, text_hash);
create index chunks_of_document on chunks (document_id);
create index chunks_fts on chunks using gin (fts);

-- Two vectors may be compared only within one space.
create table embedding_spaces (
  id                 smallint generated always as identity primary key,
  key                text not null unique,
  model              text not null,
  dimensions         integer not null check (dimensions between 1 and 4000),
  metric             text not null check (metric in ('cosine')),
  task_type          text not null,
  normaliser_version integer not null,
  created_at         timestamptz not null default headrace_now(),
  state              text not null default 'filling' check (state in ('filling', 'active', 'retired')),
  activated_at       timestamptz
);
create unique index embedding_spaces_one_active on embedding_spaces (state) where state = 'active';

-- One vector per text, organization and space: identical text is embedded once, and a killed worker's successor finds
-- what is done. One partition with its own HNSW index per space (made by `headrace_add_space`).
create table embeddings (
  space_id        smallint not null references embedding_spaces (id),
  organization_id text not null,
  text_hash       bytea not null,
  embedding       halfvec not null,
  created_at      timestamptz not null default headrace_now(),
  primary key (space_id, organization_id, text_hash)
) partition by list (space_id);

-- Who has sent a text to the model, or is about to: another job with the same text waits for the vector. A claim is
-- worth as much as the lease it was made under, so that nobody waits for a worker that died or a job that has ended.
create table embedding_claims (
  space_id        smallint not null references embedding_spaces (id),
  organization_id text not null,
  text_hash       bytea not null,
  job_id          uuid not null, -- no foreign key: a claim must not wait for whoever holds the job
  lease_epoch     bigint not null,
  primary key (space_id, organization_id, text_hash)
);
create index embedding_claims_of_job on embedding_claims (job_id);

-- Which job has a file read by a model: others of the same organization with the same bytes wait for it and take over
-- its passages, so that a file under ten names is paid for once.
create table files_read (
  organization_id text not null,
  content_sha256  text not null,
  reader          text not null, -- the model, and what else decides about the passages
  job_id          uuid not null references document_processing_jobs (id) on delete cascade,
  primary key (organization_id, content_sha256, reader)
);
create index files_read_by_job on files_read (job_id);

-- A vector is removed only while nobody can begin to count on it: who adds chunks or vectors holds this lock shared,
-- who removes vectors holds it alone.
create function headrace_hold_vectors() returns trigger language plpgsql as $$
begin
  perform pg_advisory_xact_lock_shared(hashtext('headrace_vectors'));
  return null;
end $$;

create trigger chunks_hold_vectors before insert or update of organization_id on chunks
  for each statement execute function headrace_hold_vectors();
create trigger embeddings_hold_vectors before insert on embeddings
  for each statement execute function headrace_hold_vectors();

-- Returns the id of a space; makes it, its partition and its index when it is new. Safe to call at once from anywhere.
create function headrace_add_space(
  space_key text, space_model text, space_dimensions integer, space_metric text, space_task_type text, version integer)
returns smallint language plpgsql
security definer set search_path = public, pg_temp as $$
declare
  found_id smallint;
begin
  select id into found_id from embedding_spaces where key = space_key;
  if found_id is not null then return found_id; end if;
  perform pg_advisory_xact_lock(hashtext('headrace_add_space'));
  select id into found_id from embedding_spaces where key = space_key;
  if found_id is not null then return found_id; end if;
  insert into embedding_spaces (key, model, dimensions, metric, task_type, normaliser_version, state, activated_at)
  select space_key, space_model, space_dimensions, space_metric, space_task_type, version,
    case when first then 'active' else 'filling' end, case when first then headrace_now() end
  from (select not exists (select from embedding_spaces where state = 'active') as first) here
  returning id into found_id;
  execute format('create table embeddings_%s partition of embeddings for values in (%s)', found_id, found_id);
  execute format('create index embeddings_%s_hnsw on embeddings_%s using hnsw ((embedding::halfvec(%s)) halfvec_cosine_ops)',
    found_id, found_id, space_dimensions);
  return found_id;
end $$;

-- Removes a space that is not searched, with its vectors. Whoever calls it has bounded how long locks are waited for.
create function headrace_drop_space(space_id smallint) returns void language plpgsql
security definer set search_path = public, pg_temp as $$
begin
  perform pg_advisory_xact_lock(hashtext('headrace_add_space'));
  if exists (select from embedding_spaces where id = space_id and state = 'active') then
    raise exception 'space % is the one that is searched', space_id using errcode = 'object_in_use';
  end if;
  execute format('drop table if exists embeddings_%s', space_id);
  delete from embedding_claims claim where claim.space_id = headrace_drop_space.space_id;
  delete from embedding_spaces where id = space_id;
end $$;

-- Candidates of a search by words, of the organization that `headrace.organization_id` names. With the owner's rights:
-- row-level security must not let `@@` see a row before the policy has, so as a tenant it could not use its index.
create function headrace_worded(words tsquery, name_prefix text, media_types text[], candidates bigint)
returns table (job_id uuid, ordinal integer) language sql stable rows 50
security definer set search_path = public, pg_temp as $$
  select c.job_id, c.ordinal
  from chunks c
  join documents d on d.live_job_id = c.job_id
  where c.organization_id = current_setting('headrace.organization_id', true) and c.fts @@ words
    and (name_prefix is null or starts_with(d.name, name_prefix))
    and (cardinality(media_types) = 0 or d.media_type = any (media_types))
  order by ts_rank(c.fts, words) desc
  limit candidates
$$;
revoke execute on function headrace_worded(tsquery, text, text[], bigint) from public;
grant execute on function headrace_worded(tsquery, text, text[], bigint) to headrace_tenant;

---------------------------------------------------------------------------------------------- row-level security

do $$
declare
  tenant_table text;
begin
  foreach tenant_table in array array[
    'documents', 'document_processing_jobs', 'job_events', 'chunks', 'embeddings', 'dead_letters'] loop
    execute format('alter table %I enable row level security', tenant_table);
    execute format('alter table %I force row level security', tenant_table);
    execute format('create policy services_see_all on %I to headrace_service using (true) with check (true)', tenant_table);
    execute format($policy$create policy tenants_see_their_own on %I for select to headrace_tenant
      using (organization_id = current_setting('headrace.organization_id', true))$policy$, tenant_table);
    execute format('grant select on %I to headrace_tenant', tenant_table);
  end loop;
  grant select on embedding_spaces to headrace_tenant;
  -- No tenant reads these.
  alter table embedding_claims enable row level security;
  alter table embedding_claims force row level security;
  create policy services_see_all on embedding_claims to headrace_service using (true) with check (true);
  alter table files_read enable row level security;
  alter table files_read force row level security;
  create policy services_see_all on files_read to headrace_service using (true) with check (true);
end $$;

------------------------------------------------------------------------------------------- roles of the services

-- Only with the grants that a service's queries need. Roles belong to the whole cluster: another database of it may
-- have made them, or makes them at this moment.

do $$
declare
  service text;
begin
  foreach service in array array['headrace_ingest', 'headrace_process', 'headrace_recover', 'headrace_api'] loop
    begin
      execute format('create role %I nologin', service);
    exception when duplicate_object or unique_violation then null;
    end;
  end loop;
  if not exists (
    select from pg_auth_members
    where roleid = 'headrace_tenant'::regrole and member = 'headrace_api'::regrole) then
    -- Without inheriting: what a tenant may read, the api may read only as a tenant.
    grant headrace_tenant to headrace_api with inherit false, set true;
  end if;
exception when unique_violation or internal_error then null; -- another database grants it at the same moment
end $$;

-- Services see all rows of the tables that they have grants on.
do $$
declare
  tenant_table text;
  service text;
begin
  foreach tenant_table in array array[
    'documents', 'document_processing_jobs', 'job_events', 'chunks', 'embeddings', 'dead_letters'] loop
    foreach service in array array['ingest', 'process', 'recover', 'api'] loop
      execute format('create policy %I on %I to %I using (true) with check (true)',
        service || '_sees_all', tenant_table, 'headrace_' || service);
    end loop;
  end loop;
end $$;

-- The ledger is written by its trigger alone, replays are ended by theirs, and spaces are made by one function: with
-- the owner's rights (`security definer`), so that nobody else needs them.
revoke execute on function headrace_add_space(text, text, integer, text, text, integer) from public;
grant execute on function headrace_add_space(text, text, integer, text, text, integer) to headrace_process;
revoke execute on function headrace_drop_space(smallint) from public;
grant execute on function headrace_drop_space(smallint) to headrace_api;
grant execute on function headrace_add_space(text, text, integer, text, text, integer) to headrace_api;
grant select on embedding_spaces to headrace_process, headrace_api;
grant update (state, activated_at) on embedding_spaces to headrace_api;

-- What each role may do, table by table. Nobody may truncate or change a table, and only the process service may read
-- and write the text of passages; the api reads it as `headrace_tenant`, one organization at a time.
grant select on documents to headrace_ingest, headrace_process, headrace_recover, headrace_api;
grant delete on documents to headrace_recover;
grant insert (id, bucket, name, organization_id, user_id, revision, generation, metageneration, size_bytes, crc32c,
  md5, object_metadata) on documents to headrace_ingest, headrace_process, headrace_recover, headrace_api;
grant update (organization_id, user_id, revision, generation, metageneration, size_bytes, crc32c, md5,
  object_metadata, indexed_generation, indexed_size_bytes, indexed_crc32c, indexed_md5, current_job_id, live_job_id,
  supersessions, deleted_at, updated_at) on documents to headrace_ingest, headrace_process, headrace_recover,
  headrace_api;
grant update (media_type) on documents to headrace_process;

grant select on document_processing_jobs to headrace_ingest, headrace_process, headrace_recover, headrace_api;
grant delete on document_processing_jobs to headrace_recover;
grant insert (id, document_id, bucket, name, file_path, generation, metageneration, document_revision,
  organization_id, user_id, lane, priority, max_attempts, last_rung_at, size_bytes, crc32c, md5, trace_parent,
  metadata) on document_processing_jobs to headrace_ingest, headrace_process, headrace_recover, headrace_api;
grant insert (job_type, entity_type, entity_id, payload) on document_processing_jobs
  to headrace_process, headrace_recover, headrace_api;
grant update (metageneration, document_revision, organization_id, user_id, status, processing_stage, attempts,
  rescue_count, stalled_rescues, quarantined, next_attempt_at, deferred_since, last_rung_at, ring_count, lease_owner, lease_until,
  may_finish, checkpoint, progress_done, error_code, error_message, error_context, updated_at, completed_at) on
  document_processing_jobs to headrace_ingest, headrace_process, headrace_recover, headrace_api;
grant update (parked) on document_processing_jobs to headrace_ingest, headrace_process, headrace_recover;
grant update (progress_total) on document_processing_jobs to headrace_ingest, headrace_recover, headrace_api;
grant update (deferred_reason) on document_processing_jobs to headrace_ingest, headrace_process, headrace_recover,
  headrace_api;
grant update (lease_epoch, claimed_at, progress_total, progress_unit, result, media_type, content_sha256, model_calls,
  tokens_used, started_at) on document_processing_jobs to headrace_process;

grant select on job_events to headrace_ingest, headrace_process, headrace_recover, headrace_api;
grant delete on job_events to headrace_recover;
grant update (organization_id) on job_events to headrace_ingest, headrace_process, headrace_recover, headrace_api;
grant update (published_at) on job_events to headrace_ingest, headrace_process, headrace_recover;

grant select on outbox to headrace_ingest, headrace_process, headrace_recover;
grant delete on outbox to headrace_recover;
grant insert (topic, job_id, attributes, body) on outbox to headrace_ingest, headrace_process, headrace_recover,
  headrace_api;
grant insert (data) on outbox to headrace_recover, headrace_api;
grant update (published_at) on outbox to headrace_ingest, headrace_process, headrace_recover;

grant select on dead_letters to headrace_recover, headrace_api;
grant delete on dead_letters to headrace_recover;
grant select (id, identity, origin, state, organization_id, job_id, code, message, stage, failures, deliveries,
  last_published_at) on dead_letters to headrace_ingest, headrace_process;
grant insert (id, identity, origin, organization_id, job_id, code, message, stage) on dead_letters to headrace_ingest,
  headrace_process, headrace_recover, headrace_api;
grant insert (subscription, message_id, published_at, body, attributes, last_published_at) on dead_letters to
  headrace_ingest, headrace_process, headrace_recover;
grant insert (deliveries) on dead_letters to headrace_recover;
grant update (state, organization_id, code, message, stage, failures, last_seen_at, resolved_at, resolution) on
  dead_letters to headrace_ingest, headrace_process, headrace_recover, headrace_api;
grant update (deliveries, last_published_at) on dead_letters to headrace_ingest, headrace_process, headrace_recover;
grant update (replays, auto_replayed) on dead_letters to headrace_recover, headrace_api;

grant delete on dead_letter_groups to headrace_api;
grant select (code, stage, note) on dead_letter_groups to headrace_api;
grant insert (code, stage, note) on dead_letter_groups to headrace_api;
grant update (note, updated_at) on dead_letter_groups to headrace_api;

grant select on replay_batches to headrace_recover, headrace_api;
grant delete on replay_batches to headrace_recover;
grant insert (id, requested_by, selection, max_letters, rate_per_second, canary, force) on replay_batches to
  headrace_recover, headrace_api;
grant insert (automatic) on replay_batches to headrace_recover;
grant update (state, reason, next_send_at, ended_at) on replay_batches to headrace_recover, headrace_api;

grant select (batch_id, letter_id, state) on replays to headrace_recover, headrace_api;
grant select (sent_at) on replays to headrace_recover;
grant insert (batch_id, letter_id) on replays to headrace_recover, headrace_api;
grant update (state, sent_at, ended_at) on replays to headrace_recover, headrace_api;

create policy process_sees_all on embedding_claims to headrace_process using (true) with check (true);
create policy recover_sees_all on embedding_claims to headrace_recover using (true) with check (true);
grant select, delete on embedding_claims to headrace_process, headrace_recover;
grant insert (space_id, organization_id, text_hash, job_id, lease_epoch), update (job_id, lease_epoch)
  on embedding_claims to headrace_process;
-- A row is locked before it is removed, which is a matter of `update`.
grant update (lease_epoch) on embedding_claims to headrace_recover;

create policy process_sees_all on files_read to headrace_process using (true) with check (true);
grant select, insert (organization_id, content_sha256, reader, job_id), update (job_id)
  on files_read to headrace_process;

grant delete on dead_letters, replay_batches to headrace_recover;

grant delete on recover_runs to headrace_recover;
grant select (id, summary) on recover_runs to headrace_recover, headrace_api;
grant select (started_at) on recover_runs to headrace_recover;
grant insert (started_at, summary) on recover_runs to headrace_recover;
grant update (id) on recover_runs to headrace_recover;

grant select on rate_limits to headrace_process, headrace_api;
grant insert (model) on rate_limits to headrace_process, headrace_api;
grant update (rate, seeking, blocked_until, next_turn_at, refused_at, requests_until, tokens_until) on rate_limits to
  headrace_process, headrace_api;

grant delete on model_calls to headrace_process, headrace_api;
grant select (id, model, until), insert (id, model, until) on model_calls to headrace_process, headrace_api;

grant delete on chunks to headrace_ingest, headrace_process, headrace_recover, headrace_api;
grant select (job_id, document_id, organization_id, text_hash) on chunks to headrace_ingest, headrace_process,
  headrace_recover, headrace_api;
grant select (ordinal, text, locator) on chunks to headrace_process;
grant insert (job_id, ordinal, document_id, organization_id, text, locator, text_hash) on chunks to headrace_process;
grant update (organization_id) on chunks to headrace_ingest, headrace_process, headrace_recover, headrace_api;

grant select, delete on embeddings to headrace_recover;
grant select (space_id, organization_id, text_hash, embedding) on embeddings to headrace_ingest, headrace_process,
  headrace_api;
grant insert (space_id, organization_id, text_hash, embedding) on embeddings to headrace_ingest, headrace_process,
  headrace_recover, headrace_api;

------------------------------------------------------------------------------------------ money

grant update (tokens_saved, cost_micros, cost_saved_micros, pages_read, page_tokens, page_cost_micros)
  on document_processing_jobs to headrace_process;

-- Amounts are millionths of the currency of the price table.
create table budgets (
  organization_id text primary key,
  amount_micros   bigint not null check (amount_micros >= 0), -- per day
  updated_at      timestamptz not null default headrace_now()
);
create table budget_days (
  organization_id text not null,
  day             date not null, -- of UTC
  spent_micros    bigint not null default 0 check (spent_micros >= 0), -- what is reserved counts
  primary key (organization_id, day)
);
create index jobs_out_of_budget on document_processing_jobs (organization_id)
  where status = 'pending' and deferred_reason = 'BUDGET_EXHAUSTED';

do $$
declare
  tenant_table text;
begin
  foreach tenant_table in array array['budgets', 'budget_days'] loop
    execute format('alter table %I enable row level security', tenant_table);
    execute format('alter table %I force row level security', tenant_table);
    execute format('create policy services_see_all on %I to headrace_service using (true) with check (true)', tenant_table);
    execute format('create policy process_sees_all on %I to headrace_process using (true) with check (true)', tenant_table);
    execute format('create policy api_sees_all on %I to headrace_api using (true) with check (true)', tenant_table);
    execute format($policy$create policy tenants_see_their_own on %I for select to headrace_tenant
      using (organization_id = current_setting('headrace.organization_id', true))$policy$, tenant_table);
    execute format('grant select on %I to headrace_tenant', tenant_table);
  end loop;
end $$;
grant select (organization_id, amount_micros) on budgets to headrace_process;
grant select (organization_id, amount_micros), insert (organization_id, amount_micros),
  update (amount_micros, updated_at), delete on budgets to headrace_api;
grant select (organization_id, day, spent_micros), insert (organization_id, day, spent_micros), update (spent_micros)
  on budget_days to headrace_process;
grant select on budget_days to headrace_api;

-- Imports name themselves on the jobs they make; and the process service removes what is old when it is asked to.
grant insert (entity_type, entity_id) on document_processing_jobs to headrace_ingest;
grant delete on outbox, job_events, dead_letters, replay_batches, recover_runs to headrace_process;
grant select (resolved_at) on dead_letters to headrace_process;
grant select on replay_batches to headrace_process;
grant update (state) on replay_batches to headrace_process;
grant select (batch_id, state) on replays to headrace_process;
grant select (id, started_at), update (id) on recover_runs to headrace_process;
