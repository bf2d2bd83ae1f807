"""An embedder whose calls are counted: how many, how long, how many tokens, and how they ended."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from shared.clock import Clock
from shared.errors import HeadraceError, code_of
from shared.model.price import FREE, Prices
from shared.model.space import EmbeddingSpace
from shared.ports.models import Embedder, Embeddings, Purpose
from shared.telemetry.instruments import MODEL_CALLS, MODEL_COST, MODEL_RETRIES, MODEL_SECONDS, MODEL_TOKENS
from shared.telemetry.metrics import Metrics

_log = structlog.get_logger(__name__)


class MeteredEmbedder:
    """Another embedder, unchanged but for the counting."""

    def __init__(self, embedder: Embedder, *, metrics: Metrics, clock: Clock, prices: Prices = FREE) -> None:
        """Wrap an embedder that is open."""
        self._prices = prices
        self._embedder, self._metrics, self._clock = embedder, metrics, clock

    @property
    def space(self) -> EmbeddingSpace:
        """The wrapped embedder's space."""
        return self._embedder.space

    @property
    def batch_size(self) -> int:
        """The wrapped embedder's batch size."""
        return self._embedder.batch_size

    @property
    def max_tokens(self) -> int:
        """The wrapped embedder's limit."""
        return self._embedder.max_tokens

    def count_tokens(self, text: str) -> int:
        """Count as the wrapped embedder does."""
        return self._embedder.count_tokens(text)

    def requests(self, texts: Sequence[str]) -> Sequence[int]:
        """Divide as the wrapped embedder does."""
        return self._embedder.requests(texts)

    async def embed(self, texts: Sequence[str], *, purpose: Purpose) -> Embeddings:
        """Embed as the wrapped embedder does, and count it, also what calls cost of which nothing came."""
        started, outcome, calls, tokens = self._clock.monotonic(), "cancelled", 1, 0
        try:
            made = await self._embedder.embed(texts, purpose=purpose)
            calls, outcome, tokens = made.calls, "ok", made.paid_tokens
        except Exception as error:
            outcome = code_of(error)
            if isinstance(error, HeadraceError):
                calls = calls if error.calls is None else error.calls  # none, where the caller's turn was refused
                tokens = error.input_tokens
            _log.warning("model.call_failed", model=self.space.model, purpose=purpose, error_code=outcome)
            raise
        finally:
            self._count(calls, outcome, self._clock.monotonic() - started, tokens, purpose)
        return made

    def _count(self, calls: int, outcome: str, seconds: float, tokens: int, purpose: Purpose) -> None:
        """Count as metrics, and as a line that alerts can add up."""
        model = self.space.model
        if calls:
            self._metrics.add(MODEL_CALLS, calls, model=model, purpose=purpose, outcome=outcome)
            self._metrics.record(MODEL_SECONDS, seconds, model=model, purpose=purpose)
            self._metrics.add(MODEL_RETRIES, calls - 1, model=model)
        if not tokens and outcome != "ok":
            return
        cost_micros = self._prices.micros(model, tokens)
        self._metrics.add(MODEL_TOKENS, tokens, model=model, kind="spent")
        self._metrics.add(MODEL_COST, cost_micros, model=model, kind="spent")
        _log.info("model.called", model=model, purpose=purpose, calls=calls, tokens=tokens, cost_micros=cost_micros)
