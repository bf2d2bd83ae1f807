"""The raw protobuf classes of the Pub/Sub API.

The published client wraps them in proto-plus, whose attribute access costs more than all of the broker's work; the
classes below are what it wraps.
"""

from typing import Any, TypeAlias

from google.protobuf import empty_pb2
from google.pubsub_v1 import types

Raw: TypeAlias = Any
"""A raw protobuf message. The classes are made at run time and have no static type."""

Empty: Any = empty_pb2.Empty  # type: ignore[attr-defined] # made at run time
PubsubMessage: Any = types.PubsubMessage.pb()
ReceivedMessage: Any = types.ReceivedMessage.pb()
Topic: Any = types.Topic.pb()
Subscription: Any = types.Subscription.pb()

GetTopicRequest: Any = types.GetTopicRequest.pb()
UpdateTopicRequest: Any = types.UpdateTopicRequest.pb()
DeleteTopicRequest: Any = types.DeleteTopicRequest.pb()
ListTopicsRequest: Any = types.ListTopicsRequest.pb()
ListTopicsResponse: Any = types.ListTopicsResponse.pb()
ListTopicSubscriptionsRequest: Any = types.ListTopicSubscriptionsRequest.pb()
ListTopicSubscriptionsResponse: Any = types.ListTopicSubscriptionsResponse.pb()
PublishRequest: Any = types.PublishRequest.pb()
PublishResponse: Any = types.PublishResponse.pb()

GetSubscriptionRequest: Any = types.GetSubscriptionRequest.pb()
UpdateSubscriptionRequest: Any = types.UpdateSubscriptionRequest.pb()
DeleteSubscriptionRequest: Any = types.DeleteSubscriptionRequest.pb()
ListSubscriptionsRequest: Any = types.ListSubscriptionsRequest.pb()
ListSubscriptionsResponse: Any = types.ListSubscriptionsResponse.pb()
PullRequest: Any = types.PullRequest.pb()
PullResponse: Any = types.PullResponse.pb()
StreamingPullRequest: Any = types.StreamingPullRequest.pb()
StreamingPullResponse: Any = types.StreamingPullResponse.pb()
AcknowledgeRequest: Any = types.AcknowledgeRequest.pb()
ModifyAckDeadlineRequest: Any = types.ModifyAckDeadlineRequest.pb()
SeekRequest: Any = types.SeekRequest.pb()
ModifyPushConfigRequest: Any = types.ModifyPushConfigRequest.pb()
DetachSubscriptionRequest: Any = types.DetachSubscriptionRequest.pb()
DetachSubscriptionResponse: Any = types.DetachSubscriptionResponse.pb()

Snapshot: Any = types.Snapshot.pb()
CreateSnapshotRequest: Any = types.CreateSnapshotRequest.pb()
GetSnapshotRequest: Any = types.GetSnapshotRequest.pb()
UpdateSnapshotRequest: Any = types.UpdateSnapshotRequest.pb()
DeleteSnapshotRequest: Any = types.DeleteSnapshotRequest.pb()
ListSnapshotsRequest: Any = types.ListSnapshotsRequest.pb()
ListSnapshotsResponse: Any = types.ListSnapshotsResponse.pb()
ListTopicSnapshotsRequest: Any = types.ListTopicSnapshotsRequest.pb()
ListTopicSnapshotsResponse: Any = types.ListTopicSnapshotsResponse.pb()
SeekResponse: Any = types.SeekResponse.pb()
