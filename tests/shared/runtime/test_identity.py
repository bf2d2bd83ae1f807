"""Whose token is believed, and what keys are asked for when."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import structlog
from aiohttp.test_utils import make_mocked_request

from shared.clock import SystemClock
from shared.errors import AuthenticationError, DependencyUnavailable
from shared.runtime.identity import BETWEEN_FETCHES_SECONDS, FRESH_SECONDS, KEPT_SECONDS, Certificates, TokenVerifier
from shared.telemetry.logs import configure_logs
from tests.acceptance.pushing import ACCOUNT, Keys, Signer, publishing
from tests.plugins.clock import ManualClock


@pytest.fixture(scope="module")
def signer() -> Signer:
    """Give a signer whose key is published."""
    return Signer()


@pytest.fixture
async def keys(signer: Signer) -> AsyncIterator[Keys]:
    """Publish the signer's key."""
    async with publishing(signer) as opened:
        yield opened


@pytest.fixture
async def certificates(keys: Keys) -> AsyncIterator[Certificates]:
    """Give keys by a clock that the test moves (`certificates._clock`)."""
    async with Certificates(keys.url, clock=ManualClock()) as opened:
        yield opened


async def verify(certificates: Certificates, *, platform: bool = False, **headers: str) -> str:
    """Make a request with these headers to a service that believes the push account."""
    verifier = TokenVerifier(
        certificates, audience="headrace-ingest", emails=[ACCOUNT], clock=SystemClock(), platform=platform
    )
    request = make_mocked_request("POST", "/", {name.replace("_", "-"): value for name, value in headers.items()})
    return await verifier(request)


async def test_a_good_token_names_its_account(certificates: Certificates, signer: Signer) -> None:
    """The email comes back, whichever way the issuer writes itself."""
    assert await verify(certificates, Authorization=f"Bearer {signer.token()}") == ACCOUNT
    token = signer.token(iss="accounts.google.com")
    assert await verify(certificates, Authorization=f"bearer {token}") == ACCOUNT


async def test_clocks_may_be_apart_a_little(certificates: Certificates, signer: Signer) -> None:
    """A token that ended ten seconds ago still counts; one that ended a minute ago does not."""
    now = int(SystemClock().now().timestamp())
    just_over = signer.token(iat=now - 3610, exp=now - 10)
    assert await verify(certificates, Authorization=f"Bearer {just_over}") == ACCOUNT
    with pytest.raises(AuthenticationError):
        await verify(certificates, Authorization=f"Bearer {signer.token(iat=now - 3660, exp=now - 60)}")


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer ", "Basic {}", "{}", "Bearer {}.{}", "Bearer a.b.c", "Bearer " + "W" * 6000 + ".e30.x"],
)
async def test_what_is_no_bearer_token_is_refused(certificates: Certificates, signer: Signer, value: str) -> None:
    """Another scheme, or something that only looks like a token."""
    with pytest.raises(AuthenticationError) as refused:
        await verify(certificates, Authorization=value.replace("{}", signer.token()))
    assert refused.value.code == "AUTHENTICATION_FAILED"


async def test_keys_are_kept_for_an_hour_and_then_asked_for_again(
    certificates: Certificates, keys: Keys, signer: Signer
) -> None:
    """One question serves all tokens of an hour."""
    clock = certificates._clock
    for _ in range(3):
        assert await certificates.of(signer.key_id) == signer.certificate
    assert keys.asked == 1
    clock.advance(FRESH_SECONDS + 1)
    assert await certificates.of(signer.key_id) == signer.certificate
    assert keys.asked == 2


async def test_a_new_key_is_found_at_once_but_questions_are_rare(
    certificates: Certificates, keys: Keys, signer: Signer
) -> None:
    """However many key ids are invented, questions come one in a while; a key that came meanwhile is found."""
    clock = certificates._clock
    await certificates.of(signer.key_id)
    clock.advance(BETWEEN_FETCHES_SECONDS)
    for number in range(5):
        assert await certificates.of(f"invented-{number}") is None
    assert keys.asked == 2
    other = Signer()
    keys.signers.append(other)
    clock.advance(BETWEEN_FETCHES_SECONDS)
    assert await certificates.of(other.key_id) == other.certificate
    assert keys.asked == 3


async def test_when_keys_cannot_be_fetched_nobody_is_called_a_liar(
    certificates: Certificates, keys: Keys, signer: Signer
) -> None:
    """A failed question is an outage of ours; a moment later it is asked again, and the token believed."""
    keys.status = 500
    for _ in range(2):
        with pytest.raises(DependencyUnavailable):
            await verify(certificates, Authorization=f"Bearer {signer.token()}")
    assert keys.asked == 1
    keys.status = 200
    certificates._clock.advance(BETWEEN_FETCHES_SECONDS)
    assert await verify(certificates, Authorization=f"Bearer {signer.token()}") == ACCOUNT


async def test_known_keys_outlive_an_outage_of_their_issuer_for_a_while(
    certificates: Certificates, keys: Keys, signer: Signer
) -> None:
    """Keys that are old but not too old are believed while no newer ones can be had; then they are not."""
    clock = certificates._clock
    await certificates.of(signer.key_id)
    keys.status = 500
    clock.advance(FRESH_SECONDS + 1)
    assert await certificates.of(signer.key_id) == signer.certificate
    clock.advance(KEPT_SECONDS)
    with pytest.raises(DependencyUnavailable):
        await certificates.of(signer.key_id)


def stripped(token: str) -> str:
    """Return what Cloud Run hands on of a token that it has verified."""
    return token.rpartition(".")[0] + ".SIGNATURE_REMOVED_BY_GOOGLE"


async def test_behind_cloud_run_a_token_without_signature_is_believed_by_its_claims(
    certificates: Certificates, keys: Keys, signer: Signer
) -> None:
    """Cloud Run removes the signature of what it has verified: audience, account and times still have to be right."""
    good = stripped(signer.token())
    assert await verify(certificates, platform=True, Authorization=f"Bearer {good}") == ACCOUNT
    assert keys.asked == 0
    with pytest.raises(AuthenticationError):
        await verify(certificates, Authorization=f"Bearer {good}")
    with pytest.raises(AuthenticationError):
        await verify(
            certificates, platform=True, Authorization=f"Bearer {stripped(signer.token({'crit': ['x'], 'x': 1}))}"
        )
    for claims in ({"nbf": 2**40}, {"aud": "x"}, {"exp": 1}, {"email_verified": None}, {"iss": "x"}, {"email": "x@y"}):
        with pytest.raises(AuthenticationError):
            await verify(certificates, platform=True, Authorization=f"Bearer {stripped(signer.token(**claims))}")
    with pytest.raises(AuthenticationError):
        await verify(certificates, platform=True, Authorization=f"Bearer {Signer().token()}")


async def test_behind_cloud_run_the_header_that_it_has_verified_counts(
    certificates: Certificates, signer: Signer
) -> None:
    """With both headers Cloud Run verifies its own, so the other one may say what it likes and proves nothing."""
    good, other = stripped(signer.token()), stripped(signer.token(email="thief@elsewhere.example"))
    headers = {"Authorization": f"Bearer {good}", "X_Serverless_Authorization": f"Bearer {other}"}
    with pytest.raises(AuthenticationError) as refused:
        await verify(certificates, platform=True, **headers)
    assert refused.value.code == "FORBIDDEN"


@pytest.mark.parametrize("claims", [{"nbf": 2**40}, {"nbf": "tomorrow"}, {"nbf": 1.5e12}])
async def test_a_token_that_is_not_valid_yet_is_refused(
    certificates: Certificates, signer: Signer, claims: dict[str, object]
) -> None:
    """`nbf` counts where it is said, and only as a time."""
    with pytest.raises(AuthenticationError):
        await verify(certificates, Authorization=f"Bearer {signer.token(**claims)}")
    assert await verify(certificates, Authorization=f"Bearer {signer.token(nbf=1)}") == ACCOUNT


async def test_extensions_that_must_be_understood_are_refused(certificates: Certificates, signer: Signer) -> None:
    """A header with `crit` names rules that this verifier does not know."""
    with pytest.raises(AuthenticationError):
        await verify(certificates, Authorization=f"Bearer {signer.token({'crit': ['b64'], 'b64': False})}")


async def test_the_address_of_a_stranger_is_not_logged(
    certificates: Certificates, signer: Signer, capsys: pytest.CaptureFixture[str]
) -> None:
    """That somebody else called is logged; who, is not."""
    configure_logs("INFO", "json")
    try:
        with pytest.raises(AuthenticationError):
            await verify(certificates, Authorization=f"Bearer {signer.token(email='ada@elsewhere.example')}")
    finally:
        structlog.reset_defaults()
    written = capsys.readouterr().err
    assert "token.forbidden" in written
    assert "elsewhere.example" not in written
