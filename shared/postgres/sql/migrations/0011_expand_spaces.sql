-- Which space is searched and which are filled is said by a row. Of the spaces that are there already, the newest is the
-- one that the settings name at present.

alter table embedding_spaces
  add column state text not null default 'filling' check (state in ('filling', 'active', 'retired')),
  add column activated_at timestamptz;
update embedding_spaces set
  state = case when id = (select max(id) from embedding_spaces) then 'active' else 'retired' end,
  activated_at = case when id = (select max(id) from embedding_spaces) then headrace_now() end;
create unique index embedding_spaces_one_active on embedding_spaces (state) where state = 'active';

create or replace function headrace_add_space(
  space_key text, space_model text, space_dimensions integer, space_metric text, space_task_type text, version integer)
returns smallint language plpgsql
security definer set search_path = public, pg_temp as $$
declare
  found_id smallint;
begin
  select id into found_id from embedding_spaces where key = space_key;
  if found_id is not null then return found_id; end if;
  perform pg_advisory_xact_lock(hashtext('headrace_add_space'));
  select id into found_id from embedding_spaces where key = space_key;
  if found_id is not null then return found_id; end if;
  insert into embedding_spaces (key, model, dimensions, metric, task_type, normaliser_version, state, activated_at)
  select space_key, space_model, space_dimensions, space_metric, space_task_type, version,
    case when first then 'active' else 'filling' end, case when first then headrace_now() end
  from (select not exists (select from embedding_spaces where state = 'active') as first) here
  returning id into found_id;
  execute format('create table embeddings_%s partition of embeddings for values in (%s)', found_id, found_id);
  execute format('create index embeddings_%s_hnsw on embeddings_%s using hnsw ((embedding::halfvec(%s)) halfvec_cosine_ops)',
    found_id, found_id, space_dimensions);
  return found_id;
end $$;

-- Removes a space that is not searched, with its vectors. Whoever calls it has bounded how long locks are waited for.
create function headrace_drop_space(space_id smallint) returns void language plpgsql
security definer set search_path = public, pg_temp as $$
begin
  perform pg_advisory_xact_lock(hashtext('headrace_add_space'));
  if exists (select from embedding_spaces where id = space_id and state = 'active') then
    raise exception 'space % is the one that is searched', space_id using errcode = 'object_in_use';
  end if;
  execute format('drop table if exists embeddings_%s', space_id);
  delete from embedding_claims claim where claim.space_id = headrace_drop_space.space_id;
  delete from embedding_spaces where id = space_id;
end $$;

revoke execute on function headrace_drop_space(smallint) from public;
grant execute on function headrace_drop_space(smallint) to headrace_api;
grant execute on function headrace_add_space(text, text, integer, text, text, integer) to headrace_api;
grant select on embedding_spaces to headrace_process, headrace_api;
grant update (state, activated_at) on embedding_spaces to headrace_api;
