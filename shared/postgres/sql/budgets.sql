-- What organizations may spend on models in a day (of UTC), and what they have spent.

-- name: reserve
-- Counts an amount as spent, unless the day's budget is used up. Two at once do it one after the other, on one row.
with allowed as (
  select coalesce((select own.amount_micros from budgets own where own.organization_id = :organization_id),
                  :default_micros::bigint) as micros
)
insert into budget_days as today (organization_id, day, spent_micros)
select :organization_id, (headrace_now() at time zone 'UTC')::date, :micros from allowed
where allowed.micros is null or allowed.micros > 0
on conflict (organization_id, day) do update set spent_micros = today.spent_micros + excluded.spent_micros
  where coalesce(today.spent_micros < (select allowed.micros from allowed), true)
returning day

-- name: until_tomorrow
-- Seconds until the next day begins.
select extract(epoch from date_trunc('day', headrace_now() at time zone 'UTC') + interval '1 day'
  - headrace_now() at time zone 'UTC')::double precision

-- name: settle
-- What a call really cost, in place of what was reserved for it.
update budget_days set spent_micros = greatest(spent_micros + :difference_micros, 0)
where organization_id = :organization_id and day = :day

-- name: budgets_today
-- Organizations with a budget of their own, with spending today, or with jobs that wait for tomorrow.
select organization_id, own.amount_micros, coalesce(today.spent_micros, 0) as spent_micros,
  coalesce(waiting.jobs, 0) as waiting_jobs
from budgets own
full join (select * from budget_days where day = (headrace_now() at time zone 'UTC')::date) today
  using (organization_id)
full join (
  select organization_id, count(*) as jobs from document_processing_jobs
  where status = 'pending' and deferred_reason = 'BUDGET_EXHAUSTED' group by organization_id) waiting
  using (organization_id)
where :organization_id::text is null or organization_id = :organization_id
order by organization_id

-- name: set_budget
-- An organization's own budget.
insert into budgets (organization_id, amount_micros) values (:organization_id, :amount_micros)
on conflict (organization_id) do update set amount_micros = excluded.amount_micros, updated_at = headrace_now()

-- name: unset_budget
-- Back to the default.
delete from budgets where organization_id = :organization_id

-- name: resume_deferred
-- Some of what waited for tomorrow is looked at again, since the budget is another one. Without its reason it leaves the
-- index of those who wait, so that the next ones are not behind it.
update document_processing_jobs set
  next_attempt_at = headrace_now(), deferred_reason = null, updated_at = headrace_now()
where id = any (array(
  select id from document_processing_jobs
  where organization_id = :organization_id and status = 'pending' and deferred_reason = 'BUDGET_EXHAUSTED'
    and next_attempt_at > headrace_now()
  limit :limit for update skip locked))
