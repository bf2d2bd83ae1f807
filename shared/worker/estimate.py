"""What an import of a prefix would cost, before it runs: a listing of the bucket, less what is indexed already."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Protocol, cast

from shared.model.document import ObjectMetadata
from shared.model.estimate import (
    LEAST_PAGES,
    TOKENS_PER_BYTE,
    UNKNOWN_TOKENS_PER_BYTE,
    Estimate,
    KindEstimate,
    PagesKnown,
    kind_of,
    pages_of,
)
from shared.model.price import PAGE_INPUT_TOKENS, PAGE_OUTPUT_TOKENS, Prices
from shared.ports.storage import ObjectStore

PAGE = 500


class Known(Protocol):
    """What the index knows."""

    async def indexed(self, bucket: str, objects: Sequence[ObjectMetadata]) -> set[str]:
        """Return the names of those objects whose bytes are indexed as they are."""
        ...

    async def tokens_per_byte(self) -> Mapping[str, float]:
        """Return the ratio of each kind of file that is indexed often enough, by `kind_of` its names."""
        ...

    async def pages(self) -> PagesKnown:
        """Return what is known of pages that a model read."""
        ...


class CostEstimate:
    """Counts objects by kind; reads none of them. Texts that files have in common are counted for each of them."""

    def __init__(
        self,
        *,
        known: Known,
        storage: ObjectStore,
        bucket: str,
        models: Callable[[], Awaitable[Sequence[str]]],
        prices: Prices,
        max_object_bytes: int,
        vision_model: str | None = None,
    ) -> None:
        """Take the ports, the models that would be asked, and the size from which files are refused.

        `models` says which make vectors at the time: of the space that is searched, and of those that are filled.
        """
        self._known, self._storage, self._bucket = known, storage, bucket
        self._models, self._prices, self._max_object_bytes = models, prices, max_object_bytes
        self._vision_model = vision_model

    async def run(self, prefix: str, *, after: str = "", limit: int, stop: Callable[[], bool] = bool) -> Estimate:
        """Estimate the names with this prefix beyond `after`: at most `limit`, or until `stop` says so after a page."""
        models, ratios = await self._models(), await self._known.tokens_per_byte()
        known_pages = None if self._vision_model is None else await self._known.pages()
        estimate, page, seen = Estimate(), list[ObjectMetadata](), 0
        listing = self._storage.list(self._bucket, prefix, start_after=after)
        async with aclosing(cast("AsyncGenerator[ObjectMetadata]", listing)) as found:
            async for one in found:
                page.append(one)
                seen += 1
                if len(page) < PAGE and seen < limit:
                    continue
                await self._add(estimate, page, models, ratios, known_pages)
                page = []
                if seen >= limit or stop():
                    estimate.after = one.ref.name
                    return estimate
        await self._add(estimate, page, models, ratios, known_pages)
        return estimate

    async def _add(
        self,
        estimate: Estimate,
        page: Sequence[ObjectMetadata],
        models: Sequence[str],
        ratios: Mapping[str, float],
        known_pages: PagesKnown | None,
    ) -> None:
        files = [one for one in page if not one.is_folder]
        indexed = await self._known.indexed(self._bucket, files) if files else set()
        for one in files:
            kind = kind_of(one.ref.name)
            entry = estimate.kinds.setdefault(kind, KindEstimate(measured=kind in ratios))
            entry.objects += 1
            entry.size_bytes += one.size_bytes
            if one.ref.name in indexed:
                entry.indexed += 1
            elif one.size_bytes > self._max_object_bytes:
                entry.too_large += 1
            else:
                ratio = ratios.get(kind, TOKENS_PER_BYTE.get(kind, UNKNOWN_TOKENS_PER_BYTE))
                tokens = round(one.size_bytes * ratio)
                entry.new_bytes += one.size_bytes
                entry.tokens += tokens
                entry.cost_micros += sum(self._prices.micros(model, tokens) for model in models)
                if known_pages is not None:
                    self._add_pages(entry, kind, one.size_bytes, known_pages)

    def _add_pages(self, entry: KindEstimate, kind: str, size_bytes: int, known: PagesKnown) -> None:
        """Count the pages that a model would read: as files like this have shown, or from few to many."""
        least, most = map(float, pages_of(kind, size_bytes))
        if least != most and kind in known.per_byte:
            least = most = max(LEAST_PAGES[kind], size_bytes * known.per_byte[kind])
        micros = known.micros_per_page
        if micros is None:
            assert self._vision_model is not None
            micros = self._prices.reading_micros(self._vision_model, PAGE_INPUT_TOKENS, PAGE_OUTPUT_TOKENS)
        entry.pages_least += least
        entry.pages_most += most
        entry.reading_micros_least += least * micros
        entry.reading_micros_most += most * micros
