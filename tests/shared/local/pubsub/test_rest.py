"""The API over HTTP/1, as gcloud uses it."""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from shared.local.pubsub.endpoint import serve
from shared.local.pubsub.topology import SubscriptionSpec, Topology

SUBSCRIPTION = "projects/p/subscriptions/work"
TOPOLOGY = Topology(project="p", topics=("work",), subscriptions=(SubscriptionSpec(name="work", topic="work"),))


class Rest:
    """A caller of the REST API."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        """Return the status and the JSON of the answer."""
        async with asyncio.timeout(10), self._session.request(method, path, json=body) as response:
            return response.status, await response.json()


@pytest.fixture
async def rest() -> AsyncIterator[Rest]:
    """Call an endpoint with one topic and one subscription."""
    async with serve(topology=TOPOLOGY) as endpoint, aiohttp.ClientSession(f"http://{endpoint.address}") as session:
        yield Rest(session)


async def test_a_message_goes_round_over_rest(rest: Rest) -> None:
    """Publish, pull, give back and acknowledge work with JSON alone."""
    message = {"data": base64.b64encode(b"hello").decode(), "attributes": {"a": "1"}}
    _, published = await rest.call("POST", "/v1/projects/p/topics/work:publish", {"messages": [message]})
    _, pulled = await rest.call("POST", f"/v1/{SUBSCRIPTION}:pull", {"maxMessages": 5})
    (received,) = pulled["receivedMessages"]
    assert received["message"]["messageId"] == published["messageIds"][0]
    assert received["message"]["data"] == message["data"]
    nack = {"ackIds": [received["ackId"]], "ackDeadlineSeconds": 0}
    assert await rest.call("POST", f"/v1/{SUBSCRIPTION}:modifyAckDeadline", nack) == (200, {})
    _, again = await rest.call("POST", f"/v1/{SUBSCRIPTION}:pull", {"maxMessages": 5})
    ack = {"ackIds": [again["receivedMessages"][0]["ackId"]]}
    assert await rest.call("POST", f"/v1/{SUBSCRIPTION}:acknowledge", ack) == (200, {})
    empty = await rest.call("POST", f"/v1/{SUBSCRIPTION}:pull", {"maxMessages": 5, "returnImmediately": True})
    assert empty == (200, {})


async def test_a_seek_to_the_future_purges(rest: Rest) -> None:
    """The purge that operators know works here, too."""
    message = {"data": base64.b64encode(b"hello").decode()}
    await rest.call("POST", "/v1/projects/p/topics/work:publish", {"messages": [message]})
    assert await rest.call("POST", f"/v1/{SUBSCRIPTION}:seek", {"time": "2100-01-01T00:00:00Z"}) == (200, {})
    empty = await rest.call("POST", f"/v1/{SUBSCRIPTION}:pull", {"maxMessages": 5, "returnImmediately": True})
    assert empty == (200, {})
    assert (await rest.call("POST", f"/v1/{SUBSCRIPTION}:seek", {}))[0] == 400


async def test_snapshots_push_and_detach_work_over_rest(rest: Rest) -> None:
    """What gcloud asks for before, during and after an accident has its paths."""
    message = {"data": base64.b64encode(b"hello").decode()}
    await rest.call("POST", "/v1/projects/p/topics/work:publish", {"messages": [message]})
    snapshot = "projects/p/snapshots/before"
    status, taken = await rest.call("PUT", f"/v1/{snapshot}", {"subscription": SUBSCRIPTION, "labels": {"why": "test"}})
    assert (status, taken["topic"], taken["labels"]) == (200, "projects/p/topics/work", {"why": "test"})
    change = {"snapshot": {"name": snapshot, "labels": {"why": "kept"}}, "updateMask": "labels"}
    assert (await rest.call("PATCH", f"/v1/{snapshot}", change))[1]["labels"] == {"why": "kept"}
    assert (await rest.call("GET", f"/v1/{snapshot}"))[1]["name"] == snapshot
    assert len((await rest.call("GET", "/v1/projects/p/snapshots"))[1]["snapshots"]) == 1
    assert (await rest.call("GET", "/v1/projects/p/topics/work/snapshots"))[1] == {"snapshots": [snapshot]}
    await rest.call("POST", f"/v1/{SUBSCRIPTION}:seek", {"time": "2100-01-01T00:00:00Z"})
    assert await rest.call("POST", f"/v1/{SUBSCRIPTION}:seek", {"snapshot": snapshot}) == (200, {})
    _, pulled = await rest.call("POST", f"/v1/{SUBSCRIPTION}:pull", {"maxMessages": 5})
    assert pulled["receivedMessages"][0]["message"]["data"] == message["data"]
    push = {"pushConfig": {"pushEndpoint": "http://127.0.0.1:1/", "oidcToken": {"serviceAccountEmail": "a@b"}}}
    assert await rest.call("POST", f"/v1/{SUBSCRIPTION}:modifyPushConfig", push) == (200, {})
    _, refused = await rest.call("POST", f"/v1/{SUBSCRIPTION}:pull", {"maxMessages": 5})
    assert refused["error"]["status"] == "FAILED_PRECONDITION"
    wrong = {"pushConfig": {"pushEndpoint": "nowhere"}}
    assert (await rest.call("POST", f"/v1/{SUBSCRIPTION}:modifyPushConfig", wrong))[0] == 400
    assert await rest.call("POST", f"/v1/{SUBSCRIPTION}:detach") == (200, {})
    assert (await rest.call("GET", f"/v1/{SUBSCRIPTION}"))[1]["detached"]
    assert await rest.call("DELETE", f"/v1/{snapshot}") == (200, {})
    assert (await rest.call("GET", f"/v1/{snapshot}"))[0] == 404


async def test_topics_and_subscriptions_are_managed_over_rest(rest: Rest) -> None:
    """Create, read, change, list and delete."""
    assert (await rest.call("PUT", "/v1/projects/p/topics/other"))[0] == 200
    status, created = await rest.call(
        "PUT",
        "/v1/projects/p/subscriptions/other",
        {"topic": "projects/p/topics/other", "filter": 'attributes.a = "1"', "ackDeadlineSeconds": 20},
    )
    assert (status, created["ackDeadlineSeconds"]) == (200, 20)
    change = {
        "subscription": {
            "ackDeadlineSeconds": 30,
            "name": "projects/p/subscriptions/other",
            "deadLetterPolicy": {"deadLetterTopic": "projects/p/topics/work"},
        },
        "updateMask": "ackDeadlineSeconds,deadLetterPolicy",
    }
    _, changed = await rest.call("PATCH", "/v1/projects/p/subscriptions/other", change)
    assert changed["ackDeadlineSeconds"] == 30
    assert changed["deadLetterPolicy"]["maxDeliveryAttempts"] == 5
    assert changed["filter"] == 'attributes.a = "1"'
    _, page = await rest.call("GET", "/v1/projects/p/topics?pageSize=1")
    assert [topic["name"] for topic in page["topics"]] == ["projects/p/topics/other"]
    _, page = await rest.call("GET", f"/v1/projects/p/topics?pageSize=1&pageToken={page['nextPageToken']}")
    assert [topic["name"] for topic in page["topics"]] == ["projects/p/topics/work"]
    _, attached = await rest.call("GET", "/v1/projects/p/topics/other/subscriptions")
    assert attached == {"subscriptions": ["projects/p/subscriptions/other"]}
    assert (await rest.call("DELETE", "/v1/projects/p/subscriptions/other")) == (200, {})
    assert (await rest.call("GET", "/v1/projects/p/subscriptions/other"))[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "name"),
    [
        ("GET", "/v1/projects/p/topics/nowhere", None, 404, "NOT_FOUND"),
        ("PUT", "/v1/projects/p/topics/work", {}, 409, "ALREADY_EXISTS"),
        ("PUT", "/v1/projects/p/topics/x", {}, 400, "INVALID_ARGUMENT"),
        ("POST", "/v1/projects/p/topics/work:publish", {"messages": "many"}, 400, "INVALID_ARGUMENT"),
        ("POST", "/v1/projects/p/topics/work:publish", [], 400, "INVALID_ARGUMENT"),
    ],
)
async def test_errors_have_the_services_form(
    rest: Rest, method: str, path: str, body: object, status: int, name: str
) -> None:
    """Clients find code and status where they look for them."""
    answered, answer = await rest.call(method, path, body)
    assert answered == status
    assert (answer["error"]["code"], answer["error"]["status"]) == (status, name)


async def test_faults_can_be_asked_for_over_http(rest: Rest) -> None:
    """A test in another process can duplicate messages and let leases run out."""
    await rest.call("POST", "/fault", {"duplicate_next": 1})
    message = {"data": base64.b64encode(b"hello").decode()}
    await rest.call("POST", "/v1/projects/p/topics/work:publish", {"messages": [message]})
    for _ in range(2):
        _, pulled = await rest.call("POST", f"/v1/{SUBSCRIPTION}:pull", {"maxMessages": 5})
        assert len(pulled["receivedMessages"]) == 2
        assert await rest.call("POST", "/fault", {"expire_leases": SUBSCRIPTION}) == (200, {"expired": 2})
    assert (await rest.call("POST", "/fault", {"expire_leases": "projects/p/subscriptions/nowhere"}))[0] == 404
