"""Text as it can be stored."""

from __future__ import annotations

import re

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> str:
    """Return the text without what Postgres cannot keep: NUL characters and lone surrogates."""
    return _UNSTORABLE.sub("", text)
