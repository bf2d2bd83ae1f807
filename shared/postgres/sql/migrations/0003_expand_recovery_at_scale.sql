-- What claiming, ringing, rescuing and pruning need in order to cost index time whatever the number of rows.

-- A job that waits for its time (a retry, a deferral) is parked: kept out of the way of the claim, which reads the head
-- of a tenant's queue and would otherwise step over every one of them. Whoever rings for what became due brings it back.
alter table document_processing_jobs add column parked boolean not null default false;
update document_processing_jobs set parked = true where status = 'pending' and next_attempt_at > headrace_now();

create function headrace_park() returns trigger language plpgsql as $$
begin
  new.parked := new.status = 'pending' and new.next_attempt_at > headrace_now();
  return new;
end $$;

create trigger jobs_park before insert or update of status, next_attempt_at on document_processing_jobs
  for each row execute function headrace_park();

drop index jobs_queue;
create index jobs_queue on document_processing_jobs
  (lane, quarantined, organization_id, parked, priority desc, created_at, id) where status = 'pending';
create index jobs_parked on document_processing_jobs (next_attempt_at) where status = 'pending' and parked;
create index jobs_unrung on document_processing_jobs (next_attempt_at)
  where status = 'pending' and (last_rung_at is null or last_rung_at < next_attempt_at);
create index jobs_rung on document_processing_jobs
  (lane, quarantined, least(ring_count, 2), greatest(last_rung_at, next_attempt_at)) where status = 'pending';
-- With the id, so that a run can step past those that it cannot rescue now.
drop index jobs_leases;
create index jobs_leases on document_processing_jobs (lease_until, id) where status = 'processing';

create index outbox_published on outbox (published_at) where published_at is not null;
create index job_events_published on job_events (published_at) where published_at is not null;
create index documents_deleted on documents (deleted_at) where deleted_at is not null;

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
