"""What people ask for that is not about one file: payloads of such jobs, as who asks and who works both read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from shared.errors import InvalidRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class BulkImport:
    """Decide about every object whose name starts with `prefix`; with an organization, about that one's only."""

    prefix: str = ""
    organization_id: str | None = None

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> BulkImport:
        """Read a job's payload.

        Raises:
            InvalidRequest: it is none of ours.
        """
        prefix, organization_id = payload.get("prefix"), payload.get("organization_id")
        if not isinstance(prefix, str) or not (organization_id is None or isinstance(organization_id, str)):
            raise InvalidRequest("an import needs a prefix of names, which may be empty.")
        return cls(prefix=prefix, organization_id=organization_id)

    def payload(self) -> dict[str, Any]:
        """Return what is stored."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditCleanup:
    """Remove what is kept for people to look back at, once it is so old."""

    older_than_days: int

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> AuditCleanup:
        """Read a job's payload.

        Raises:
            InvalidRequest: it is none of ours.
        """
        days = payload.get("older_than_days")
        if not isinstance(days, int) or isinstance(days, bool) or days < 1:
            raise InvalidRequest("a cleanup needs an age in days, 1 at least.")
        return cls(older_than_days=days)

    def payload(self) -> dict[str, Any]:
        """Return what is stored."""
        return asdict(self)
