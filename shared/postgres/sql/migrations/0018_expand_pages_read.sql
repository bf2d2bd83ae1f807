-- What it took to have pages read by a model: how many, and their part of the job's tokens and money.
alter table document_processing_jobs
  add column pages_read integer, -- null: no model was there to read any
  add column page_tokens bigint not null default 0,
  add column page_cost_micros bigint not null default 0;
grant update (pages_read, page_tokens, page_cost_micros) on document_processing_jobs to headrace_process;

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
      'cost_saved_micros', case when new.status = 'completed' then nullif(new.cost_saved_micros, 0) end,
      'pages_read', case when new.status in ('completed', 'failed') then nullif(new.pages_read, 0) end,
      'refused_pages', case when new.status = 'completed' then new.result -> 'refused_pages' end)));
  return null;
end $$;
