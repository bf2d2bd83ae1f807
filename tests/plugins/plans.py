"""What tests of plans have in common: rows that are written at once, and what Postgres says it does with a query."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg

from shared.postgres import queries


async def fill(url: str, rows: Sequence[str]) -> None:
    """Write the rows."""
    connection = await asyncpg.connect(url)
    try:
        for statement in rows:
            await connection.execute(statement, timeout=300)
    finally:
        await connection.close()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every node of a plan."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


async def explained(connection: asyncpg.Connection, file: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Run a query and return its plan with what each node has really read; nothing is kept."""
    query = getattr(queries.load(file), name)
    transaction = connection.transaction()
    await transaction.start()
    try:
        plan = await connection.fetchval(
            f"explain (analyze, format json) {query.sql}", *query._arguments(arguments), timeout=120
        )
    finally:
        await transaction.rollback()
    found: dict[str, Any] = json.loads(plan)[0]["Plan"]
    return found
