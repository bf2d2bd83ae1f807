"""The contract between services as files: one JSON schema per event and version, compared in a test.

`python -m shared.events.golden` writes them anew. A schema of a version that has been deployed may only gain optional
fields; anything else is a new version, with a new file beside the old one.
"""

from __future__ import annotations

import json
from pathlib import Path

from shared.events.catalogue import CATALOGUE, Event

FOLDER = Path(__file__).parent / "schemas"


def path_of(kind: type[Event]) -> Path:
    """Return the file that holds the schema of an event."""
    return FOLDER / f"{kind.TYPE}.v{kind.VERSION}.json"


def schema_of(kind: type[Event]) -> str:
    """Return the schema of an event as it stands in its file."""
    return json.dumps(kind.model_json_schema(), indent=2, sort_keys=True) + "\n"


def write() -> None:
    """Write the schemas of the whole catalogue."""
    FOLDER.mkdir(exist_ok=True)
    for kind in CATALOGUE:
        path_of(kind).write_text(schema_of(kind))


if __name__ == "__main__":
    write()
