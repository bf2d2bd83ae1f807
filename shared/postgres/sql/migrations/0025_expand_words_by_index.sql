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
