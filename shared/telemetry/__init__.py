"""What the product says about itself: `tracing` (spans), `metrics` (and the `instruments` they count on), `logs`.

Nothing here is global but the configuration of logs: each service has its own `Tracing` and `Metrics`, handed to its
parts by their constructors, so that several services live in one process and tests read what they wrote.
"""
