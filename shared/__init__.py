"""What two services use, or the contract between them. This package knows no service.

Read it in this order:

1. `errors`, `clock`, `ids`: the words everything else is written in.
2. `model`: documents, jobs with their stages and legal moves, locators, media types, embedding spaces.
3. `events`: what travels between services, versioned.
4. `ports`, `settings`: what a service needs from the outside, as protocols; the environment, read once.
5. `telemetry`: logs, traces, metrics.
6. `storage`, `pubsub`, `postgres`, `embedding`: one adapter per vendor. They never import each other.
7. `worker`: what every consumer does (outcome, retry, lease, relay).
8. `runtime`: starts and stops a service. `local`: the embedded servers of a laptop.
"""
