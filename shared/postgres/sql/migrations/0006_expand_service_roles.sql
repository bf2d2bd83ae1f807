-- A role for each service, with only the grants that its queries need. A service logs in as a user who is a member of
-- its role (`python -m shared.postgres.migrate` makes members) and owns nothing. Which queries each role is to answer,
-- and that no grant is superfluous, stands in tests/shared/postgres/test_roles.py. Roles belong to the whole cluster:
-- another database of it may have made them, or makes them at this moment.

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
-- the owner's rights, so that nobody else needs them.
alter function headrace_record_move() security definer set search_path = public, pg_temp;
alter function headrace_end_replay() security definer set search_path = public, pg_temp;
alter function headrace_add_space(text, text, integer, text, text, integer)
  security definer set search_path = public, pg_temp;
revoke execute on function headrace_add_space(text, text, integer, text, text, integer) from public;
grant execute on function headrace_add_space(text, text, integer, text, text, integer) to headrace_process;

-- Only the process service takes jobs and completes them; columns cannot say so, since others cancel and put back.
create function headrace_check_worker() returns trigger language plpgsql as $$
begin
  if pg_has_role(current_user, 'headrace_process', 'usage') or pg_has_role(current_user, 'headrace_service', 'usage') then
    return new;
  end if;
  raise exception 'only the process service moves jobs to %', new.status using errcode = 'insufficient_privilege';
end $$;
create trigger jobs_check_worker before update of status on document_processing_jobs
  for each row when (old.status <> new.status and new.status in ('processing', 'completed'))
  execute function headrace_check_worker();

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
grant update (metageneration, document_revision, organization_id, user_id, status, processing_stage, attempts,
  rescue_count, quarantined, next_attempt_at, deferred_since, last_rung_at, ring_count, lease_owner, lease_until,
  may_finish, checkpoint, progress_done, error_code, error_message, error_context, updated_at, completed_at) on
  document_processing_jobs to headrace_ingest, headrace_process, headrace_recover, headrace_api;
grant update (parked) on document_processing_jobs to headrace_ingest, headrace_process, headrace_recover;
grant update (deferred_reason) on document_processing_jobs to headrace_process, headrace_recover, headrace_api;
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

grant delete on recover_runs to headrace_recover;
grant select (id, summary) on recover_runs to headrace_recover, headrace_api;
grant select (started_at) on recover_runs to headrace_recover;
grant insert (started_at, summary) on recover_runs to headrace_recover;
grant update (id) on recover_runs to headrace_recover;

grant select on rate_limits to headrace_process, headrace_api;
grant insert (model) on rate_limits to headrace_process, headrace_api;
grant update (rate, seeking, blocked_until, next_turn_at, refused_at) on rate_limits to headrace_process,
  headrace_api;

grant delete on chunks to headrace_ingest, headrace_process, headrace_recover, headrace_api;
grant select (job_id, document_id, organization_id, text_hash) on chunks to headrace_ingest, headrace_process,
  headrace_recover, headrace_api;
grant select (ordinal, text) on chunks to headrace_process;
grant insert (job_id, ordinal, document_id, organization_id, text, locator, text_hash) on chunks to headrace_process;
grant update (organization_id) on chunks to headrace_ingest, headrace_process, headrace_recover, headrace_api;

grant select, delete on embeddings to headrace_recover;
grant select (space_id, organization_id, text_hash, embedding) on embeddings to headrace_ingest, headrace_process,
  headrace_api;
grant insert (space_id, organization_id, text_hash, embedding) on embeddings to headrace_ingest, headrace_process,
  headrace_recover, headrace_api;
