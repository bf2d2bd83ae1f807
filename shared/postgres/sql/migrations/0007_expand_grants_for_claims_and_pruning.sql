-- What the roles of 0006 need for claims on texts, and for removing letters and replays that ended long ago.

create policy process_sees_all on embedding_claims to headrace_process using (true) with check (true);
create policy recover_sees_all on embedding_claims to headrace_recover using (true) with check (true);
grant select, delete on embedding_claims to headrace_process, headrace_recover;
grant insert (space_id, organization_id, text_hash, job_id, lease_epoch), update (job_id, lease_epoch)
  on embedding_claims to headrace_process;
-- A row is locked before it is removed, which is a matter of `update`.
grant update (lease_epoch) on embedding_claims to headrace_recover;

grant delete on dead_letters, replay_batches to headrace_recover;
