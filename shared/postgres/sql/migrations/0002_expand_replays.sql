-- Replaying dead letters: what is known of each, and batches that carry a replay out step by step.

alter table dead_letters
  add column deliveries        integer,
  add column last_published_at timestamptz,
  add column auto_replayed     boolean not null default false,
  add column resolution        text;

-- The body of a message that is replayed as it was, which need not be JSON.
alter table outbox add column data bytea;

create index dead_letters_by_state on dead_letters (state, id);
-- What may be our own outage's doing, and is replayed once without being asked.
create index dead_letters_undelivered on dead_letters (id)
  where origin = 'message' and state = 'open' and replays = 0 and not auto_replayed;

-- A request to replay letters, carried out step by step: each step may be repeated after a crash.
create table replay_batches (
  id              uuid primary key,
  state           text not null default 'requested'
                  check (state in ('requested', 'canary', 'running', 'done', 'stopped')),
  requested_by    text not null,
  selection       jsonb not null,            -- which letters: ids or a filter
  max_letters     integer check (max_letters > 0),
  rate_per_second double precision not null check (rate_per_second > 0),
  canary          boolean not null default false,
  force           boolean not null default false,
  automatic       boolean not null default false,
  reason          text,                      -- why it was stopped
  next_send_at    timestamptz not null default headrace_now(),
  created_at      timestamptz not null default headrace_now(),
  ended_at        timestamptz
);
create index replay_batches_unfinished on replay_batches (created_at) where state in ('requested', 'canary', 'running');
create unique index replay_batches_one_automatic on replay_batches (automatic)
  where automatic and state in ('requested', 'canary', 'running');

-- One replay of one letter. At most one of a letter is outstanding, whoever asks.
create table replays (
  batch_id  uuid not null references replay_batches (id) on delete cascade,
  letter_id uuid not null references dead_letters (id) on delete cascade,
  state     text not null default 'staged'
            check (state in ('staged', 'sent', 'resolved', 'failed', 'superseded', 'unknown', 'dropped')),
  sent_at   timestamptz,
  ended_at  timestamptz,
  primary key (batch_id, letter_id)
);
create unique index replays_one_outstanding on replays (letter_id) where state in ('staged', 'sent');
create index replays_by_state on replays (batch_id, state, letter_id);
create index replays_sent on replays (sent_at) where state = 'sent';
create index replays_of_letter on replays (letter_id);

-- What people wrote about a cause; the stage is empty where there is none.
create table dead_letter_groups (
  code       text not null,
  stage      text not null default '',
  note       text not null,
  updated_at timestamptz not null default headrace_now(),
  primary key (code, stage)
);

-- Whoever moves a letter out of `replaying` ends its outstanding replay: no transaction can forget it.
create function headrace_end_replay() returns trigger language plpgsql as $$
begin
  update replays set ended_at = headrace_now(), state = case
      when state = 'staged' then 'dropped'
      when new.state = 'open' then 'failed'
      when new.state = 'resolved' then 'resolved'
      else 'dropped' end
  where letter_id = new.id and state in ('staged', 'sent');
  return null;
end $$;
create trigger dead_letters_end_replay after update on dead_letters
  for each row when (old.state = 'replaying' and new.state <> 'replaying') execute function headrace_end_replay();
