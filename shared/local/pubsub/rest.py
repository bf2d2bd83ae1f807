"""The same API over HTTP/1 and JSON, for gcloud and for clients without gRPC."""

import json
from typing import Any

from aiohttp import web
from google.protobuf import json_format

from shared.errors import HeadraceError
from shared.local.pubsub.broker import Broker
from shared.local.pubsub.limits import MAX_REQUEST_BYTES, invalid
from shared.local.pubsub.server import Api
from shared.local.pubsub.tokens import TokenIssuer

_json: Any = json_format  # its functions have no types

HTTP_STATUS = {"NOT_FOUND": 404, "ALREADY_EXISTS": 409, "UNIMPLEMENTED": 501, "UNAVAILABLE": 503}

# Method and path of HTTP, method of the API, and the field that takes the name in the path
# (empty: the name stands in the body).
_ROUTES = [
    ("PUT", "topics/{id}", "Publisher/CreateTopic", "name"),
    ("GET", "topics/{id}", "Publisher/GetTopic", "topic"),
    ("PATCH", "topics/{id}", "Publisher/UpdateTopic", ""),
    ("DELETE", "topics/{id}", "Publisher/DeleteTopic", "topic"),
    ("POST", "topics/{id}:publish", "Publisher/Publish", "topic"),
    ("GET", "topics/{id}/subscriptions", "Publisher/ListTopicSubscriptions", "topic"),
    ("GET", "topics", "Publisher/ListTopics", "project"),
    ("PUT", "subscriptions/{id}", "Subscriber/CreateSubscription", "name"),
    ("GET", "subscriptions/{id}", "Subscriber/GetSubscription", "subscription"),
    ("PATCH", "subscriptions/{id}", "Subscriber/UpdateSubscription", ""),
    ("DELETE", "subscriptions/{id}", "Subscriber/DeleteSubscription", "subscription"),
    ("GET", "subscriptions", "Subscriber/ListSubscriptions", "project"),
    ("POST", "subscriptions/{id}:pull", "Subscriber/Pull", "subscription"),
    ("POST", "subscriptions/{id}:acknowledge", "Subscriber/Acknowledge", "subscription"),
    ("POST", "subscriptions/{id}:seek", "Subscriber/Seek", "subscription"),
    ("POST", "subscriptions/{id}:modifyAckDeadline", "Subscriber/ModifyAckDeadline", "subscription"),
    ("POST", "subscriptions/{id}:modifyPushConfig", "Subscriber/ModifyPushConfig", "subscription"),
    ("POST", "subscriptions/{id}:detach", "Publisher/DetachSubscription", "subscription"),
    ("PUT", "snapshots/{id}", "Subscriber/CreateSnapshot", "name"),
    ("GET", "snapshots/{id}", "Subscriber/GetSnapshot", "snapshot"),
    ("PATCH", "snapshots/{id}", "Subscriber/UpdateSnapshot", ""),
    ("DELETE", "snapshots/{id}", "Subscriber/DeleteSnapshot", "snapshot"),
    ("GET", "snapshots", "Subscriber/ListSnapshots", "project"),
    ("GET", "topics/{id}/snapshots", "Publisher/ListTopicSnapshots", "topic"),
]


CERTIFICATES_PATH = "/oauth2/v1/certs"
"""Where the keys of push requests' tokens are published; the path is that of Google's."""


def rest_app(api: Api, tokens: TokenIssuer) -> web.Application:
    """Return the application: /v1/projects/…, the certificates of push, and POST /fault for tests."""
    app = web.Application(client_max_size=2 * MAX_REQUEST_BYTES)  # base64 takes a third more
    for method, path, name, field in _ROUTES:
        pattern = path.replace("{id}", "{id:[^/:]+}")
        app.router.add_route(method, f"/v1/projects/{{project:[^/]+}}/{pattern}", _Route(api, name, field).handle)
    app.router.add_get(CERTIFICATES_PATH, _certificates(tokens))
    app.router.add_post("/fault", _fault(api.broker))
    return app


class _Route:
    """One method of the API behind one path."""

    def __init__(self, api: Api, name: str, name_field: str) -> None:
        self._request_class, _, self._method = api.unary[name]
        self._name_field = name_field

    async def handle(self, http: web.Request) -> web.Response:
        try:
            body: dict[str, Any] = json.loads(await http.read() or b"{}")
            body |= {key: http.query[key] for key in ("pageSize", "pageToken") if key in http.query}
            if self._name_field:
                body[self._name_field] = _resource(http)
            request = _json.ParseDict(body, self._request_class(), ignore_unknown_fields=True)
        except (ValueError, TypeError, json_format.ParseError) as error:
            return _error(invalid(f"The request cannot be read: {error}"))
        try:
            response = await self._method(request)
        except HeadraceError as error:
            return _error(error)
        return web.json_response(_json.MessageToDict(response))


def _resource(http: web.Request) -> str:
    """Return the name of what the path is about, without the verb or the collection at its end."""
    project = f"projects/{http.match_info['project']}"
    if "id" not in http.match_info:
        return project
    kind = http.path.split("/")[4]
    return f"{project}/{kind}/{http.match_info['id']}"


def _error(error: HeadraceError) -> web.Response:
    status = HTTP_STATUS.get(error.code, 400)
    body = {"error": {"code": status, "message": error.message, "status": error.code}}
    return web.json_response(body, status=status)


def _certificates(tokens: TokenIssuer) -> Any:
    async def handle(_http: web.Request) -> web.Response:
        return web.json_response(tokens.certificates())

    return handle


def _fault(broker: Broker) -> Any:
    """Return the handler of POST /fault: {"duplicate_next": n, "drop_next": n, "expire_leases": subscription}."""

    async def handle(http: web.Request) -> web.Response:
        wish: dict[str, Any] = await http.json()
        broker.duplicate_next = int(wish.get("duplicate_next", broker.duplicate_next))
        broker.drop_next = int(wish.get("drop_next", broker.drop_next))
        expired = 0
        if name := wish.get("expire_leases"):
            try:
                expired = broker.subscription(name).expire_leases()
            except HeadraceError as error:
                return _error(error)
        return web.json_response({"expired": expired})

    return handle
