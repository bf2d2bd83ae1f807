"""A process that logs in with access tokens, told what to do line by line; started by test_iam.py.

It is a process of its own because Google's library looks at the address of the metadata server when it is imported.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack

from shared.errors import HeadraceError
from shared.postgres.iam import AccessTokens
from shared.postgres.pool import open_database


def say(**what: object) -> None:
    """Answer a line."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def main(dsn: str) -> None:
    """`open N` holds N more connections at once, `ask` uses all that are held; ends with the input."""
    try:
        async with open_database(dsn, password=AccessTokens(), size=8) as database, AsyncExitStack() as stack:
            held = []
            while line := (await asyncio.to_thread(sys.stdin.readline)).split():
                if line[0] == "open":
                    # Straight from the pool: a task that asks twice gets its own connection again.
                    pool = database._pool
                    new = await asyncio.gather(*(pool.acquire() for _ in range(int(line[1]))))
                    for connection in new:
                        stack.push_async_callback(pool.release, connection)
                    held += new
                say(users=[await connection.fetchval("select session_user") for connection in held])
    except HeadraceError as error:
        say(error=type(error).__name__, code=error.code, message=error.message)


asyncio.run(main(sys.argv[1]))
