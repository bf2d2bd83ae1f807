"""A stand-in for Cloud Pub/Sub on one machine, in memory, for laptops and tests; never a part of the product.

It speaks the real gRPC and REST API, so that the ordinary clients work against it unchanged:

    broker.py        topics, subscriptions and their messages: a state machine on a clock, without any I/O
    subscription.py  leases, redelivery, ordering and dead letters of one subscription
    history.py       what can be sought back to: retained messages, snapshots
    server.py        the same over gRPC           rest.py  the same over HTTP/1
    push.py          the same by HTTP requests to a subscriber, with tokens that can be verified
    endpoint.py      `serve()`: both on one port, with timers and a topology that exists before the port opens
"""
