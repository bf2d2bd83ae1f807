"""The description of the API, made from the route table, so that it cannot say anything else than the code does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from services.api.callers import ORGANIZATION_HEADER, ROLE_HEADER, USER_HEADER
from services.api.route import Route
from services.api.schemas import Problem

VERSION = "0.1.0"
PLAIN_ROUTES = {
    "/": ("This service in a browser: its routes", "text/html"),
    "/livez": ("Whether the process lives", "application/json"),
    "/readyz": ("Whether everything it needs answers", "application/json"),
    "/metrics": ("Metrics in the Prometheus text format", "text/plain"),
    "/openapi.json": ("This document", "application/json"),
}
"""What is served besides the route table: path -> (summary, media type)."""

_REF = "#/components/schemas/{model}"


def describe(routes: Sequence[Route[Any, Any]]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document for these routes."""
    models: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [(Problem, "serialization")]
    for route in routes:
        if route.answer is not None and (route.answer, "serialization") not in models:
            models.append((route.answer, "serialization"))
        if route.body is not None:
            models.append((route.body, "validation"))
    _, schemas = models_json_schema(models, ref_template=_REF)
    components = schemas.get("$defs", {})
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, components)
    for path, (summary, media_type) in PLAIN_ROUTES.items():
        answer = {"description": "OK", "content": {media_type: {}}}
        name = path.strip("/").replace(".", "_") or "index"
        paths[path] = {"get": {"operationId": name, "summary": summary, "security": [], "responses": {"200": answer}}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Headrace",
            "version": VERSION,
            "description": "Objects of a bucket as searchable, cited passages. Errors are application/problem+json.",
        },
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _security()},
        "security": [{name: [] for name in _security()}],
    }


def _operation(route: Route[Any, Any], components: dict[str, Any]) -> dict[str, Any]:
    ok: dict[str, Any] = {"description": "OK", "content": {route.media_type: {}}}
    if route.answer is not None:
        ok["content"][route.media_type]["schema"] = _ref(route.answer)
    failures = {400, 401, *route.errors, *({403} if route.admin else ()), *({413, 415} if route.body else ())}
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "parameters": _parameters(route, components),
        "responses": {"200": ok} | {str(status): _problem(status) for status in sorted(failures)},
    }
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _ref(route.body)}},
        }
    if route.admin:
        operation["tags"] = ["admin"]
    return operation


def _parameters(route: Route[Any, Any], components: dict[str, Any]) -> list[dict[str, Any]]:
    schema = route.params.model_json_schema(ref_template=_REF)
    components.update(schema.get("$defs", {}))
    in_path = set(re.findall(r"{(\w+)}", route.path))
    return [
        {
            "name": name,
            "in": "path" if name in in_path else "query",
            "required": name in in_path or name in schema.get("required", ()),
            "schema": field,
        }
        for name, field in schema.get("properties", {}).items()
    ]


def _operation_id(route: Route[Any, Any]) -> str:
    words = route.path.removeprefix("/api/v1/").replace("{id}", "one").split("/")
    return "_".join([route.method.lower(), *words])


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def _problem(status: int) -> dict[str, Any]:
    return {
        "description": HTTPStatus(status).phrase,
        "content": {"application/problem+json": {"schema": _ref(Problem)}},
    }


def _security() -> dict[str, dict[str, str]]:
    return {
        name: {"type": "apiKey", "in": "header", "name": header}
        for name, header in (
            ("organization", ORGANIZATION_HEADER), ("user", USER_HEADER), ("role", ROLE_HEADER),
        )
    }  # fmt: skip
