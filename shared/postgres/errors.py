"""asyncpg's errors, translated once: by SQLSTATE (https://www.postgresql.org/docs/16/errcodes-appendix.html)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from shared.database_url import SHAPE
from shared.errors import AuthenticationError, ConfigurationError, Conflict, DependencyUnavailable, HeadraceError

_CONFLICT = {"40001", "40P01", "55P03"}  # serialization failure, deadlock, lock not available in time
_NO_DATABASE = "3D000"
_CANCELED = "57014"  # by statement_timeout, or by a person
_READ_ONLY = "25006"  # the server that answers has not taken over yet, or not any more
_UNAVAILABLE_CLASSES = {"08", "53", "57", "58"}  # connection, resources, operator intervention, system
_CREDENTIALS_CLASS = "28"


def translate(error: BaseException) -> HeadraceError | None:
    """Return what an error of the driver means to the product; None for those that are bugs in a query."""
    if isinstance(error, asyncpg.InvalidCachedStatementError | asyncpg.OutdatedSchemaCacheError):
        # A migration has changed what a statement returns since this process prepared it. By now asyncpg has dropped
        # what it remembered, on all connections of the pool: the next try works.
        return DependencyUnavailable("the schema was changed under a transaction.", code="DATABASE_UNAVAILABLE")
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if state in _CONFLICT:
            return Conflict()
        if state == _CANCELED:
            # Not an outage: the same statement may take too long each time, so that its attempts have to be bounded.
            return DependencyUnavailable("a statement took too long, or was cancelled.", code="DATABASE_TIMEOUT")
        if state[:2] == _CREDENTIALS_CLASS:
            return AuthenticationError("Postgres refused the login; check DATABASE_URL.", code="DATABASE_LOGIN_REFUSED")
        if state == _NO_DATABASE:
            return ConfigurationError("Postgres has no database of this name; check the address.")
        if state == _READ_ONLY or state[:2] in _UNAVAILABLE_CLASSES:
            return DependencyUnavailable("Postgres cannot serve this now.", code="DATABASE_UNAVAILABLE")
        return None
    if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError | OSError | TimeoutError):
        # Both are how asyncpg says that a connection was closed under an operation: the second when Postgres' last
        # word ("terminating connection") arrives at the moment in which the next statement is sent.
        return DependencyUnavailable("the connection to Postgres was lost.", code="DATABASE_UNAVAILABLE")
    return None


@contextmanager
def translated() -> Iterator[None]:
    """Run database work so that only the product's errors, or bugs, come out of it."""
    try:
        yield
    except HeadraceError:
        raise
    except Exception as error:
        meaning = translate(error)
        if meaning is None:
            raise
        raise meaning from error


@contextmanager
def connecting(address: str = "DATABASE_URL") -> Iterator[None]:
    """Run what reads the address of a database and connects, as `translated` does; `address` is what people call it.

    Raises:
        ConfigurationError: the driver stumbled over the address. What it stumbled over may be part of the password, and
            is neither told nor kept.
    """
    with translated():
        try:
            yield
        except ValueError:
            raise ConfigurationError(f"{address} cannot be read; it is {SHAPE}.") from None
