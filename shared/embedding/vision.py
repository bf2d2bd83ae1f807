"""Images read by Gemini: described and transcribed, in a form that is checked before anything believes it."""

from __future__ import annotations

import base64
import random
from functools import cache
from importlib import resources
from types import TracebackType
from typing import Any, NoReturn, Self

import pydantic
import structlog
from google import genai
from google.genai import types

from shared.clock import Clock, SystemClock
from shared.embedding.gemini import Answered, GeminiAccess, GeminiCalls
from shared.errors import HeadraceError, InvalidRequest, NonRetryableError, UnprocessableContent
from shared.model.text import storable
from shared.ports.models import Reading, Turns

_log = structlog.get_logger(__name__)

MEDIA_TYPES = frozenset({"image/png", "image/jpeg", "image/webp"})
MAX_IMAGE_BYTES = 15 * 1024 * 1024
"""What a request takes in its body, less what encoding adds."""
MAX_OUTPUT_TOKENS = 16_384
MAX_TRANSCRIPTION_CHARACTERS = 30_000
"""One page of very small print has some ten thousand; more is a model that repeats itself."""
MAX_DESCRIPTION_CHARACTERS = 2_000

_INPUT_TOKENS = 3_000
"""What an image of 2,000 by 2,000 pixels and the prompt take of a quota; corrected by each answer."""
_READINGS = 2
_TRUSTED_SECONDS = 30.0
"""So long after a blank page was read, a request that is called wrong is so for its image, not for the way we ask."""
_BLANK_PAGE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAIAAAACACAAAAADmVT4XAAAAW0lEQVR42u3OMQEAAAgDoGn/zhpjDyRgLl0bAQEBAQEBAQEBAQEBAQEBAQEB"
    "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQGBsgfEoQH/AB+i6QAAAABJRU5ErkJggg=="
)
"""A white PNG: whoever refuses this one refuses all."""
_BLOCKED = {
    types.FinishReason.SAFETY,
    types.FinishReason.RECITATION,
    types.FinishReason.BLOCKLIST,
    types.FinishReason.PROHIBITED_CONTENT,
    types.FinishReason.SPII,
    types.FinishReason.IMAGE_SAFETY,
    types.FinishReason.IMAGE_PROHIBITED_CONTENT,
    types.FinishReason.IMAGE_RECITATION,
    types.FinishReason.MODEL_ARMOR,
}


class PageText(pydantic.BaseModel):
    """What the model is to answer."""

    model_config = pydantic.ConfigDict(strict=True)

    transcription: str = pydantic.Field(description="All text in the image, word for word; empty if there is none")
    description: str = pydantic.Field(description="What else there is to see; empty if there is only text")


class GeminiReader:
    """`ImageReader` on the Gemini API (with a key) or Vertex AI (with a project); an async context manager."""

    def __init__(
        self,
        access: GeminiAccess,
        *,
        model: str,
        max_concurrency: int = 4,
        timeout_seconds: float = 120.0,
        longest_wait_seconds: float = 10.0,
        turns: Turns | None = None,
        clock: Clock | None = None,
        jitter: random.Random | None = None,
    ) -> None:
        """Nothing is opened before the context is entered; the arguments are those of `GeminiCalls`."""
        self._clock = clock or SystemClock()
        self._trusted_until: float | None = None
        self._calls = GeminiCalls(
            access,
            model=model,
            max_concurrency=max_concurrency,
            timeout_seconds=timeout_seconds,
            longest_wait_seconds=longest_wait_seconds,
            turns=turns,
            clock=self._clock,
            jitter=jitter,
        )

    @property
    def model(self) -> str:
        """The model's name."""
        return self._calls.model

    def takes(self, media_type: str, *, size_bytes: int) -> bool:
        """PNG, JPEG and WebP, of as many bytes as a request has room for."""
        return media_type in MEDIA_TYPES and 0 < size_bytes <= MAX_IMAGE_BYTES

    async def __aenter__(self) -> Self:
        """Open the client; no request is made."""
        await self._calls.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self._calls.__aexit__(kind, error, trace)

    async def read(self, image: bytes, *, media_type: str) -> Reading:
        """Return what is written and shown in an image. See `shared.ports.models.ImageReader` for what it raises.

        An answer without sense is asked for once more; a refused image and an endless answer are not. Where the service
        calls the request wrong, a blank page shows whether the image is.
        """
        if not self.takes(media_type, size_bytes=len(image)):
            raise InvalidRequest(f"Images to read are PNG, JPEG or WebP of at most {MAX_IMAGE_BYTES >> 20} MiB.")
        spent_in = spent_out = calls = 0
        try:
            for reading in range(1, _READINGS + 1):
                answer, more, lost = await self._ask(image, media_type)
                calls += more
                used_in, used_out = _used(answer)
                spent_in, spent_out = spent_in + used_in + lost, spent_out + used_out
                page = _page(answer)
                if page is not None:
                    return Reading(
                        text=storable(page.transcription).strip(),
                        description=storable(page.description).strip(),
                        input_tokens=spent_in,
                        output_tokens=spent_out,
                        calls=calls,
                    )
                _log.info("model.answer_invalid", model=self.model, reading=reading)
        except HeadraceError as error:
            # Of the last call, which failed, the error knows; of those before, only this place.
            error.calls = calls + (error.calls or 0)
            error.input_tokens, error.output_tokens = error.input_tokens + spent_in, error.output_tokens + spent_out
            raise
        failure = NonRetryableError(
            "The model's answer about an image had the wrong form, twice; retry later or read images by OCR.",
            code="ANSWER_INVALID",
        )
        failure.calls, failure.input_tokens, failure.output_tokens = calls, spent_in, spent_out
        raise failure

    async def _ask(self, image: bytes, media_type: str) -> Answered[types.GenerateContentResponse]:
        try:
            return await self._send(image, media_type)
        except InvalidRequest as error:
            await self._raise_what_is_wrong(error)

    async def _raise_what_is_wrong(self, error: InvalidRequest) -> NoReturn:
        """Raise whose fault it is that a request was refused.

        Raises:
            UnprocessableContent: `IMAGE_REFUSED`: that of its image.
            InvalidRequest: that of the way we ask; no image would be read.
        """
        verdict = UnprocessableContent(
            "The model takes an image of this file for none that it can read; read images by OCR instead.",
            code="IMAGE_REFUSED",
        )
        verdict.calls, verdict.input_tokens = error.calls or 0, error.input_tokens
        if self._trusted_until is None or self._clock.monotonic() > self._trusted_until:
            try:
                answer, calls, lost = await self._send(_BLANK_PAGE, "image/png")
            except HeadraceError as failure:
                failure.calls = (failure.calls or 0) + verdict.calls
                failure.input_tokens += verdict.input_tokens
                raise
            self._trusted_until = self._clock.monotonic() + _TRUSTED_SECONDS
            used_in, used_out = _used(answer)
            verdict.calls += calls
            verdict.input_tokens, verdict.output_tokens = verdict.input_tokens + used_in + lost, used_out
        raise verdict from error

    async def _send(self, image: bytes, media_type: str) -> Answered[types.GenerateContentResponse]:
        parts = [types.Part.from_bytes(data=image, mime_type=media_type), types.Part(text="Read this image.")]
        contents: Any = [types.Content(role="user", parts=parts)]
        config = types.GenerateContentConfig(
            system_instruction=_prompt(),
            temperature=0.0,
            candidate_count=1,
            max_output_tokens=MAX_OUTPUT_TOKENS,
            response_mime_type="application/json",
            response_schema=PageText,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        )

        async def request(client: genai.Client) -> types.GenerateContentResponse:
            return await client.aio.models.generate_content(model=self.model, contents=contents, config=config)

        return await self._calls.call(
            request, used_tokens=lambda answer: _used(answer)[0] or None, tokens=_INPUT_TOKENS
        )


@cache
def _prompt() -> str:
    return resources.files(__package__).joinpath("vision_prompt.txt").read_text("utf-8")


def _used(answer: types.GenerateContentResponse) -> tuple[int, int]:
    """Return the tokens that are paid for: what went in, and what came out, thoughts included."""
    usage = answer.usage_metadata
    if usage is None:
        return 0, 0
    return usage.prompt_token_count or 0, (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)


def _page(answer: types.GenerateContentResponse) -> PageText | None:
    """Return the checked answer; None if it has no sense and may have some the next time.

    Raises:
        UnprocessableContent: `CONTENT_BLOCKED`, `ANSWER_TOO_LONG`.
    """
    feedback = answer.prompt_feedback
    if feedback is not None and feedback.block_reason is not None:
        raise _blocked()
    candidate = answer.candidates[0] if answer.candidates else None
    if candidate is None:
        return None
    if candidate.finish_reason in _BLOCKED:
        raise _blocked()
    if candidate.finish_reason is types.FinishReason.MAX_TOKENS:
        raise _too_long()
    parts = candidate.content.parts if candidate.content is not None else None
    text = "".join(part.text for part in parts or () if part.text and not part.thought)
    try:
        page = PageText.model_validate_json(text)
    except pydantic.ValidationError:
        return None
    if len(page.transcription) > MAX_TRANSCRIPTION_CHARACTERS or len(page.description) > MAX_DESCRIPTION_CHARACTERS:
        raise _too_long()
    return page


def _blocked() -> UnprocessableContent:
    return UnprocessableContent(
        "The model refuses to read an image of this file; read images by OCR instead.", code="CONTENT_BLOCKED"
    )


def _too_long() -> UnprocessableContent:
    return UnprocessableContent(
        "An image of this file holds more text than one answer of the model takes; split it.", code="ANSWER_TOO_LONG"
    )
