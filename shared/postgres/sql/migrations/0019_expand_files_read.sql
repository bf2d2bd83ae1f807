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
alter table files_read enable row level security;
alter table files_read force row level security;
create policy services_see_all on files_read to headrace_service using (true) with check (true);
create policy process_sees_all on files_read to headrace_process using (true) with check (true);
grant select, insert (organization_id, content_sha256, reader, job_id), update (job_id)
  on files_read to headrace_process;
grant select (locator) on chunks to headrace_process;
