"""What every embedder promises, whatever the model behind it."""

import asyncio
import itertools
import math

import pytest

from shared.errors import InvalidRequest
from shared.ports.models import Embedder

TEXTS = [
    "The intake gate closes by its own weight when the oil pressure is lost.",
    "Prices for the next day are published at noon.",
    "x",
    "Die Staumauer wird jedes Jahr geprüft. 水力発電所 🌊 " * 40,
]


def close(left: object, right: object) -> object:
    """Compare vectors up to what rounding may change."""
    return left == pytest.approx(right, abs=2e-2)


class EmbedderContract:
    """Inherit and provide an `embedder` fixture."""

    async def test_gives_one_unit_vector_of_the_promised_length_per_text(self, embedder: Embedder) -> None:
        """Every text, long or short, gets a vector of length one with `space.dimensions` numbers."""
        result = await embedder.embed(TEXTS, purpose="document")
        assert [len(vector) for vector in result.vectors] == [embedder.space.dimensions] * len(TEXTS)
        assert [math.hypot(*vector) for vector in result.vectors] == pytest.approx([1.0] * len(TEXTS), abs=1e-3)
        assert result.calls == 1
        assert result.tokens > 0

    async def test_keeps_the_order_whatever_texts_share_the_call(self, embedder: Embedder) -> None:
        """A text gets the same vector alone, first, and last in a batch."""
        forwards = (await embedder.embed(TEXTS, purpose="document")).vectors
        backwards = (await embedder.embed(TEXTS[::-1], purpose="document")).vectors
        alone = [(await embedder.embed([text], purpose="document")).vectors[0] for text in TEXTS]
        for one, two, three in zip(forwards, reversed(backwards), alone, strict=True):
            assert close(list(one), list(two))
            assert close(list(one), list(three))

    async def test_says_what_goes_into_each_request(self, embedder: Embedder) -> None:
        """Every text, in order, and each part is one call."""
        sizes, start = embedder.requests(TEXTS), 0
        for size in sizes:
            made = await embedder.embed(TEXTS[start : start + size], purpose="document")
            assert (made.calls, len(made.vectors)) == (1, size)
            start += size
        assert start == len(TEXTS)

    async def test_tells_texts_apart(self, embedder: Embedder) -> None:
        """Different texts have different vectors."""
        vectors = (await embedder.embed(TEXTS, purpose="document")).vectors
        for one, two in itertools.combinations(vectors, 2):
            assert sum(a * b for a, b in zip(one, two, strict=True)) < 0.95

    async def test_takes_a_whole_batch_and_refuses_more(self, embedder: Embedder) -> None:
        """`batch_size` texts are one call; one more is a mistake of the caller."""
        full = [f"Paragraph {number}." for number in range(embedder.batch_size)]
        assert len((await embedder.embed(full, purpose="document")).vectors) == embedder.batch_size
        with pytest.raises(InvalidRequest):
            await embedder.embed([*full, "one more"], purpose="document")

    async def test_refuses_an_empty_text(self, embedder: Embedder) -> None:
        """An empty text has no meaning and no vector."""
        with pytest.raises(InvalidRequest):
            await embedder.embed(["fine", ""], purpose="document")

    async def test_serves_many_tasks_at_once(self, embedder: Embedder) -> None:
        """Calls that overlap do not mix their answers."""
        results = await asyncio.gather(*(embedder.embed([text], purpose="query") for text in TEXTS * 2))
        for one, two in zip(results[: len(TEXTS)], results[len(TEXTS) :], strict=True):
            assert close(list(one.vectors[0]), list(two.vectors[0]))

    async def test_goes_on_after_a_call_was_cancelled(self, embedder: Embedder) -> None:
        """A cancelled call ends at once and leaves nothing that disturbs the next."""
        task = asyncio.create_task(embedder.embed(TEXTS, purpose="document"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len((await embedder.embed(["still here"], purpose="query")).vectors) == 1

    async def test_counts_tokens_without_a_limit(self, embedder: Embedder) -> None:
        """Longer texts count more, also beyond what the model reads; a chunk of the limit is possible."""
        counts = [embedder.count_tokens("water flows " * repeats) for repeats in (1, 10, 1_000)]
        assert counts == sorted(set(counts))
        assert counts[2] > 1_000
        assert embedder.max_tokens >= 128
