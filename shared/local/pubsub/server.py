"""The broker as Pub/Sub v1 over gRPC: one table of methods, no generated code."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC
from typing import Any

import grpc

from shared.errors import HeadraceError
from shared.local.pubsub import wire
from shared.local.pubsub.broker import Broker
from shared.local.pubsub.lease import Consumer
from shared.local.pubsub.limits import MAX_MESSAGES, check_ack_deadline, invalid
from shared.local.pubsub.streaming import RESPONSE_BYTES, StreamingPull, fill_received
from shared.local.pubsub.wire import Raw

MAX_PULL_WAIT_SECONDS = 20.0
"""How long a unary pull waits for a first message; the service answers with nothing after a while, too."""

_rpc: Any = grpc  # its handler factories have no types

Method = Callable[[Raw], Awaitable[Raw]]


class Api:
    """The unary methods of Publisher and Subscriber, from request to response; shared by gRPC and REST.

    Every method raises a HeadraceError whose code names the status to answer.
    """

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.unary: dict[str, tuple[Any, Any, Method]] = {
            "Publisher/CreateTopic": (wire.Topic, wire.Topic, self._create_topic),
            "Publisher/GetTopic": (wire.GetTopicRequest, wire.Topic, self._get_topic),
            "Publisher/UpdateTopic": (wire.UpdateTopicRequest, wire.Topic, self._update_topic),
            "Publisher/ListTopics": (wire.ListTopicsRequest, wire.ListTopicsResponse, self._list_topics),
            "Publisher/DeleteTopic": (wire.DeleteTopicRequest, wire.Empty, self._delete_topic),
            "Publisher/ListTopicSubscriptions": (
                wire.ListTopicSubscriptionsRequest,
                wire.ListTopicSubscriptionsResponse,
                self._list_topic_subscriptions,
            ),
            "Publisher/Publish": (wire.PublishRequest, wire.PublishResponse, self._publish),
            "Subscriber/CreateSubscription": (
                wire.Subscription,
                wire.Subscription,
                self._create_subscription,
            ),
            "Subscriber/GetSubscription": (
                wire.GetSubscriptionRequest,
                wire.Subscription,
                self._get_subscription,
            ),
            "Subscriber/UpdateSubscription": (
                wire.UpdateSubscriptionRequest,
                wire.Subscription,
                self._update_subscription,
            ),
            "Subscriber/ListSubscriptions": (
                wire.ListSubscriptionsRequest,
                wire.ListSubscriptionsResponse,
                self._list_subscriptions,
            ),
            "Subscriber/DeleteSubscription": (
                wire.DeleteSubscriptionRequest,
                wire.Empty,
                self._delete_subscription,
            ),
            "Subscriber/Pull": (wire.PullRequest, wire.PullResponse, self._pull),
            "Subscriber/Acknowledge": (wire.AcknowledgeRequest, wire.Empty, self._acknowledge),
            "Subscriber/ModifyAckDeadline": (wire.ModifyAckDeadlineRequest, wire.Empty, self._modify_ack_deadline),
            "Subscriber/Seek": (wire.SeekRequest, wire.SeekResponse, self._seek),
            "Subscriber/ModifyPushConfig": (wire.ModifyPushConfigRequest, wire.Empty, self._modify_push_config),
            "Publisher/DetachSubscription": (
                wire.DetachSubscriptionRequest,
                wire.DetachSubscriptionResponse,
                self._detach_subscription,
            ),
            "Subscriber/CreateSnapshot": (wire.CreateSnapshotRequest, wire.Snapshot, self._create_snapshot),
            "Subscriber/GetSnapshot": (wire.GetSnapshotRequest, wire.Snapshot, self._get_snapshot),
            "Subscriber/UpdateSnapshot": (wire.UpdateSnapshotRequest, wire.Snapshot, self._update_snapshot),
            "Subscriber/DeleteSnapshot": (wire.DeleteSnapshotRequest, wire.Empty, self._delete_snapshot),
            "Subscriber/ListSnapshots": (wire.ListSnapshotsRequest, wire.ListSnapshotsResponse, self._list_snapshots),
            "Publisher/ListTopicSnapshots": (
                wire.ListTopicSnapshotsRequest,
                wire.ListTopicSnapshotsResponse,
                self._list_topic_snapshots,
            ),
        }

    async def _create_topic(self, request: Raw) -> Raw:
        return self.broker.create_topic(request)

    async def _get_topic(self, request: Raw) -> Raw:
        return self.broker.topic(request.topic)

    async def _update_topic(self, request: Raw) -> Raw:
        return self.broker.update_topic(request.topic, request.update_mask.paths)

    async def _list_topics(self, request: Raw) -> Raw:
        page, token = _page(self.broker.topics(request.project), request)
        return wire.ListTopicsResponse(topics=page, next_page_token=token)

    async def _delete_topic(self, request: Raw) -> Raw:
        self.broker.delete_topic(request.topic)
        return wire.Empty()

    async def _list_topic_subscriptions(self, request: Raw) -> Raw:
        page, token = _page(self.broker.topic_subscriptions(request.topic), request)
        return wire.ListTopicSubscriptionsResponse(subscriptions=page, next_page_token=token)

    async def _publish(self, request: Raw) -> Raw:
        ids = self.broker.publish(request.topic, request.messages, request.ByteSize())
        return wire.PublishResponse(message_ids=ids)

    async def _create_subscription(self, request: Raw) -> Raw:
        return self.broker.create_subscription(request)

    async def _get_subscription(self, request: Raw) -> Raw:
        return self.broker.subscription(request.subscription).config

    async def _update_subscription(self, request: Raw) -> Raw:
        return self.broker.update_subscription(request.subscription, request.update_mask.paths)

    async def _list_subscriptions(self, request: Raw) -> Raw:
        page, token = _page(self.broker.subscriptions(request.project), request)
        return wire.ListSubscriptionsResponse(subscriptions=page, next_page_token=token)

    async def _delete_subscription(self, request: Raw) -> Raw:
        self.broker.delete_subscription(request.subscription)
        return wire.Empty()

    async def _pull(self, request: Raw) -> Raw:
        subscription = self.broker.subscription(request.subscription)
        if request.max_messages < 1:
            raise invalid("A pull asks for at least one message.")
        changed = asyncio.Event()
        consumer = Consumer(
            wake=changed.set,
            ack_deadline_seconds=subscription.ack_deadline_seconds,
            max_messages=min(request.max_messages, MAX_MESSAGES),
        )
        subscription.check_pulled()
        subscription.tick()
        subscription.attach(consumer)
        response = wire.PullResponse()
        try:
            if not consumer.inbox and not request.return_immediately:
                async with asyncio.timeout(MAX_PULL_WAIT_SECONDS):
                    await changed.wait()
            if consumer.closed_by is not None:
                raise consumer.closed_by
            leases = consumer.take(MAX_MESSAGES, RESPONSE_BYTES)
            fill_received(subscription, leases, response.received_messages)
        except TimeoutError:
            pass  # an empty answer
        finally:
            subscription.detach(consumer)
        return response

    async def _acknowledge(self, request: Raw) -> Raw:
        self.broker.subscription(request.subscription).acknowledge(request.ack_ids)
        return wire.Empty()

    async def _modify_ack_deadline(self, request: Raw) -> Raw:
        check_ack_deadline(request.ack_deadline_seconds)
        subscription = self.broker.subscription(request.subscription)
        subscription.modify_ack_deadline(request.ack_ids, request.ack_deadline_seconds)
        return wire.Empty()

    async def _seek(self, request: Raw) -> Raw:
        match request.WhichOneof("target"):
            case "time":
                self.broker.seek_to_time(request.subscription, request.time.ToDatetime(UTC))
            case "snapshot":
                self.broker.seek_to_snapshot(request.subscription, request.snapshot)
            case _:
                raise invalid("A seek goes to a time or to a snapshot.")
        return wire.SeekResponse()

    async def _modify_push_config(self, request: Raw) -> Raw:
        config = wire.Subscription(name=request.subscription, push_config=request.push_config)
        self.broker.update_subscription(config, ["push_config"])
        return wire.Empty()

    async def _detach_subscription(self, request: Raw) -> Raw:
        self.broker.detach_subscription(request.subscription)
        return wire.DetachSubscriptionResponse()

    async def _create_snapshot(self, request: Raw) -> Raw:
        return self.broker.create_snapshot(request.name, request.subscription, dict(request.labels))

    async def _get_snapshot(self, request: Raw) -> Raw:
        return self.broker.snapshot(request.snapshot)

    async def _update_snapshot(self, request: Raw) -> Raw:
        return self.broker.update_snapshot(request.snapshot, request.update_mask.paths)

    async def _delete_snapshot(self, request: Raw) -> Raw:
        self.broker.delete_snapshot(request.snapshot)
        return wire.Empty()

    async def _list_snapshots(self, request: Raw) -> Raw:
        page, token = _page(self.broker.snapshots(request.project), request)
        return wire.ListSnapshotsResponse(snapshots=page, next_page_token=token)

    async def _list_topic_snapshots(self, request: Raw) -> Raw:
        page, token = _page(self.broker.topic_snapshots(request.topic), request)
        return wire.ListTopicSnapshotsResponse(snapshots=page, next_page_token=token)


def add_grpc(server: Any, api: Api) -> None:
    """Register the API on a `grpc.aio` server."""
    services: dict[str, dict[str, Any]] = {"Publisher": {}, "Subscriber": {}}
    for path, (request_class, response_class, method) in api.unary.items():
        service, name = path.split("/")
        services[service][name] = _rpc.unary_unary_rpc_method_handler(
            _unary(method),
            request_deserializer=request_class.FromString,
            response_serializer=response_class.SerializeToString,
        )
    services["Subscriber"]["StreamingPull"] = _rpc.stream_stream_rpc_method_handler(
        _streaming(api.broker),
        request_deserializer=wire.StreamingPullRequest.FromString,
        response_serializer=wire.StreamingPullResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        tuple(
            _rpc.method_handlers_generic_handler(f"google.pubsub.v1.{service}", handlers)
            for service, handlers in services.items()
        )
    )


def _unary(method: Method) -> Callable[[Raw, Any], Awaitable[Raw]]:
    async def handle(request: Raw, context: Any) -> Raw:
        try:
            return await method(request)
        except HeadraceError as error:
            await context.abort(_status(error), error.message)

    return handle


def _streaming(broker: Broker) -> Callable[[AsyncIterator[Raw], Any], Awaitable[None]]:
    async def handle(requests: AsyncIterator[Raw], context: Any) -> None:
        try:
            await StreamingPull(broker, requests).run(context)
        except HeadraceError as error:
            await context.abort(_status(error), error.message)

    return handle


def _status(error: HeadraceError) -> grpc.StatusCode:
    return getattr(grpc.StatusCode, error.code, grpc.StatusCode.INVALID_ARGUMENT)


def _page(items: list[Any], request: Raw) -> tuple[list[Any], str]:
    """Cut one page out of a list; the token is the position of the next one."""
    start = int(request.page_token) if request.page_token.isdecimal() else 0
    end = start + (request.page_size or len(items) or 1)
    return items[start:end], str(end) if end < len(items) else ""
