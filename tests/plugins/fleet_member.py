"""One process of a fleet that embeds: started by tests as a script, with what it is to do as JSON.

It prints how many of its calls were answered. Nothing is shared with the others but the database.
"""

from __future__ import annotations

import asyncio
import json
import sys

from shared.embedding.genai import GeminiEmbedder
from shared.model.quota import Quota
from shared.postgres.pool import open_database
from shared.postgres.rate_limits import PostgresTurns

MODEL = "gemini-embedding-001"


async def main(name: str, database_url: str, model_url: str, quota: dict[str, float], texts: int) -> int:
    """Embed so many texts, each in a call of its own, as many at once as the embedder allows."""
    async with open_database(database_url, size=4) as database:
        turns = PostgresTurns(database, {MODEL: Quota(**quota)})  # type: ignore[arg-type]  # numbers of two kinds
        async with GeminiEmbedder(
            api_key="k", model=MODEL, dimensions=64, base_url=model_url, turns=turns, longest_wait_seconds=600
        ) as embedder:
            calls = (embedder.embed([f"{name} {number}"], purpose="document") for number in range(texts))
            return sum([made.calls for made in await asyncio.gather(*calls)])


if __name__ == "__main__":
    sys.stdout.write(f"{asyncio.run(main(**json.loads(sys.argv[1])))}\n")
