-- What jobs cost and save, and what organizations may spend in a day.

alter table document_processing_jobs add column cost_saved_micros bigint not null default 0;
grant update (tokens_saved, cost_micros, cost_saved_micros) on document_processing_jobs to headrace_process;

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

create or replace function headrace_record_move() returns trigger language plpgsql
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
      'cost_saved_micros', case when new.status = 'completed' then nullif(new.cost_saved_micros, 0) end)));
  return null;
end $$;
