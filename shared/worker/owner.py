"""To whom an object belongs: its metadata, else a template for its path, else the default, else nobody."""

from __future__ import annotations

import re
from collections.abc import Callable

from shared.errors import ConfigurationError
from shared.model.decision import Owner
from shared.model.document import ObjectMetadata

_FIELD = re.compile(r"\{(organization_id|user_id)\}")
_ALLOWED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}")


def owner_of(*, template: str | None, default: str | None) -> Callable[[ObjectMetadata], Owner | None]:
    """Return the rule. `template` is such as `{organization_id}/{user_id}/`; names that do not fit it fall through.

    The keys `organization-id` and `user-id` count in any case; of two spellings that differ nobody is the owner.

    Raises:
        ConfigurationError: the template has no `{organization_id}`.
    """
    pattern = None if template is None else _pattern(template)

    def rule(live: ObjectMetadata) -> Owner | None:
        organizations, users = _said(live, "organization-id"), _said(live, "user-id")
        if len(organizations) > 1 or len(users) > 1:
            return None
        said, user = next(iter(organizations), None), next(iter(users), None)
        if said is not None:
            return Owner(organization_id=said, user_id=user) if _ALLOWED.fullmatch(said) else None
        match = None if pattern is None else pattern.match(live.ref.name)
        if match is not None:
            fields = match.groupdict()
            return Owner(organization_id=fields["organization_id"], user_id=user or fields.get("user_id"))
        return None if default is None else Owner(organization_id=default, user_id=user)

    return rule


def _said(live: ObjectMetadata, key: str) -> set[str]:
    """Return what stands under `key`, in any case: not to know a spelling would give the file to the default."""
    return {value for name, value in live.metadata.items() if name.lower() == key}


def _pattern(template: str) -> re.Pattern[str]:
    if "{organization_id}" not in template:
        raise ConfigurationError("OWNER_PATH_TEMPLATE must hold {organization_id}, as in {organization_id}/{user_id}/.")
    parts = _FIELD.split(template)
    # Every second part is a field's name, the others are literal text.
    return re.compile(
        "".join(f"(?P<{part}>{_ALLOWED.pattern})" if index % 2 else re.escape(part) for index, part in enumerate(parts))
    )
