"""What a push says: wrapped with all its fields in both spellings, bare with headers, and what is refused."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from multidict import CIMultiDict

from shared.errors import InvalidRequest
from shared.pubsub.push import read

SUBSCRIPTION = "projects/p/subscriptions/headrace-uploads-ingest"


def body(message: dict[str, Any] | None = None, **said: Any) -> bytes:
    """Return a wrapped push, with changes; None leaves a field out."""
    told = {
        "data": base64.b64encode(b"hello").decode(),
        "attributes": {"eventType": "OBJECT_FINALIZE"},
        "messageId": "7",
        "message_id": "7",
        "publishTime": "2021-02-26T19:13:55.749Z",
        "publish_time": "2021-02-26T19:13:55.749Z",
        "orderingKey": "key",
    } | (message or {})
    whole = {
        "message": {name: value for name, value in told.items() if value is not None},
        "subscription": SUBSCRIPTION,
        "deliveryAttempt": 5,
    } | said
    return json.dumps({name: value for name, value in whole.items() if value is not None}).encode()


def wrapped(text: bytes) -> Any:
    """Read a push that comes without metadata in its headers."""
    return read("uploads-ingest", CIMultiDict({"Content-Type": "application/json"}), text)


def test_a_wrapped_push_is_read_whole() -> None:
    """Every field of the envelope reaches the handler."""
    delivery = wrapped(body())
    assert (delivery.subscription, delivery.message_id, delivery.delivery_attempt) == ("uploads-ingest", "7", 5)
    assert delivery.published_at == datetime(2021, 2, 26, 19, 13, 55, 749000, tzinfo=UTC)
    assert (delivery.data, delivery.attributes) == (b"hello", {"eventType": "OBJECT_FINALIZE"})
    assert delivery.ordering_key == "key"


@pytest.mark.parametrize("left_out", [("messageId", "publishTime"), ("message_id", "publish_time")])
def test_either_spelling_will_do(left_out: tuple[str, str]) -> None:
    """Id and time are sent in two spellings; one of them is enough."""
    assert wrapped(body(dict.fromkeys(left_out))) == wrapped(body())


def test_what_may_be_missing_may_be_missing() -> None:
    """A message of attributes only, on a subscription that does not count deliveries."""
    delivery = wrapped(body({"data": None, "orderingKey": None}, deliveryAttempt=None))
    assert (delivery.data, delivery.ordering_key, delivery.delivery_attempt) == (b"", "", 0)
    assert wrapped(body({"attributes": None})).attributes == {}


def test_unknown_fields_are_ignored() -> None:
    """What Pub/Sub adds one day breaks nothing."""
    assert wrapped(body({"newField": 1}, newer={"x": []})) == wrapped(body())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"hello",
        b"[]",
        b"\xff\xfe",
        b'{"message": {}}',
        b"[" * 10_000,
        body({"messageId": None, "message_id": None}),
        body({"messageId": "", "message_id": None}),
        body({"data": "no base64!"}),
        body({"attributes": {"a": 1}}),
        body({"publishTime": "yesterday"}),
        body(deliveryAttempt=-1),
        body(subscription=None),
        body(subscription="projects/p/subscriptions/headrace-work-bulk"),
        body(subscription="projects/p/subscriptions/uploads-ingest"),
    ],
)
def test_what_is_no_push_of_this_subscription_is_refused(text: bytes) -> None:
    """Whatever it is instead, it ends as one stable code and shows nothing of its content."""
    with pytest.raises(InvalidRequest) as refused:
        wrapped(text)
    assert refused.value.code == "MALFORMED_PUSH"
    assert len(refused.value.message) < 300


def bare(**headers: str) -> CIMultiDict[str]:
    """Return the headers of a push without a wrapper, as they arrive behind a proxy."""
    said = {
        "host": "service.example",
        "user-agent": "CloudPubSub-Google",
        "content-length": "5",
        "authorization": "Bearer x",
        "x-forwarded-for": "203.0.113.9",
        "x-goog-pubsub-subscription-name": SUBSCRIPTION,
        "x-goog-pubsub-message-id": "7",
        "x-goog-pubsub-publish-time": "2021-02-26T19:13:55.749Z",
    }
    return CIMultiDict(said | headers)


def test_a_bare_push_is_read_from_its_headers() -> None:
    """The body is the data; attributes get the spelling back that headers took from them, and HTTP's own stay out."""
    headers = bare(**{"objectid": "a.txt", "BUCKETID": "uploads", "event_type": "x", "x-goog-pubsub-ordering-key": "k"})
    delivery = read("uploads-ingest", headers, b'{"not": "an envelope"}')
    assert delivery.data == b'{"not": "an envelope"}'
    assert delivery.attributes == {"objectId": "a.txt", "bucketId": "uploads", "event_type": "x"}
    assert (delivery.message_id, delivery.ordering_key, delivery.delivery_attempt) == ("7", "k", 0)
    assert delivery.published_at == datetime(2021, 2, 26, 19, 13, 55, 749000, tzinfo=UTC)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-goog-pubsub-subscription-name": "projects/p/subscriptions/headrace-work-bulk"},
        {"x-goog-pubsub-publish-time": "yesterday"},
        {"x-goog-pubsub-delivery-attempt": "many"},
    ],
)
def test_a_bare_push_that_is_wrong_is_refused(headers: dict[str, str]) -> None:
    """Of another subscription, or with metadata that are none."""
    with pytest.raises(InvalidRequest, match="no push of this subscription"):
        read("uploads-ingest", bare(**headers), b"")
