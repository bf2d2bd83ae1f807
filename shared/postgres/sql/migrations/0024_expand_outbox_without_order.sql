-- What asked for the oldest rows of all topics is gone. The planner would go on to take this index, and read past every
-- row of a topic that refuses. A service of the release before sorts its few unsent rows meanwhile.
drop index outbox_unsent;
