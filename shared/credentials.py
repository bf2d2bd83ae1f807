"""What a failure to get Google credentials means, for every adapter that signs in with them."""

from __future__ import annotations

from collections.abc import Iterator

from google.auth import exceptions


def may_pass(error: BaseException) -> bool:
    """Say whether this is the sign-in service not answering, and not credentials that are missing or refused.

    google-auth hands a metadata server that cannot be reached on as a `RefreshError` around the `TransportError`, and
    calls it not retryable (`google/auth/compute_engine/credentials.py`): what it is about decides, not only its flag.
    """
    return any(
        isinstance(one, exceptions.TransportError) or getattr(one, "retryable", False) for one in _with_causes(error)
    )


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    todo = [error]
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, exceptions.GoogleAuthError):
            yield one
            todo += [inner for inner in one.args if isinstance(inner, BaseException)]
            if one.__cause__ is not None:
                todo.append(one.__cause__)
