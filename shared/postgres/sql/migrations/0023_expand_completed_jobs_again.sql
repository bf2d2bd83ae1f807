-- A generation that was taken for gone and is there again is indexed again, by the job that had completed it: there is
-- one for each generation.

create or replace function headrace_move_is_legal(from_status text, from_stage text, to_status text, to_stage text)
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

grant update (progress_total) on document_processing_jobs to headrace_ingest, headrace_recover, headrace_api;
