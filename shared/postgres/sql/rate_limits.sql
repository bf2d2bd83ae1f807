-- What is known about the limits of models; the arithmetic is in shared/model/pace.py.

-- name: read_pace
-- A look that locks nothing: usually there is no row, or the next turn is not due.
select *, headrace_now() as now from rate_limits where model = :model and rate is not null

-- name: lock_pace
-- One process at a time takes a turn. The time is that after the wait for the lock, but never before the statement's.
select *, headrace_now() + (clock_timestamp() - statement_timestamp()) as now
from rate_limits where model = :model for update

-- name: add_pace
-- A row without figures, to be locked.
insert into rate_limits (model) values (:model) on conflict (model) do nothing

-- name: write_pace
-- The pace after a turn or a refusal.
update rate_limits set
  rate = :rate, seeking = :seeking, blocked_until = :blocked_until, next_turn_at = :next_turn_at,
  refused_at = :refused_at
where model = :model

-- name: write_spent
-- What a quota allows from when on.
update rate_limits set requests_until = :requests_until, tokens_until = :tokens_until where model = :model

-- name: give_tokens_back
-- A call has used fewer tokens than it took; more, if the interval is negative.
update rate_limits set tokens_until = tokens_until - :unused::interval where model = :model

-- name: forget_dead_calls
-- Calls whose process died, or could not say that they are over.
delete from model_calls where model = :model and until <= :now

-- name: take_place
-- A place among the calls under way, if one is free; the model's row is locked.
insert into model_calls (id, model, until)
select :call::uuid, :model::text, :until::timestamptz
where (select count(*) from model_calls where model = :model and until > :now) < :most::bigint
returning id

-- name: free_place
-- The call is over.
delete from model_calls where id = :call
