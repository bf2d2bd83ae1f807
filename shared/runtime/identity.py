"""Who calls: identity tokens of service accounts, as Google signs them for pushes and schedulers.

Any service account in the world can have a token made for any audience, so the audience alone proves nothing: who is
believed is named by email. Everything that is not proven is refused, and the caller is not told why; the log is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from importlib import import_module
from types import TracebackType
from typing import Any, NoReturn, Self

import aiohttp
import structlog
from aiohttp import web
from pydantic import TypeAdapter

from shared.clock import Clock
from shared.errors import AuthenticationError, DependencyUnavailable

_log = structlog.get_logger(__name__)

ISSUERS = frozenset({"https://accounts.google.com", "accounts.google.com"})
ALGORITHM = "RS256"
LEEWAY_SECONDS = 30
"""How far the clocks of the issuer and of this machine may be apart."""

FRESH_SECONDS = 3600.0
KEPT_SECONDS = 6 * 3600.0
"""Keys are fetched again after the first time, and still believed until the second when that fails."""

BETWEEN_FETCHES_SECONDS = 10.0
"""Unknown key ids are free to invent: they cause one question in so long a time at most.

In between they are refused as 401 and not as 503: keys are published long before anything is signed with them, so that
who is unknown a moment after a fetch is an invention. If not, Pub/Sub and schedulers ask again after either answer.
"""

REMOVED_SIGNATURE = "SIGNATURE_REMOVED_BY_GOOGLE"
"""What Cloud Run puts in the place of the signature of a token that it has verified itself."""

_FETCH_SECONDS = 5.0
_KEYS = TypeAdapter(dict[str, str])


class Certificates:
    """An issuer's certificates by key id (PEM), fetched when needed and kept for a bounded time.

    An async context manager. Safe to use from many tasks: they share one fetch.
    """

    def __init__(self, url: str, *, clock: Clock) -> None:
        """Nothing is fetched before the first token."""
        self._url, self._clock = url, clock
        self._certificates: dict[str, str] = {}
        self._fetched_at: float | None = None
        self._asked_at: float | None = None
        self._failed = False
        self._asking = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_FETCH_SECONDS))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_back: TracebackType | None
    ) -> None:
        await self._session.close()

    async def of(self, key_id: str) -> str | None:
        """Return the certificate of a key; None when its issuer does not know it.

        Raises:
            DependencyUnavailable: the issuer could not be asked, so that nobody knows.
        """
        if not self._known(key_id, FRESH_SECONDS):
            async with self._asking:
                if not self._known(key_id, FRESH_SECONDS) and self._may_ask():
                    await self._fetch()
        if self._known(key_id, KEPT_SECONDS):
            return self._certificates[key_id]
        if self._failed:
            raise DependencyUnavailable("the keys of identity tokens cannot be fetched.")
        return None

    def _known(self, key_id: str, seconds: float) -> bool:
        fresh = self._fetched_at is not None and self._clock.monotonic() - self._fetched_at < seconds
        return fresh and key_id in self._certificates

    def _may_ask(self) -> bool:
        return self._asked_at is None or self._clock.monotonic() - self._asked_at >= BETWEEN_FETCHES_SECONDS

    async def _fetch(self) -> None:
        self._asked_at = self._clock.monotonic()
        self._failed = True  # until it has succeeded, also when we are cancelled meanwhile
        try:
            async with self._session.get(self._url, allow_redirects=False) as response:
                response.raise_for_status()
                found = _KEYS.validate_json(await response.read())
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            _log.warning("token.keys_not_fetched", url=self._url, error=type(error).__name__)
            return
        self._certificates, self._fetched_at, self._failed = found, self._asked_at, False


class TokenVerifier:
    """Says which service account made a request, from the identity token that the request carries."""

    def __init__(
        self,
        certificates: Certificates,
        *,
        audience: str,
        emails: Collection[str],
        clock: Clock,
        platform: bool = False,
    ) -> None:
        """Believe tokens for that audience, of these service accounts only.

        `platform` says that Cloud Run verifies callers before they reach us. It removes the signature then, so only
        the claims are left to check. It must not be said where others than Cloud Run can reach us.
        """
        self._certificates, self._clock, self._platform = certificates, clock, platform
        self._audience, self._emails = audience, frozenset(emails)
        self._jwt: Any = None

    async def __call__(self, request: web.Request) -> str:
        """Return the caller's email.

        Raises:
            AuthenticationError: there is no valid token; `FORBIDDEN` when it is the token of somebody else.
            DependencyUnavailable: the keys could not be fetched.
        """
        claims = await self._proven(self._token(request))
        now = self._clock.now().timestamp()
        issued_at, expires_at = claims.get("iat"), claims.get("exp")
        if not (isinstance(issued_at, int) and isinstance(expires_at, int)):
            _refuse("no times")
        if not issued_at - LEEWAY_SECONDS <= now <= expires_at + LEEWAY_SECONDS:
            _refuse("expired or not yet valid")
        not_before = claims.get("nbf", issued_at)
        if not isinstance(not_before, int) or now < not_before - LEEWAY_SECONDS:
            _refuse("not yet valid")
        if claims.get("iss") not in ISSUERS:
            _refuse("issuer")
        if claims.get("aud") != self._audience:
            _refuse("audience")
        email = claims.get("email")
        if claims.get("email_verified") is not True or not isinstance(email, str):
            _refuse("no verified email")
        if email not in self._emails:
            _log.warning("token.forbidden")  # not of whom: the addresses of strangers are not ours to keep
            raise AuthenticationError("This caller may not do this.", code="FORBIDDEN")
        return email

    def _token(self, request: web.Request) -> str:
        values = request.headers.getall("Authorization", [])
        if self._platform:
            # Where both are there, this is the one that Cloud Run has verified.
            values = request.headers.getall("X-Serverless-Authorization", values)
        scheme, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
        if scheme.lower() != "bearer" or not token:
            _refuse("no token")
        return token

    async def _proven(self, token: str) -> Mapping[str, Any]:
        """Return the claims of a token that Google signed: by its signature, or because Cloud Run says so."""
        # In a thread, and by the first who needs it: with the cryptography below it takes a tenth of a start.
        jwt = self._jwt = self._jwt or await asyncio.to_thread(import_module, "google.auth.jwt")
        try:
            header: Mapping[str, Any] = jwt.decode_header(token)
        except Exception:  # noqa: BLE001 - whatever a stranger's bytes do to a parser, they are no token
            _refuse("malformed")
        key_id = header.get("kid")
        if "crit" in header:
            _refuse("an extension that has to be understood, and is not")  # RFC 7515, 4.1.11
        if token.rpartition(".")[2] == REMOVED_SIGNATURE:
            if not self._platform:
                _refuse("the signature was removed by Cloud Run; set PUSH_VERIFIED_BY=platform")
            return _unproven_claims(jwt, token)
        if header.get("alg") != ALGORITHM or not isinstance(key_id, str) or not key_id:
            _refuse("algorithm or key id")
        certificate = await self._certificates.of(key_id)
        if certificate is None:
            _refuse("unknown key")
        try:
            claims: Mapping[str, Any] = jwt.decode(
                token, certs={key_id: certificate}, audience=self._audience, clock_skew_in_seconds=LEEWAY_SECONDS
            )
        except Exception as error:  # noqa: BLE001 - as above; the library raises half a dozen kinds
            _refuse(f"not valid ({type(error).__name__})")
        return claims


def _unproven_claims(jwt: Any, token: str) -> Mapping[str, Any]:
    try:
        claims: Mapping[str, Any] = jwt.decode(token, verify=False)
    except Exception:  # noqa: BLE001 - as above
        _refuse("malformed")
    return claims


def _refuse(reason: str) -> NoReturn:
    _log.warning("token.refused", reason=reason)
    raise AuthenticationError("The request carries no valid token.")
