"""What tokens of models cost. Money is counted in millionths of whatever currency the price table is in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

MICROS = 1_000_000

_EXACT_DIGITS = 6
"""What lies behind is noise of binary fractions, and is not rounded up."""


@dataclass(frozen=True, slots=True)
class Prices:
    """A table of prices per million tokens, by model; one that is not in it costs `otherwise`."""

    per_million_tokens: Mapping[str, float] = field(default_factory=dict)
    otherwise: float = 0.0

    def micros(self, model: str, tokens: float) -> int:
        """Return what so many tokens cost, in millionths: a price for a million is the price of one, in millionths.

        Rounded up, so that no call is free that has a price, and a budget of nothing lets none pass.
        """
        return math.ceil(round(tokens * self.per_million_tokens.get(model, self.otherwise), _EXACT_DIGITS))

    def reading_micros(self, model: str, input_tokens: float, output_tokens: float) -> int:
        """Return what it costs that a model reads a page; what it writes has a price of its own, `<model>:output`."""
        return self.micros(model, input_tokens) + self.micros(f"{model}:output", output_tokens)


FREE = Prices()

PAGE_INPUT_TOKENS = 2_500
PAGE_OUTPUT_TOKENS = 1_500
"""What a page is expected to take, before anybody has asked: an A4 page in tiles and the prompt; a dense page's text
and some thoughts. Each answer says what it really was.
"""


def shown(micros: int) -> str:
    """Return an amount for people: two decimals, more for what would be nothing otherwise."""
    amount = micros / MICROS
    return f"{amount:,.2f}" if not micros or abs(amount) >= 0.1 else f"{amount:.6f}".rstrip("0")
