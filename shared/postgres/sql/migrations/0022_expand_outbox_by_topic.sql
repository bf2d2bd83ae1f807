-- outside a transaction
-- Each topic is published by itself: one that refuses must not hold up the others, however much it has waiting.

create index concurrently if not exists outbox_unsent_of_topic on outbox (topic, id) where published_at is null;
