"""Who asks: the one place where a request becomes a tenant, a person and a role.

`CallerVerifier` is the seam. Its present implementation reads headers, which is safe only on loopback or behind a
proxy that verifies callers and overwrites these headers; `ApiSettings` holds that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from aiohttp import web

from services.api.settings import is_loopback
from shared.errors import AuthenticationError, InvalidRequest
from shared.model.decision import UNKNOWN_ORGANIZATION
from shared.model.job import Job
from shared.ports.stores import Scope

ORGANIZATION_HEADER = "X-Headrace-Organization"
USER_HEADER = "X-Headrace-User"
ROLE_HEADER = "X-Headrace-Role"

_NAME = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,128}")
"""Surrogates are what aiohttp makes of bytes that are no UTF-8; the database cannot keep them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """A verified caller. Without a user it is the organization itself, such as a service account of it."""

    organization_id: str
    user_id: str | None
    is_admin: bool

    @property
    def scope(self) -> Scope:
        """What the database shows this caller: everything to administrators, else one organization."""
        return Scope() if self.is_admin else Scope(organization_id=self.organization_id)

    def owns(self, job: Job) -> bool:
        """Say whether the job is this caller's: of the organization, and not of another person in it."""
        if job.organization_id != self.organization_id:
            return False
        return self.user_id is None or job.user_id is None or job.user_id == self.user_id

    def may_see(self, job: Job) -> bool:
        """Say whether the caller owns the job or is an administrator."""
        return self.is_admin or self.owns(job)


class CallerVerifier(Protocol):
    """Turns a request into the caller behind it."""

    async def __call__(self, request: web.Request) -> Caller:
        """Return who asks.

        Raises:
            AuthenticationError: the request does not say, or what it says is not proven.
        """
        ...


class HeaderCallers:
    """Believes the X-Headrace-* headers.

    With a `default_organization_id` this is a laptop: who names nobody is that organization's administrator, and
    requests that a browser makes for pages from elsewhere are refused. Without one, a proxy sets the headers.
    """

    def __init__(self, *, default_organization_id: str | None) -> None:
        self._default_organization_id = default_organization_id

    async def __call__(self, request: web.Request) -> Caller:  # noqa: D102
        trusting = self._default_organization_id is not None
        if trusting:
            _refuse_other_sites(request)
        organization_id = _single(request, ORGANIZATION_HEADER) or self._default_organization_id
        if organization_id is None:
            raise AuthenticationError(f"The request names no organization: {ORGANIZATION_HEADER} is missing.")
        if organization_id == UNKNOWN_ORGANIZATION:
            raise InvalidRequest(f"{ORGANIZATION_HEADER}: this is the mark of files that nobody owns, no organization.")
        role = _single(request, ROLE_HEADER) or ("admin" if trusting else "member")
        if role not in {"admin", "member"}:
            raise InvalidRequest(f"{ROLE_HEADER} is 'admin' or 'member'.")
        return Caller(organization_id=organization_id, user_id=_single(request, USER_HEADER), is_admin=role == "admin")


def _refuse_other_sites(request: web.Request) -> None:
    """Refuse what a page from elsewhere makes the browser on this machine send: it would come as an administrator."""
    origin = request.headers.get("Origin")
    if not is_loopback(_host_of(f"//{request.host}")) or (origin and urlsplit(origin).netloc != request.host):
        raise AuthenticationError("Only pages and programs of this machine may ask.", code="FORBIDDEN")


def _host_of(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _single(request: web.Request, header: str) -> str | None:
    """Return a header's value; one that comes twice could mean two things, so it is refused."""
    values = request.headers.getall(header, [])
    if not values:
        return None
    if len(values) > 1 or not _NAME.fullmatch(values[0]):
        raise InvalidRequest(f"{header} must be there once, with 1 to 128 printable characters.")
    return values[0]
