"""Push: what a subscriber is sent, which answers settle a message, and what happens to the others."""

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web
from google.api_core.exceptions import FailedPrecondition
from google.auth import jwt

from tests.contracts.pubsub_desk import PATIENCE_SECONDS, Desk, Feature, OnADesk, texts

ACCOUNT = "pusher@contract.iam.gserviceaccount.com"


@dataclass
class Pushed:
    """One request that arrived."""

    headers: dict[str, str]
    body: bytes

    @property
    def wrapped(self) -> dict[str, object]:
        """The JSON body."""
        document: dict[str, object] = json.loads(self.body)
        return document

    @property
    def text(self) -> str:
        """The data of the wrapped message."""
        return b64decode(self.wrapped["message"]["data"]).decode()  # type: ignore[index]


@dataclass
class Receiver:
    """A subscriber's HTTP server; answers with `statuses` in turn, then with 204, or not at all while `silent`."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    silent: bool = False
    arrived: asyncio.Queue[Pushed] = field(default_factory=asyncio.Queue)

    async def answer(self, request: web.Request) -> web.Response:
        """Take a request."""
        self.arrived.put_nowait(Pushed(dict(request.headers), await request.read()))
        while self.silent:
            await asyncio.Event().wait()  # until the caller has gone
        return web.Response(status=self.statuses.pop(0) if self.statuses else 204)

    async def next(self) -> Pushed:
        """Wait for the next request."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.arrived.get()

    async def take(self, desk: Desk, count: int) -> list[Pushed]:
        """Wait for so many requests, moving the clock where there is one: back-off is a matter of time."""
        taken: list[Pushed] = []
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(taken) < count:
                try:
                    async with asyncio.timeout(0.1):
                        taken.append(await self.arrived.get())
                except TimeoutError:
                    if Feature.CLOCK in desk.target.features:
                        await desk.target.advance(1.0)
        return taken


class PushContract(OnADesk):
    """Delivery by HTTP requests."""

    @pytest.fixture
    async def receiver(self) -> AsyncIterator[Receiver]:
        """Serve a subscriber on a free port."""
        receiver = Receiver()
        app = web.Application()
        app.router.add_post("/push", receiver.answer)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/push"
        try:
            yield receiver
        finally:
            await runner.cleanup()

    async def setup(
        self, desk: Desk, receiver: Receiver, config: dict[str, object] | None = None, **said: object
    ) -> None:
        """Create the topic and a subscription that pushes to the receiver."""
        await desk.setup(push_config={"push_endpoint": receiver.url, **(config or {})}, **said)

    async def test_a_message_is_pushed_in_an_envelope(self, desk: Desk, receiver: Receiver) -> None:
        """The body names the subscription and holds data, attributes, and id and time in both spellings."""
        await self.setup(desk, receiver)
        (message_id,) = await desk.publish("hello", colour="red")
        pushed = await receiver.next()
        assert pushed.headers["Content-Type"].startswith("application/json")
        message = pushed.wrapped["message"]
        assert isinstance(message, dict)
        assert (pushed.text, message["attributes"]) == ("hello", {"colour": "red"})
        assert (message["messageId"], message["message_id"]) == (message_id, message_id)
        assert message["publishTime"] == message["publish_time"]
        assert pushed.wrapped["subscription"] == desk.subscription
        assert "deliveryAttempt" not in pushed.wrapped

    async def test_what_is_refused_comes_again(self, desk: Desk, receiver: Receiver) -> None:
        """A status that is no success is a nack; after one that is, nothing comes any more."""
        receiver.statuses = [500, 404, 200]
        await self.setup(desk, receiver)
        await desk.publish("again")
        assert [pushed.text for pushed in await receiver.take(desk, 3)] == ["again"] * 3
        assert receiver.arrived.empty()

    @pytest.mark.parametrize("status", [102, 200, 201, 202, 204])
    async def test_these_statuses_settle(self, desk: Desk, receiver: Receiver, status: int) -> None:
        """After one of the five statuses the message does not come back, and the next one comes at once."""
        if status == 202:
            self.needs(desk, Feature.PUSH_STATUSES)
        receiver.statuses = [status]
        await self.setup(desk, receiver)
        await desk.publish("first")
        assert (await receiver.next()).text == "first"
        await desk.publish("second")
        assert (await receiver.next()).text == "second"

    @pytest.mark.parametrize("status", [203, 206, 302, 400])
    async def test_other_statuses_do_not_settle(self, desk: Desk, receiver: Receiver, status: int) -> None:
        """Also what other protocols take for success, or follow, brings the message back."""
        self.needs(desk, Feature.PUSH_STATUSES)
        receiver.statuses = [status]
        await self.setup(desk, receiver)
        await desk.publish("again")
        assert [pushed.text for pushed in await receiver.take(desk, 2)] == ["again", "again"]

    async def test_what_is_refused_too_often_becomes_a_dead_letter(self, desk: Desk, receiver: Receiver) -> None:
        """Refusals count as delivery attempts; after the fifth the message is forwarded."""
        policy, letters = await desk.dead_letters()
        receiver.statuses = [500] * 100
        await self.setup(desk, receiver, dead_letter_policy=policy)
        await desk.publish("bad")
        pushed = await receiver.take(desk, 5)
        if Feature.PUSH_DETAILS in desk.target.features:
            assert [request.wrapped["deliveryAttempt"] for request in pushed] == [1, 2, 3, 4, 5]
        (letter,) = await desk.pull(1, letters)
        assert letter.message.attributes["CloudPubSubDeadLetterSourceDeliveryCount"] == "5"

    async def test_keys_are_pushed_one_at_a_time(self, desk: Desk, receiver: Receiver) -> None:
        """The next message of an ordering key comes when the one before is settled, a refused one first of all."""
        self.needs(desk, Feature.PUSH_DETAILS)
        receiver.statuses = [200, 500]
        await self.setup(desk, receiver, enable_message_ordering=True)
        await desk.publish("1", "2", "3", key="k")
        pushed = await receiver.take(desk, 4)
        assert [request.text for request in pushed] == ["1", "2", "2", "3"]
        assert {request.wrapped["message"]["orderingKey"] for request in pushed} == {"k"}  # type: ignore[index]

    async def test_without_a_wrapper_the_body_is_the_data(self, desk: Desk, receiver: Receiver) -> None:
        """Metadata and attributes are headers then."""
        await self.setup(desk, receiver, {"no_wrapper": {"write_metadata": True}})
        (message_id,) = await desk.publish("plain", colour="red")
        pushed = await receiver.next()
        assert pushed.body == b"plain"
        headers = {name.lower(): value for name, value in pushed.headers.items()}
        assert (headers["colour"], headers["x-goog-pubsub-message-id"]) == ("red", message_id)
        assert headers["x-goog-pubsub-subscription-name"] == desk.subscription
        assert headers["x-goog-pubsub-publish-time"]

    async def test_a_push_carries_a_token_that_can_be_verified(self, desk: Desk, receiver: Receiver) -> None:
        """It names the service account and, unless another audience is set, the address; the keys are published."""
        self.needs(desk, Feature.PUSH_IDENTITY)
        url = f"http://{desk.target.address}/oauth2/v1/certs"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            certificates = await response.json()
        for audience in ("", "https://recover.example"):
            desk.topic, desk.subscription = desk.name("topics"), desk.name("subscriptions")
            token = {"service_account_email": ACCOUNT, "audience": audience}
            await self.setup(desk, receiver, {"oidc_token": token})
            await desk.publish("hello")
            kind, _, token_text = (await receiver.next()).headers["Authorization"].partition(" ")
            claims = jwt.decode(token_text, certs=certificates, verify=True, clock_skew_in_seconds=10**9)
            assert (kind, claims["iss"]) == ("Bearer", "https://accounts.google.com")
            assert (claims["email"], claims["email_verified"]) == (ACCOUNT, True)
            assert claims["aud"] == (audience or receiver.url)
            assert claims["exp"] - claims["iat"] == 3600

    async def test_a_slow_handler_is_given_up_at_the_ack_deadline(self, desk: Desk, receiver: Receiver) -> None:
        """When the deadline has passed without an answer, the message comes again."""
        self.needs(desk, Feature.CLOCK, Feature.PUSH_DEADLINE)
        receiver.silent = True
        await self.setup(desk, receiver, ack_deadline_seconds=10)
        await desk.publish("slow")
        await receiver.next()
        await desk.target.advance(9.9)
        assert receiver.arrived.empty()
        receiver.silent = False
        await desk.target.advance(0.2)
        assert [pushed.text for pushed in await receiver.take(desk, 1)] == ["slow"]

    async def test_delivery_can_change_between_push_and_pull(self, desk: Desk, receiver: Receiver) -> None:
        """An empty push configuration lets the subscription be pulled, another one pushes from then on."""
        await self.setup(desk, receiver)
        await desk.subscriber.modify_push_config(subscription=desk.subscription, push_config={})
        await desk.publish("pulled")
        received = await desk.pull(1)
        assert texts(received) == ["pulled"]
        await desk.ack(received)
        await desk.subscriber.modify_push_config(
            subscription=desk.subscription, push_config={"push_endpoint": receiver.url}
        )
        await desk.publish("pushed")
        assert (await receiver.next()).text == "pushed"

    async def test_what_pushes_cannot_be_pulled(self, desk: Desk, receiver: Receiver) -> None:
        """A pull on a subscription that pushes is refused."""
        self.needs(desk, Feature.LIMITS)
        await self.setup(desk, receiver)
        with pytest.raises(FailedPrecondition):
            await desk.pull(1)
