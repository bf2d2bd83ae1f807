"""What is said of a code; `shared.codes` says it of each."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Place(enum.StrEnum):
    """Where a code is met; the value is the heading of its table."""

    FILE = "Files that cannot be indexed as they are"
    JOB = "Jobs, and what they depend on"
    LETTER = "Messages, dead letters and replays"
    ANSWER = "Answers of the api"
    COMMAND = "The command line, and the start of a service"


@dataclass(frozen=True, slots=True)
class Code:
    """One code. The sentences are for operators and end with a full stop."""

    code: str
    retryable: bool
    """Whether it is tried again by itself; how often is bounded."""
    meaning: str
    action: str
    origin: str


RETRY = "`./headrace jobs retry --error-code {}`"
NEW_FILE = "Nothing here: whoever owns the file mends it and uploads it again."


def passing(code: str, meaning: str, action: str, origin: str) -> Code:
    """Make the entry of a failure that is tried again."""
    return Code(code, True, meaning, action, origin)


def final(code: str, meaning: str, action: str, origin: str) -> Code:
    """Make the entry of a failure that is not."""
    return Code(code, False, meaning, action, origin)
