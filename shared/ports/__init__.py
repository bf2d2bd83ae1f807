"""What the product needs from the outside, as protocols. Handlers see these, never the adapters behind them.

`storage` (the bucket), `broker` (events in and out), `models` (extraction and embedding), `stores` (Postgres).
Each docstring states what holds after a call, what it raises, and whether it may be called twice. A contract suite in
`tests/contracts/` runs on every implementation.
"""
