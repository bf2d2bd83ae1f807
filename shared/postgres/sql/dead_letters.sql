-- Failures that can be listed and replayed.

-- name: record_message
-- One row per message; the same one again raises its count.
insert into dead_letters (id, identity, origin, subscription, message_id, published_at, body, attributes, code, message)
values (:id, :identity, 'message', :subscription, :message_id, :published_at, :body, :attributes, :code, :message)
on conflict (identity) do update set
  state = 'open', failures = dead_letters.failures + 1, last_seen_at = headrace_now(), resolved_at = null,
  code = excluded.code, message = excluded.message
returning id
