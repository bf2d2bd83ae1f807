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
