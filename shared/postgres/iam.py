"""Access tokens of this process's service account, as passwords: how Cloud SQL's IAM authentication logs in.

    async with open_database(dsn, password=AccessTokens()) as database: ...

A token is asked for when a connection is made, never for one that is open: Cloud SQL checks it at the login only.
"""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

from shared.credentials import may_pass
from shared.errors import AuthenticationError, ConfigurationError, DependencyUnavailable

SCOPE = "https://www.googleapis.com/auth/sqlservice.login"
"""Enough to log in to Cloud SQL, and nothing else."""

REQUEST_SECONDS = 5.0
"""How long one request for a token may take: less than the pool waits for a connection."""


class AccessTokens:
    """Called for each new connection; gives the token that is kept, or a new one shortly before its end.

    One request is on its way at a time, in a thread, whoever asks. The environment is looked at at the first call.
    """

    def __init__(self) -> None:
        """Take nothing: which account this is, Google's library finds out (Application Default Credentials)."""
        self._credentials: Any = None
        self._turn = asyncio.Lock()
        # A caller that was cancelled leaves its thread behind; the next one's must wait for it.
        self._thread_turn = threading.Lock()

    async def __call__(self) -> str:
        """Return a token that is good for some minutes at least.

        Raises:
            ConfigurationError: there are no credentials here.
            AuthenticationError: the account is refused a token.
            DependencyUnavailable: whoever makes tokens does not answer now.
        """
        async with self._turn:
            return await asyncio.to_thread(self._token)

    def _token(self) -> str:
        # Heavy, and only where it is used: most processes log in with a password or through a socket.
        import google.auth  # noqa: PLC0415
        from google.auth import exceptions  # noqa: PLC0415
        from google.auth.credentials import TokenState  # noqa: PLC0415
        from google.auth.transport.requests import Request  # noqa: PLC0415

        with self._thread_turn:
            request: Any = partial(Request(), timeout=REQUEST_SECONDS)
            try:
                if self._credentials is None:
                    self._credentials, _ = google.auth.default(scopes=[SCOPE], request=request)
                if self._credentials.token_state is not TokenState.FRESH:
                    self._credentials.refresh(request)
            except exceptions.DefaultCredentialsError as error:
                raise ConfigurationError(
                    "DATABASE_IAM_AUTH is set, but there are no Google credentials here: run with a service account, "
                    "or sign in with `gcloud auth application-default login`."
                ) from error
            except exceptions.GoogleAuthError as error:
                if may_pass(error):
                    raise DependencyUnavailable(
                        "no access token for Postgres can be had now.", code="DATABASE_UNAVAILABLE"
                    ) from error
                raise AuthenticationError(
                    "Google refuses an access token for Postgres; check the service account.",
                    code="DATABASE_LOGIN_REFUSED",
                ) from error
            return str(self._credentials.token)
