"""Lets the embedded Pub/Sub push: subscriptions that send requests with signed tokens, and tokens of other makers."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import aiohttp
import grpc
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID
from google.pubsub_v1 import SubscriberAsyncClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport

from shared.clock import SystemClock
from shared.pubsub.topics import PREFIX, subscription_path
from tests.plugins.stack import Site

ACCOUNT = "headrace-push@headrace-local.iam.gserviceaccount.com"
SCHEDULER = "headrace-scheduler@headrace-local.iam.gserviceaccount.com"


def certificates_url(site: Site) -> str:
    """Return where the embedded endpoint publishes the keys of its tokens."""
    return f"http://{site.servers.broker.address}/oauth2/v1/certs"


def push_settings(site: Site, service: str) -> dict[str, str]:
    """Return what a service needs to be pushed to, by the names of the environment."""
    return {
        "DELIVERY": "push",
        "PUSH_AUDIENCE": f"headrace-{service}",
        "PUSH_SERVICE_ACCOUNT": ACCOUNT,
        "PUSH_CERTS_URL": certificates_url(site),
    }


async def push(site: Site, subscription: str, address: str, *, service: str) -> None:
    """Have a subscription pushed to a service from now on."""
    config = {
        "push_endpoint": f"{address}/push/{subscription}",
        "oidc_token": {"service_account_email": ACCOUNT, "audience": f"headrace-{service}"},
    }
    await _modify(site, subscription, config)


async def pull(site: Site, subscription: str) -> None:
    """Have a subscription wait to be pulled again."""
    await _modify(site, subscription, {})


async def _modify(site: Site, subscription: str, config: Mapping[str, Any]) -> None:
    async with grpc.aio.insecure_channel(site.servers.broker.address) as channel:
        client = SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=channel))
        path = subscription_path(site.servers.project, subscription)
        await client.modify_push_config(subscription=path, push_config=config)


def wrapped(subscription: str, data: bytes = b"", *, message_id: str = "1", **attributes: str) -> dict[str, Any]:
    """Return the body of a push as Pub/Sub sends it."""
    return {
        "message": {
            "data": base64.b64encode(data).decode(),
            "attributes": attributes,
            "messageId": message_id,
            "message_id": message_id,
            "publishTime": "2026-01-01T00:00:00.749Z",
            "publish_time": "2026-01-01T00:00:00.749Z",
        },
        "subscription": f"projects/headrace-local/subscriptions/{PREFIX}{subscription}",
    }


class Signer:
    """Makes tokens with a key of its own; what is in them is up to the test."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.key_id = secrets.token_hex(20)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
        now = SystemClock().now()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .sign(self.key, hashes.SHA256())
        )
        self.certificate = certificate.public_bytes(serialization.Encoding.PEM).decode()

    def token(self, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """Return a good token of the push account, but for what is said otherwise; None leaves a claim out."""
        now = int(SystemClock().now().timestamp())
        said: dict[str, Any] = {
            "iss": "https://accounts.google.com",
            "aud": "headrace-ingest",
            "email": ACCOUNT,
            "email_verified": True,
            "iat": now,
            "exp": now + 3600,
        }
        said = {name: value for name, value in (said | claims).items() if value is not None}
        head = {"alg": "RS256", "typ": "JWT", "kid": self.key_id} | dict(header or {})
        text = f"{_part(json.dumps(head).encode())}.{_part(json.dumps(said).encode())}"
        match head["alg"]:
            case "none":
                signature = b""
            case "HS256":  # the public key as the secret: what a verifier that believes the header would check
                signature = hmac.digest(self.certificate.encode(), text.encode(), "sha256")
            case _:
                signature = self.key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{_part(signature)}"


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass
class Keys:
    """The keys that are published: of signers, and of the embedded endpoint."""

    url: str = ""
    signers: list[Signer] = field(default_factory=list)
    elsewhere: str | None = None
    status: int = 200
    asked: int = 0

    async def answer(self, _request: web.Request) -> web.Response:
        """Publish."""
        self.asked += 1
        found = {signer.key_id: signer.certificate for signer in self.signers}
        if self.elsewhere is not None:
            async with aiohttp.ClientSession() as session, session.get(self.elsewhere) as response:
                found |= await response.json()
        return web.json_response(found, status=self.status)


@asynccontextmanager
async def publishing(*signers: Signer, elsewhere: str | None = None) -> AsyncIterator[Keys]:
    """Serve keys for the length of the block."""
    keys = Keys(signers=list(signers), elsewhere=elsewhere)
    application = web.Application()
    application.router.add_get("/certs", keys.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        keys.url = f"http://127.0.0.1:{runner.addresses[0][1]}/certs"
        yield keys
    finally:
        await runner.cleanup()
