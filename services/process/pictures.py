"""Pages that a model reads: each is paid within the budget, counted on the job, and flagged where the model refused.

What a model refuses to read (`CONTENT_BLOCKED`, `IMAGE_REFUSED`, `ANSWER_TOO_LONG`) is a verdict on one page, not on
the file: that page is read by OCR, and the job's result says so. An answer without sense, twice, says nothing about the
page, so it ends the job.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from services.process.purse import Purse
from shared.errors import HeadraceError, NonRetryableError, RetryableError, UnprocessableContent
from shared.model.document import Picture, Segment
from shared.model.job import Job
from shared.model.price import PAGE_INPUT_TOKENS, PAGE_OUTPUT_TOKENS, Prices
from shared.ports.models import Extractor, ImageReader, PagesRead, Reading
from shared.ports.stores import WorkQueue

_log = structlog.get_logger(__name__)

READING_VERSION = 1
"""Raised with every change to what a page is turned into; passages of another version are not taken over."""

REFUSED = "refused_pages"
"""Where a checkpoint and a result list pages that the model refused, by code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A page that was read, what a model took for it, and the code with which it refused, if it did."""

    segment: Segment
    read: PagesRead
    refusal: str | None = None


class PageReading:
    """Reads the pictures among a file's segments."""

    def __init__(
        self,
        reader: ImageReader,
        *,
        ocr: Extractor,
        queue: WorkQueue,
        purse: Purse,
        prices: Prices,
        temp_dir: str | None = None,
    ) -> None:
        """Take the model, and what reads by OCR the pages that it refuses."""
        self._reader, self._ocr, self._queue = reader, ocr, queue
        self._purse, self._prices, self._temp_dir = purse, prices, temp_dir

    @property
    def reader(self) -> str:
        """The model, and the version of what is made of its answers."""
        return f"{self._reader.model}/{READING_VERSION}"

    async def read(self, job: Job, segment: Segment, picture: Picture) -> Page:
        """Return a segment with what its picture says; empty if that is nothing.

        What was paid for a page of which nothing came is on the job when this raises.

        Raises:
            BudgetExhausted: nothing was asked for.
            HeadraceError: what the model raises, other than that it refuses this page.
        """
        number = segment.locator.page or segment.index + 1
        try:
            made = await self._purse.pay(
                job.organization_id,
                self._micros(PAGE_INPUT_TOKENS, PAGE_OUTPUT_TOKENS),
                lambda: self._reader.read(picture.data, media_type=picture.media_type),
                cost=lambda reading: self._micros(reading.input_tokens, reading.output_tokens),
                lost=lambda error: self._micros(error.input_tokens, error.output_tokens),
            )
        except UnprocessableContent as error:
            _log.warning("page.refused", page=number, model=self._reader.model, error_code=error.code)
            text = await self._text_by_ocr(picture)
            return Page(segment=_with_text(segment, text), read=self._taken(error), refusal=error.code)
        except HeadraceError as error:
            if error.calls:
                await self._queue.charge(job.lease, self._taken(error))
            if isinstance(error, RetryableError):
                raise
            raise _on_page(error, number) from error
        return Page(segment=_with_text(segment, _text_of(made)), read=self._taken(made))

    def _taken(self, answer: Reading | HeadraceError) -> PagesRead:
        return PagesRead(
            pages=1 if isinstance(answer, Reading | UnprocessableContent) else 0,
            calls=answer.calls or 0,
            tokens=answer.input_tokens + answer.output_tokens,
            micros=self._micros(answer.input_tokens, answer.output_tokens),
        )

    def _micros(self, input_tokens: int, output_tokens: int) -> int:
        return self._prices.reading_micros(self._reader.model, input_tokens, output_tokens)

    async def _text_by_ocr(self, picture: Picture) -> str:
        with tempfile.TemporaryDirectory(prefix="page-", dir=self._temp_dir) as folder:
            path = Path(folder) / "page"
            await asyncio.to_thread(path.write_bytes, picture.data)
            try:
                async with aclosing(self._ocr.extract(path, media_type=picture.media_type)) as found:
                    return "\n\n".join([segment.text async for segment in found])
            except UnprocessableContent as error:
                _log.info("page.not_read_by_ocr", error_code=error.code)
                return ""


def refusals(pages: Mapping[str, Sequence[int]]) -> UnprocessableContent:
    """Return the verdict on a file of which nothing could be read, since the model refused it and OCR saw nothing."""
    code, numbers = next(iter(pages.items()))
    listed = ", ".join(map(str, numbers[:5])) + (" and others" if len(numbers) > 5 else "")
    return UnprocessableContent(
        f"The model refuses to read the file (page {listed}), and OCR finds no text in it either.", code=code
    )


def _with_text(segment: Segment, text: str) -> Segment:
    return replace(segment, text=text, picture=None)


def _text_of(reading: Reading) -> str:
    return "\n\n".join(part for part in (reading.text, reading.description) if part)


def _on_page(error: HeadraceError, number: int) -> HeadraceError:
    """Return the same failure with the page in its sentence."""
    if not isinstance(error, NonRetryableError):
        return error
    placed = type(error)(f"Page {number}: {error.message}", code=error.code)
    placed.calls, placed.input_tokens, placed.output_tokens = error.calls, error.input_tokens, error.output_tokens
    return placed
