"""A reader of images whose calls are counted, as those of an embedder are."""

from __future__ import annotations

import structlog

from shared.clock import Clock
from shared.errors import HeadraceError, code_of
from shared.model.price import FREE, Prices
from shared.ports.models import ImageReader, Reading
from shared.telemetry.instruments import MODEL_CALLS, MODEL_COST, MODEL_RETRIES, MODEL_SECONDS, MODEL_TOKENS
from shared.telemetry.metrics import Metrics

_log = structlog.get_logger(__name__)

_PURPOSE = "image"


class MeteredReader:
    """Another reader, unchanged but for the counting.

    What a model writes has a price of its own: the entry `<model>:output` of the table.
    """

    def __init__(self, reader: ImageReader, *, metrics: Metrics, clock: Clock, prices: Prices = FREE) -> None:
        """Wrap a reader that is open."""
        self._reader, self._metrics, self._clock, self._prices = reader, metrics, clock, prices

    @property
    def model(self) -> str:
        """The wrapped reader's model."""
        return self._reader.model

    def takes(self, media_type: str, *, size_bytes: int) -> bool:
        """Say what the wrapped reader says."""
        return self._reader.takes(media_type, size_bytes=size_bytes)

    async def read(self, image: bytes, *, media_type: str) -> Reading:
        """Read as the wrapped reader does, and count it; also what answers cost that were of no use."""
        started, outcome, calls = self._clock.monotonic(), "cancelled", 1
        spent_in = spent_out = 0
        try:
            made = await self._reader.read(image, media_type=media_type)
            calls, outcome, spent_in, spent_out = made.calls, "ok", made.input_tokens, made.output_tokens
        except Exception as error:
            outcome = code_of(error)
            if isinstance(error, HeadraceError):
                calls = calls if error.calls is None else error.calls  # none, where the caller's turn was refused
                spent_in, spent_out = error.input_tokens, error.output_tokens
            _log.warning("model.call_failed", model=self.model, purpose=_PURPOSE, error_code=outcome)
            raise
        finally:
            self._count(calls, outcome, self._clock.monotonic() - started, spent_in, spent_out)
        return made

    def _count(self, calls: int, outcome: str, seconds: float, spent_in: int, spent_out: int) -> None:
        model = self.model
        if calls:
            self._metrics.add(MODEL_CALLS, calls, model=model, purpose=_PURPOSE, outcome=outcome)
            self._metrics.record(MODEL_SECONDS, seconds, model=model, purpose=_PURPOSE)
            self._metrics.add(MODEL_RETRIES, calls - 1, model=model)
        if not spent_in + spent_out:
            return
        cost_micros = self._prices.reading_micros(model, spent_in, spent_out)
        self._metrics.add(MODEL_TOKENS, spent_in + spent_out, model=model, kind="spent")
        self._metrics.add(MODEL_COST, cost_micros, model=model, kind="spent")
        _log.info(
            "model.called",
            model=model,
            purpose=_PURPOSE,
            calls=calls,
            tokens=spent_in + spent_out,
            cost_micros=cost_micros,
        )
