"""An endpoint as data, and what all of them do before and after: know the caller, check the input, send the answer.

The route table is read twice, by the application and by the OpenAPI document, so the two cannot differ.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from aiohttp import web
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from services.api.callers import Caller, CallerVerifier
from services.api.schemas import Answer, Request
from shared.errors import AuthenticationError, InvalidRequest

BODY_LIMIT_BYTES = 64 * 1024

P = TypeVar("P", bound=Request)
B = TypeVar("B", bound=Request | None)

_Wrapped = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Call(Generic[P, B]):
    """A request whose caller is known and whose input is valid."""

    caller: Caller
    params: P
    body: B
    request: web.Request


@dataclass(frozen=True, kw_only=True, slots=True)
class Route(Generic[P, B]):
    """One endpoint. `params` covers path and query together; `answer` of None means that it streams."""

    method: str
    path: str
    summary: str
    params: type[P]
    body: type[B] | None = None
    answer: type[Answer] | None
    handler: Callable[[Call[P, B]], Awaitable[Answer | web.StreamResponse]]
    admin: bool = False
    media_type: str = "application/json"
    errors: tuple[int, ...] = ()

    def bound_to(self, callers: CallerVerifier) -> _Wrapped:
        """Return the aiohttp handler."""

        async def handle(request: web.Request) -> web.StreamResponse:
            caller = await callers(request)
            if self.admin and not caller.is_admin:
                raise AuthenticationError("This needs the role of an administrator.", code="FORBIDDEN")
            params = _read_params(self.params, request)
            body: Any = await _read_body(cast("type[BaseModel]", self.body), request) if self.body is not None else None
            answer = await self.handler(Call(caller, params, body, request))
            if isinstance(answer, web.StreamResponse):
                return answer
            assert type(answer) is self.answer, f"{self.method} {self.path} answered with another model than declared"
            return web.Response(
                body=answer.model_dump_json().encode(),
                content_type="application/json",
                headers={"Cache-Control": "no-store"},
            )

        return handle


def _read_params(kind: type[P], request: web.Request) -> P:
    values: dict[str, str] = {}
    for name, value in (*request.match_info.items(), *request.query.items()):
        if name in values:
            raise InvalidRequest(f"The parameter {name[:64]!r} is given twice.")
        values[name] = value
    try:
        return kind.model_validate_strings(values)
    except ValidationError as error:
        raise _refusal(error, "parameter") from None


async def _read_body(kind: type[BaseModel], request: web.Request) -> BaseModel:
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType  # also keeps other sites' forms out: they cannot send JSON unasked
    data = await request.read()
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise _refusal(error, "field") from None


def _refusal(error: ValidationError, what: str) -> InvalidRequest:
    """Say which input is wrong and why, without repeating the input."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return InvalidRequest("; ".join(_sentence(problem, what) for problem in found[:5]) + ".")


def _sentence(problem: ErrorDetails, what: str) -> str:
    where = ".".join(str(part) for part in problem["loc"])[:64]
    message = problem["msg"][:1].lower() + problem["msg"][1:]
    return f"{what} {where!r}: {message}" if where else f"body: {message}"
