"""Prices: what a call costs is never rounded away."""

import pytest

from shared.model.price import Prices

PRICES = Prices({"m": 0.15})


@pytest.mark.parametrize(
    ("tokens", "micros"), [(0, 0), (1, 1), (3, 1), (7, 2), (20, 3), (1_000_000, 150_000), (3_000_001, 450_001)]
)
def test_amounts_are_rounded_up(tokens: int, micros: int) -> None:
    """Three tokens of a model that has a price cost something; noise of binary fractions costs nothing."""
    assert PRICES.micros("m", tokens) == micros
    assert PRICES.micros("free", tokens) == 0
