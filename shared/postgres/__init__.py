"""The Postgres adapter: asyncpg and pgvector, and all SQL of the product (in `sql/`, named and described).

`pool` lends connections, `queries` loads the SQL, `errors` translates once, `migrate` brings a schema up to date. Then
one module per port: `documents` (decisions), `jobs` (the queue, as workers use it), `chunks` (search), `outbox`,
`recover` (repair), `directory` (jobs as people see them), `dead_letters`. `rows` turns records into the model.
"""
