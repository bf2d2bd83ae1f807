"""The local embedder keeps the contract, checks its files, and understands English."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from shared.embedding import local
from shared.embedding.local import LocalEmbedder
from shared.errors import ConfigurationError
from tests.contracts.embedder import EmbedderContract


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def loaded() -> AsyncIterator[LocalEmbedder]:
    """Load the model once for all tests of this file."""
    async with LocalEmbedder(intra_op_threads=1) as embedder:
        yield embedder


@pytest.mark.asyncio(loop_scope="module")
class TestLocalEmbedder(EmbedderContract):
    @pytest.fixture
    def embedder(self, loaded: LocalEmbedder) -> LocalEmbedder:
        """Hand out the loaded one."""
        return loaded

    async def test_finds_the_answer_among_others(self, embedder: LocalEmbedder) -> None:
        """A question is nearest to the passage that answers it."""
        passages = ["The gate closes by gravity.", "Lunch is served at noon.", "Grease the bearings each month."]
        documents = (await embedder.embed(passages, purpose="document")).vectors
        query = (await embedder.embed(["How often are bearings lubricated?"], purpose="query")).vectors[0]
        scores = [sum(a * b for a, b in zip(query, vector, strict=True)) for vector in documents]
        assert scores.index(max(scores)) == 2

    async def test_counts_what_it_reads(self, embedder: LocalEmbedder) -> None:
        """The count includes both markers and is what `embed` reports, up to the limit."""
        assert embedder.count_tokens("hello world") == 4
        assert (await embedder.embed(["hello world"], purpose="query")).tokens == 4
        assert (await embedder.embed(["word " * 1_000], purpose="query")).tokens == embedder.max_tokens


async def test_a_changed_model_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with another checksum than the one chosen stops the start with a sentence that names it."""
    monkeypatch.setattr(local, "_TOKENIZER_SHA256", "0" * 64)
    with pytest.raises(ConfigurationError, match=r"minilm-tokenizer\.json"):
        async with LocalEmbedder():
            pass
