-- Embedding spaces.

-- name: add_space
-- The id of a space; made with its partition and index when it is new.
select headrace_add_space(:key, :model, :dimensions, :metric, :task_type, :version)

-- name: find_space
-- The id of a space, if any vector was ever made in it.
select id from embedding_spaces where key = :key
