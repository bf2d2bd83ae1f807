"""Pub/Sub: `topics` (names and policies as data), `publisher` and `puller` (the adapters), and their `errors`."""
