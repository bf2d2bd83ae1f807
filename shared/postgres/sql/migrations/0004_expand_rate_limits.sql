-- Models that refuse calls for being too many, and the pace that all processes keep together.
create table rate_limits (
  model         text primary key,
  rate          double precision check (rate > 0), -- calls per second of all processes; null: being made
  seeking       boolean,
  blocked_until timestamptz,
  next_turn_at  timestamptz,
  refused_at    timestamptz
);
