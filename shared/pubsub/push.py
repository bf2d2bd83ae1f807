"""What a push request says: the delivery in it, wrapped in JSON or bare, or why there is none.

Wrapped is what the product's subscriptions use. Without the wrapper, metadata and attributes are headers, and names of
headers lose their upper case on the way; those that handlers know get theirs back.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from datetime import datetime

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from shared.errors import InvalidRequest
from shared.ports.broker import Delivery
from shared.pubsub.topics import PREFIX

MAX_BODY_BYTES = 16 * 1024 * 1024
"""A message has 10 MB at most, a third more in base64, and up to 100 attributes of 1 KB."""

_WRITE_METADATA = (
    "a subscription without a wrapper needs `gcloud pubsub subscriptions update ... --push-no-wrapper "
    "--push-no-wrapper-write-metadata`"
)
_METADATA = "x-goog-pubsub-"
_SPELLINGS = {
    name.lower(): name
    for name in (
        *("bucketId", "objectId", "eventType", "objectGeneration", "eventTime", "payloadFormat", "notificationConfig"),
        *("overwroteGeneration", "overwrittenByGeneration"),
    )
}
"""The attributes of bucket notifications; all of ours are written in lower case."""

_OF_HTTP = frozenset(
    {
        *("accept", "accept-encoding", "authorization", "connection", "content-encoding", "content-length"),
        *("content-type", "date", "forwarded", "from", "host", "te", "transfer-encoding", "user-agent", "via"),
    }
)
_OF_PROXIES = ("x-forwarded-", "x-cloud-trace-", "x-serverless-", "x-goog-")


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore")

    message_id: str = Field(validation_alias=AliasChoices("messageId", "message_id"), min_length=1)
    publish_time: datetime | None = Field(None, validation_alias=AliasChoices("publishTime", "publish_time"))
    ordering_key: str = Field("", validation_alias=AliasChoices("orderingKey", "ordering_key"))
    attributes: dict[str, str] | None = None
    data: str | None = None


class _Wrapped(BaseModel):
    model_config = ConfigDict(extra="ignore")

    message: _Message
    subscription: str
    delivery_attempt: int = Field(0, ge=0, validation_alias=AliasChoices("deliveryAttempt", "delivery_attempt"))


def read(subscription: str, headers: Mapping[str, str], body: bytes) -> Delivery:
    """Return the delivery in a push for that logical subscription. Look-up in `headers` must ignore the case.

    Raises:
        InvalidRequest: `MALFORMED_PUSH`: this is no push of Pub/Sub, or one of another subscription.
    """
    if f"{_METADATA}message-id" in headers:
        return _bare(subscription, headers, body)
    if not body.lstrip().startswith(b"{") or b'"message"' not in body:
        # What an unwrapped payload looks like whose metadata were not asked for: without them it has no identity.
        raise _malformed(f"it is neither wrapped nor has it headers of metadata; {_WRITE_METADATA}")
    try:
        said = _Wrapped.model_validate_json(body)
        data = b64decode(said.message.data or "", validate=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise _malformed(f"{'.'.join(str(part) for part in first['loc'])[:64] or 'body'}: {first['msg']}") from None
    except binascii.Error:
        raise _malformed("message.data is not base64") from None
    _check_address(subscription, said.subscription)
    return Delivery(
        subscription=subscription,
        message_id=said.message.message_id,
        published_at=said.message.publish_time,
        data=data,
        attributes=said.message.attributes or {},
        ordering_key=said.message.ordering_key,
        delivery_attempt=said.delivery_attempt,
    )


def _bare(subscription: str, headers: Mapping[str, str], body: bytes) -> Delivery:
    def said(name: str) -> str:
        return headers.get(_METADATA + name, "")

    _check_address(subscription, said("subscription-name"))
    try:
        published_at = datetime.fromisoformat(said("publish-time")) if said("publish-time") else None
        attempt = int(said("delivery-attempt") or 0)
    except ValueError:
        raise _malformed("its headers hold no time or number where there should be one") from None
    return Delivery(
        subscription=subscription,
        message_id=said("message-id"),
        published_at=published_at,
        data=body,
        attributes={
            _SPELLINGS.get(name.lower(), name.lower()): value
            for name, value in headers.items()
            if name.lower() not in _OF_HTTP and not name.lower().startswith(_OF_PROXIES)
        },
        ordering_key=said("ordering-key"),
        delivery_attempt=attempt,
    )


def _check_address(subscription: str, path: str) -> None:
    # By the last part only: the project may be written as its id or as its number.
    if path.rpartition("/")[2] != PREFIX + subscription:
        raise _malformed(f"it comes from another subscription than {PREFIX}{subscription}")


def _malformed(what: str) -> InvalidRequest:
    return InvalidRequest(f"this request is no push of this subscription: {what}.", code="MALFORMED_PUSH")
