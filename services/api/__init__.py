"""The public service: answers people and programs, and changes nothing but the fate of single jobs.

In reading order: `settings`, `callers` (who asks), `schemas` (what is said), `route` (one endpoint as data), `routes/`
(the endpoints), `openapi` (the description made from them), `web` (all of it as one application), `app` (composition).
"""
