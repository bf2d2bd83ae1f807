"""Who asks, as far as the headers say."""

import asyncio
from urllib.parse import urlsplit

import pytest

from tests.services.api.conftest import ApiUnderTest, api_under_test
from tests.services.api.fakes import a_job

LIST = "/api/v1/admin/jobs"


async def test_on_a_laptop_nobody_has_to_say_a_name(api: ApiUnderTest) -> None:
    """Without headers the caller is the default organization's administrator."""
    async with api.session.get(api.url(LIST)) as answer:
        assert answer.status == 200


async def test_a_member_may_not_administer(api: ApiUnderTest) -> None:
    """Every admin route answers 403 to a member, before it looks at anything."""
    paths = (("GET", LIST), ("GET", f"{LIST}/stats"), ("POST", f"{LIST}/x/retry"), ("DELETE", f"{LIST}/x"))
    for method, path in paths:
        async with api.session.request(method, api.url(path), headers=api.member) as answer:
            assert (answer.status, (await answer.json())["code"]) == (403, "FORBIDDEN")
            assert answer.content_type == "application/problem+json"


async def test_behind_a_platform_a_caller_without_an_organization_is_refused() -> None:
    """Where a proxy names the caller, no name means no entry, and no role means member."""
    async with api_under_test(API_CALLERS_VERIFIED_BY="platform") as api:
        async with api.session.get(api.url(LIST)) as answer:
            assert answer.status == 401
        async with api.session.get(api.url(LIST), headers={"X-Headrace-Organization": "acme"}) as answer:
            assert answer.status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://elsewhere.test"},
        {"Origin": "null"},
        {"Host": "elsewhere.test"},
        {"Host": "127.0.0.1.elsewhere.test:80"},
        {"Host": "[broken"},
    ],
)
async def test_pages_from_elsewhere_cannot_use_the_browser_of_this_machine(
    api: ApiUnderTest, headers: dict[str, str]
) -> None:
    """A request that a foreign page makes, also through a name of its own for 127.0.0.1, is refused."""
    job = a_job()
    api.directory.jobs[job.id] = job
    async with api.session.delete(api.url(f"{LIST}/{job.id}"), headers=headers) as answer:
        assert answer.status in {400, 403}
    assert api.directory.jobs[job.id] is job


async def test_our_own_page_may_ask(api: ApiUnderTest) -> None:
    """A page that this service served has the same origin, and is let in."""
    async with api.session.get(api.url(LIST), headers={"Origin": api.address}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    "headers", [{"X-Headrace-Role": "root"}, {"X-Headrace-Organization": "x" * 200}, {"X-Headrace-Organization": "?"}]
)
async def test_strange_names_are_refused(api: ApiUnderTest, headers: dict[str, str]) -> None:
    """An unknown role, an endless name or the mark of files without an owner is a bad request, not a guess."""
    async with api.session.get(api.url(LIST), headers=headers) as answer:
        assert answer.status == 400


async def _status_of(api: ApiUnderTest, target: bytes, header: bytes = b"X-Other: x") -> int:
    """Return the status for a request of these very bytes; clients would not send all of them."""
    address = urlsplit(api.address)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n%s\r\n\r\n" % (target, header))
        return int((await reader.read()).split(b" ", 2)[1])
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("name", [b"\xff", b"a\xed\xa0\x80", b"acme\x00", b"a\x07b"])
@pytest.mark.parametrize("header", [b"X-Headrace-Organization", b"X-Headrace-User", b"X-Headrace-Role"])
async def test_names_that_are_no_text_are_refused(api: ApiUnderTest, header: bytes, name: bytes) -> None:
    """Bytes that the database cannot keep as text are the caller's fault, not an error of ours."""
    assert await _status_of(api, LIST.encode(), header + b": " + name) == 400


@pytest.mark.parametrize("character", [b"\xff", b"%00"])
@pytest.mark.parametrize("query", [b"organization_id=", b"prefix=", b"cursor=", b"error_code="])
async def test_parameters_that_are_no_text_are_refused(api: ApiUnderTest, query: bytes, character: bytes) -> None:
    """So are those in an address, raw or escaped, also as the name of a parameter or in place of an id."""
    for target in (LIST.encode() + b"?" + query + character, LIST.encode() + b"?" + character + b"=1"):
        assert await _status_of(api, target) == 400, target
    assert await _status_of(api, b"/api/v1/jobs/" + character) in {400, 404}


async def test_a_name_given_twice_is_refused(api: ApiUnderTest) -> None:
    """Two organizations in one request could mean either; a proxy that appends must not be fooled."""
    headers = [("X-Headrace-Organization", "acme"), ("X-Headrace-Organization", "other")]
    async with api.session.get(api.url(LIST), headers=headers) as answer:
        assert answer.status == 400
