"""SQL lives in `sql/*.sql`: blocks that start with `-- name: claim_job` and a line that describes them.

`:name` parameters become `$n`; casts (`::text`), string literals and comments are left alone. A wrong or missing
argument is refused before the database is asked. A test prepares every query against the schema.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources
from typing import Any, Protocol

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_TOKEN = re.compile(r"'(?:[^']|'')*'|--[^\n]*|::|:([a-z_][a-z0-9_]*)")


class Connection(Protocol):
    """The part of an asyncpg connection that queries use."""

    async def fetch(self, query: str, *args: Any) -> list[Any]: ...  # noqa: D102
    async def fetchrow(self, query: str, *args: Any) -> Any: ...  # noqa: D102
    async def fetchval(self, query: str, *args: Any) -> Any: ...  # noqa: D102
    async def execute(self, query: str, *args: Any) -> str: ...  # noqa: D102
    async def executemany(self, query: str, args: Any) -> None: ...  # noqa: D102


class Query:
    """One named statement, ready for asyncpg."""

    def __init__(self, name: str, text: str) -> None:
        """Number the parameters in the order in which they first appear."""
        self.name = name
        self.parameters: list[str] = []
        self.sql = _TOKEN.sub(self._number, text).strip()

    def _number(self, match: re.Match[str]) -> str:
        parameter = match.group(1)
        if parameter is None:
            return match.group(0)
        if parameter not in self.parameters:
            self.parameters.append(parameter)
        return f"${self.parameters.index(parameter) + 1}"

    def with_integers(self, **values: int) -> Query:
        """Return this statement with `{name}` replaced by integers, for what cannot be a parameter (a type's size)."""
        text = self.sql
        for name, value in values.items():
            text = text.replace("{" + name + "}", str(int(value)))
        filled = Query(self.name, text)
        filled.parameters = self.parameters
        return filled

    def _arguments(self, values: dict[str, Any]) -> list[Any]:
        if values.keys() != set(self.parameters):
            raise TypeError(f"query {self.name} takes {sorted(self.parameters)}, got {sorted(values)}")
        return [values[parameter] for parameter in self.parameters]

    async def all(self, connection: Connection, **values: Any) -> list[Any]:
        """Return every row."""
        return await connection.fetch(self.sql, *self._arguments(values))

    async def first(self, connection: Connection, **values: Any) -> Any:
        """Return the first row or None."""
        return await connection.fetchrow(self.sql, *self._arguments(values))

    async def value(self, connection: Connection, **values: Any) -> Any:
        """Return the first column of the first row or None."""
        return await connection.fetchval(self.sql, *self._arguments(values))

    async def run(self, connection: Connection, **values: Any) -> int:
        """Execute and return how many rows it touched."""
        status = await connection.execute(self.sql, *self._arguments(values))
        count = status.rsplit(" ", 1)[-1]
        return int(count) if count.isdigit() else 0

    async def expected_rows(self, connection: Connection, **values: Any) -> int:
        """Return how many rows the planner expects, without running the statement."""
        plan = await connection.fetchval(f"explain (format json) {self.sql}", *self._arguments(values))
        return int((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]["Plan Rows"])

    async def run_many(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        """Execute once per row, pipelined."""
        await connection.executemany(self.sql, [self._arguments(row) for row in rows])


class Queries:
    """The statements of one file, as attributes."""

    def __init__(self, file: str, text: str) -> None:
        """Read the blocks; a file without any is a mistake."""
        parts = _NAME.split(text)
        self._queries = {name: Query(name, block) for name, block in zip(parts[1::2], parts[2::2], strict=True)}
        if not self._queries:
            raise ValueError(f"{file} holds no named query")

    def __getattr__(self, name: str) -> Query:
        try:
            return self._queries[name]
        except KeyError:
            raise AttributeError(f"no query is named {name}") from None

    def __iter__(self) -> Any:
        return iter(self._queries.values())


@cache
def load(name: str) -> Queries:
    """Return the queries of `sql/<name>.sql`; read once per process, at first use."""
    return Queries(name, read(f"{name}.sql"))


def read(path: str) -> str:
    """Return a file below `sql/` as text."""
    return resources.files("shared.postgres").joinpath("sql", *path.split("/")).read_text(encoding="utf-8")
