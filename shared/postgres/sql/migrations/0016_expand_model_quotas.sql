-- Quotas of models that all processes keep together: requests, tokens, and calls under way.

alter table rate_limits
  add column requests_until timestamptz, -- until when the requests that were taken are being earned
  add column tokens_until timestamptz;

-- Calls under way, of models that have a bound on them. Those of a dead process are free again after `until`.
create table model_calls (
  id    uuid primary key,
  model text not null,
  until timestamptz not null
);
create index model_calls_of_model on model_calls (model, until);

grant update (requests_until, tokens_until) on rate_limits to headrace_process, headrace_api;
grant delete on model_calls to headrace_process, headrace_api;
grant select (id, model, until), insert (id, model, until) on model_calls to headrace_process, headrace_api;
