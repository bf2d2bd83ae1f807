"""Asks the product's database for the scores of every passage, and finds the places of the right ones."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector

from benchmarks.retrieval_corpus import ORGANIZATION, Question, indexed, letters_of
from benchmarks.retrieval_rank import (
    CANDIDATES,
    NOT_FOUND,
    Scores,
    alone,
    bm25,
    by_fixed,
    by_min_max,
    by_ranks,
    by_z_scores,
    place,
)
from shared.embedding.local import LocalEmbedder
from shared.ports.stores import Scope, SearchRequest
from shared.postgres.chunks import PostgresChunkIndex
from shared.postgres.pool import Database, open_database

PASSAGES = """
select d.name, c.ordinal, c.text,
  (select jsonb_object_agg(word.lexeme, cardinality(word.positions)) from unnest(c.fts) as word) as lexemes
from chunks c join documents d on d.live_job_id = c.job_id order by d.name, c.ordinal
"""
SCORES = """
with question as (
  select plainto_tsquery('english', $1) as every_word,
    replace(plainto_tsquery('english', $1)::text, '&', '|')::tsquery as any_word
)
select 1 - (e.embedding::halfvec(384) <=> $2::halfvec(384)) as vector, ts_rank(c.fts, any_word) as rank,
  ts_rank(c.fts, any_word, 1) as rank_by_length, ts_rank_cd(c.fts, any_word, 1) as density,
  ts_rank(c.fts, every_word) as every
from question, chunks c join documents d on d.live_job_id = c.job_id
join embeddings e on e.organization_id = c.organization_id and e.text_hash = c.text_hash
order by d.name, c.ordinal
"""
VECTOR = "vectors alone"
WORDS = {
    "rank": "`ts_rank`, any word",
    "rank_by_length": "`ts_rank`, any word, less for longer passages",
    "density": "`ts_rank_cd` (cover density), any word",
    "every": "`ts_rank`, every word",
    "bm25": "BM25, any word (not in Postgres)",
}
JOINED = ("rank", "density", "bm25")
WEIGHTS = (0.9, 0.8, 0.7, 0.6, 0.5)
PRODUCT = "**the product's search**"
Places = dict[str, NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What was measured with one size of chunks."""

    target_tokens: int
    chunks: int
    cut_quotes: int
    """Quotes that lie in no chunk as a whole; the chunk with most of it counts."""
    places: Places


async def measure(data_dir: Path, asked: list[Question], target_tokens: int) -> Outcome:
    """Index the corpus and ask all questions."""
    async with (
        indexed(data_dir, target_tokens=target_tokens) as dsn,
        open_database(dsn, size=2) as database,
        LocalEmbedder(intra_op_threads=1) as embedder,
    ):
        async with database.transaction(Scope(organization_id=ORGANIZATION)) as connection:
            passages = await connection.fetch(PASSAGES)
        names = {(row["name"], row["ordinal"]): index for index, row in enumerate(passages)}
        right, cut = right_passages(asked, [(row["name"], letters_of(row["text"])) for row in passages])
        counts: list[dict[str, int]] = [row["lexemes"] or {} for row in passages]
        found_in = Counter(lexeme for count in counts for lexeme in count)
        places: defaultdict[str, list[int]] = defaultdict(list)
        for question, good in zip(asked, right, strict=True):
            vector = (await embedder.embed([question.ask], purpose="query")).vectors[0]
            scores, lexemes = await _scores(database, question.ask, HalfVector(list(vector)))
            scores["bm25"] = bm25(counts, found_in, lexemes)
            for name, order in _orders(scores).items():
                places[name].append(place(order, good))
            hits = await PostgresChunkIndex(database).search(
                SearchRequest(
                    text=question.ask,
                    vector=vector,
                    space=embedder.space,
                    organization_id=ORGANIZATION,
                    limit=CANDIDATES,
                )
            )
            found = (number for number, hit in enumerate(hits, 1) if names[hit.ref.name, hit.ordinal] in good)
            places[PRODUCT].append(next(found, NOT_FOUND))
    return Outcome(
        target_tokens=target_tokens,
        chunks=len(passages),
        cut_quotes=cut,
        places={name: np.array(found) for name, found in places.items()},
    )


async def _scores(database: Database, ask: str, vector: HalfVector) -> tuple[dict[str, Scores], list[str]]:
    async with database.transaction(Scope(organization_id=ORGANIZATION)) as connection:
        rows = await connection.fetch(SCORES, ask, vector)
        lexemes = await connection.fetchval("select tsvector_to_array(to_tsvector('english', $1))", ask)
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in rows[0].keys()}, lexemes  # noqa: SIM118


def _orders(scores: dict[str, Scores]) -> dict[str, Scores]:
    """Return every order that is compared, by name."""
    vector = scores["vector"]
    orders = {VECTOR: vector} | {said: alone(scores[name], words=True) for name, said in WORDS.items()}
    for name in JOINED:
        ways: dict[str, Callable[..., Scores]] = {"equal ranks (k = 60)": by_ranks}
        ways |= {f"ranks {weight}": partial(by_ranks, weight=weight) for weight in (0.8, 0.7)}
        for said, way in (("z-scores", by_z_scores), ("min-max", by_min_max), ("fixed", by_fixed)):
            ways |= {f"{said} {weight}": partial(way, weight=weight) for weight in WEIGHTS}
        orders |= {_joined(name, said): way(vector, scores[name]) for said, way in ways.items()}
    return orders


def _joined(name: str, way: str) -> str:
    return f"vectors + {WORDS[name].split(',')[0].split(' (')[0]}, {way}"


def right_passages(asked: list[Question], passages: list[tuple[str, str]]) -> tuple[list[set[int]], int]:
    """Return the right passages of each question, and how many quotes were cut in two."""
    of_file: defaultdict[str, list[int]] = defaultdict(list)
    for index, (name, _) in enumerate(passages):
        of_file[name].append(index)
    right, cut = [], 0
    for question in asked:
        good: set[int] = set()
        for answer in question.answers:
            quote = letters_of(answer.quote)
            whole = {index for index in of_file[answer.file] if f" {quote} " in f" {passages[index][1]} "}
            if not whole:
                cut += 1
                words = quote.split()
                parts = {index: _overlap(words, passages[index][1]) for index in of_file[answer.file]}
                whole = {max(parts, key=parts.__getitem__)}
            good |= whole
        right.append(good)
    return right, cut


def _overlap(words: list[str], text: str) -> int:
    """Return how many of the words stand at one of the text's ends, where the quote was cut."""
    for count in range(len(words) - 1, 0, -1):
        if text.startswith(" ".join(words[-count:])) or text.endswith(" ".join(words[:count])):
            return count
    return 0
