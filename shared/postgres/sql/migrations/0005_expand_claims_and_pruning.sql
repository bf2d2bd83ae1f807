-- Texts that are on their way to the model, and what pruning of ended letters and replays needs.

create index dead_letters_ended on dead_letters (resolved_at) where state in ('resolved', 'discarded');
create index replay_batches_ended on replay_batches (ended_at) where state in ('done', 'stopped');

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
alter table embedding_claims enable row level security;
alter table embedding_claims force row level security;
create policy services_see_all on embedding_claims to headrace_service using (true) with check (true);
