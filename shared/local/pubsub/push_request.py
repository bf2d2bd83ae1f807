"""What a push request says: a message wrapped in JSON, or its data as they are."""

import json
import re
from base64 import b64encode
from typing import Any

from shared.local.pubsub.lease import Lease
from shared.local.pubsub.subscription import Subscription
from shared.local.pubsub.tokens import TokenIssuer
from shared.local.pubsub.wire import Raw

USER_AGENT = "headrace-local-pubsub"

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[^\r\n\0]*")


def request_of(
    subscription: Subscription, config: Raw, lease: Lease, tokens: TokenIssuer
) -> tuple[str, dict[str, str], bytes]:
    """Return address, headers and body for one delivery."""
    if config.HasField("no_wrapper"):
        headers = _metadata(subscription, lease) if config.no_wrapper.write_metadata else {}
        body = bytes(lease.entry.message.data)
    else:
        headers = {"Content-Type": "application/json"}
        body = json.dumps(_wrapped(subscription, lease)).encode()
    headers["User-Agent"] = USER_AGENT
    if config.HasField("oidc_token"):
        audience = config.oidc_token.audience or config.push_endpoint
        token = tokens.token(email=config.oidc_token.service_account_email, audience=audience)
        headers["Authorization"] = f"Bearer {token}"
    return config.push_endpoint, headers, body


def _wrapped(subscription: Subscription, lease: Lease) -> dict[str, Any]:
    source = lease.entry.message
    published_at = source.publish_time.ToJsonString()
    message: dict[str, Any] = {
        # Both spellings, as in the service: consumers of either kind exist.
        "messageId": source.message_id,
        "message_id": source.message_id,
        "publishTime": published_at,
        "publish_time": published_at,
    }
    if source.data:
        message["data"] = b64encode(source.data).decode()
    if source.attributes:
        message["attributes"] = dict(source.attributes)
    if source.ordering_key:
        message["orderingKey"] = source.ordering_key
    body: dict[str, Any] = {"message": message, "subscription": subscription.config.name}
    if subscription.dead_letter_topic:  # without such a policy nobody counts
        body["deliveryAttempt"] = lease.attempt
    return body


def _metadata(subscription: Subscription, lease: Lease) -> dict[str, str]:
    message = lease.entry.message
    said = dict(message.attributes) | {
        "x-goog-pubsub-subscription-name": subscription.config.name,
        "x-goog-pubsub-message-id": message.message_id,
        "x-goog-pubsub-publish-time": message.publish_time.ToJsonString(),
    }
    if message.ordering_key:
        said["x-goog-pubsub-ordering-key"] = message.ordering_key
    # What HTTP cannot carry is left out, rather than a message that could never be delivered.
    return {
        name: value for name, value in said.items() if _HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value)
    }
