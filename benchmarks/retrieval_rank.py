"""What decides the order of passages, as arrays over all passages; how it is joined; and how good an order is.

Nothing here knows the product: `retrieval.py` asks its database for the scores, and compares with its own search.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
CANDIDATES = 50
"""As many each side brings, as in the product."""
NOT_FOUND = 10**9
_RRF_K = 60
_RESAMPLES = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """How good the places of the first right passages are."""

    recall_1: float
    recall_5: float
    recall_10: float
    mrr: float
    """Mean of 1/place; 0 beyond the candidates."""


def quality(places: NDArray[np.int64]) -> Quality:
    """Sum up the places of one order, a place per question."""
    return Quality(
        recall_1=float((places <= 1).mean()),
        recall_5=float((places <= 5).mean()),
        recall_10=float((places <= 10).mean()),
        mrr=float(reciprocal(places).mean()),
    )


def reciprocal(places: NDArray[np.int64]) -> Scores:
    """Return 1/place for each question."""
    return np.where(places <= CANDIDATES, 1.0 / places, 0.0)


def difference(ours: NDArray[np.int64], theirs: NDArray[np.int64]) -> tuple[float, float, float]:
    """Return by how much our mean reciprocal rank is better, with the 95 % interval of a paired bootstrap."""
    gains = reciprocal(ours) - reciprocal(theirs)
    drawn = np.random.default_rng(1).integers(0, len(gains), (_RESAMPLES, len(gains)))
    low, high = np.percentile(gains[drawn].mean(axis=1), [2.5, 97.5])
    return float(gains.mean()), float(low), float(high)


def place(scores: Scores, right: Collection[int]) -> int:
    """Return the place of the first right passage; -inf stands for "not in the answer"."""
    order = np.argsort(-scores, kind="stable")
    for number, index in enumerate(order, 1):
        if not np.isfinite(scores[index]):
            break
        if int(index) in right:
            return number
    return NOT_FOUND


def alone(scores: Scores, *, words: bool) -> Scores:
    """Return one signal as an order of its own; without words in common, a passage is not found by words."""
    return np.where(scores > 0, scores, -np.inf) if words else scores


def by_ranks(vector: Scores, words: Scores, *, weight: float = 0.5) -> Scores:
    """Reciprocal rank fusion."""
    fused = np.full(len(vector), -np.inf)
    for best, share in ((_best(vector), weight), (_best(alone(words, words=True)), 1 - weight)):
        for number, index in enumerate(best, 1):
            fused[index] = (fused[index] if np.isfinite(fused[index]) else 0) + share / (_RRF_K + number)
    return fused


def by_z_scores(vector: Scores, words: Scores, *, weight: float) -> Scores:
    """Weighted sum of both scores, each standardised over the candidates: what the product does."""
    return _joined(vector, words, weight, lambda of: (of - of.mean()) / (of.std() or 1))


def by_min_max(vector: Scores, words: Scores, *, weight: float) -> Scores:
    """Weighted sum of both scores, each from 0 to 1 over the candidates."""
    return _joined(vector, words, weight, lambda of: (of - of.min()) / (np.ptp(of) or 1))


def by_fixed(vector: Scores, words: Scores, *, weight: float) -> Scores:
    """Weighted sum of the cosine as it is and the word score as a share of the best one."""
    return _joined(vector, words / (words.max() or 1), weight, lambda of: of)


def bm25(counts: Sequence[dict[str, int]], found_in: dict[str, int], question: Sequence[str]) -> Scores:
    """Return Okapi BM25 (k1 1.2, b 0.75) of every passage, over the database's own lexemes: what Postgres has not."""
    lengths = np.array([sum(count.values()) for count in counts], dtype=np.float64)
    norm = 1.2 * (0.25 + 0.75 * lengths / lengths.mean())
    scores = np.zeros(len(counts))
    for lexeme in question:
        if there := found_in.get(lexeme):
            times = np.array([count.get(lexeme, 0) for count in counts], dtype=np.float64)
            scores += np.log(1 + (len(counts) - there + 0.5) / (there + 0.5)) * times * 2.2 / (times + norm)
    return scores


def _best(scores: Scores) -> list[int]:
    return [int(index) for index in np.argsort(-scores, kind="stable")[:CANDIDATES] if np.isfinite(scores[index])]


def _joined(vector: Scores, words: Scores, weight: float, scaled: object) -> Scores:
    assert callable(scaled)
    pool = sorted({*_best(vector), *_best(alone(words, words=True))})
    fused = np.full(len(vector), -np.inf)
    fused[pool] = weight * scaled(vector[pool]) + (1 - weight) * scaled(words[pool])
    return fused
