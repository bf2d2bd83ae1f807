"""What turns files into text and text into vectors."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol
from uuid import UUID

from shared.model.document import Segment
from shared.model.space import EmbeddingSpace

Purpose = Literal["document", "query"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Embeddings:
    """One vector per text, in the order of the texts, and what they cost."""

    vectors: Sequence[Sequence[float]]
    tokens: int
    calls: int
    lost_tokens: int = 0
    """What calls took, as estimated, of which no answer came; they may have been paid for."""

    @property
    def paid_tokens(self) -> int:
        """All that is paid for, as far as is known."""
        return self.tokens + self.lost_tokens


class Embedder(Protocol):
    """Turns text into vectors of one space. Safe to call from many tasks; the adapter bounds its own concurrency."""

    @property
    def space(self) -> EmbeddingSpace:
        """The space of all vectors this embedder makes."""
        ...

    @property
    def batch_size(self) -> int:
        """How many texts one call takes at most; also the unit that is repeated after a kill."""
        ...

    @property
    def max_tokens(self) -> int:
        """How many tokens of a text the model reads; chunks are made to fit."""
        ...

    def count_tokens(self, text: str) -> int:
        """Return how many tokens the model would see (exactly, or a bound from above where the model is remote)."""
        ...

    def requests(self, texts: Sequence[str]) -> Sequence[int]:
        """Return how many of these texts go into each request to the model, in order; at most `batch_size` texts.

        One number where one request takes all. Whoever embeds texts request by request loses nothing that is paid.
        """
        ...

    async def embed(self, texts: Sequence[str], *, purpose: Purpose) -> Embeddings:
        """Return one vector of length `space.dimensions` per text; at most `batch_size` texts, none of them empty.

        Raises:
            RateLimitError: with what the service asked to wait, if it did. Perhaps no call was made: it was known.
            AuthenticationError: the key or account was refused; exactly one call was made.
            RetryableError: timed out, refused, 5xx, or a malformed answer, after the bounded tries inside one call.
            NonRetryableError: the service says the request itself is wrong.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a model saw in one image, and what that cost."""

    text: str
    """What is written there, in reading order."""
    description: str
    """What else there is to see; empty where the image shows nothing but text."""
    input_tokens: int
    output_tokens: int
    calls: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PagesRead:
    """What a model took to read pages: how many, with those that it refused; money in millionths."""

    pages: int = 0
    calls: int = 0
    tokens: int = 0
    micros: int = 0


class ImageReader(Protocol):
    """Reads images: pages without a text layer, photos, drawings. Safe to call from many tasks."""

    @property
    def model(self) -> str:
        """The model's name, for metrics and prices."""
        ...

    def takes(self, media_type: str, *, size_bytes: int) -> bool:
        """Say whether an image of this kind and size can be read; other readers have to do the rest."""
        ...

    async def read(self, image: bytes, *, media_type: str) -> Reading:
        """Return what is written and shown in an image; both texts are bounded, and may be empty.

        Errors carry what they cost (`calls`, `input_tokens`, `output_tokens`).

        Raises:
            RateLimitError: with what the service asked to wait, if it did. Perhaps no call was made: it was known.
            AuthenticationError: the key or account was refused; exactly one call was made.
            RetryableError: timed out, refused, 5xx, after the bounded tries inside one call.
            UnprocessableContent: `CONTENT_BLOCKED`, `IMAGE_REFUSED`, `ANSWER_TOO_LONG`: this image, with this model,
                never.
            NonRetryableError: `ANSWER_INVALID` after a second call, or the service says that the request is wrong,
                whatever the image.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """What a call is going to use. `id` is of this call alone."""

    id: UUID
    requests: int = 1
    """As the service counts them: of a batch, each text may be one."""
    tokens: int = 0
    """An estimate."""
    longest_seconds: float = 60.0
    """How long the call may take; a turn that nobody gives back is free again then."""


class Embedders(Protocol):
    """The models of several spaces."""

    @property
    def default(self) -> EmbeddingSpace:
        """The space that the settings name."""
        ...

    def refusal(self, space: EmbeddingSpace) -> str | None:
        """Return why nothing here makes vectors of a space, as a sentence for people; None if something does."""
        ...

    async def of(self, space: EmbeddingSpace) -> Embedder:
        """Return the open model of a space; the same one each time.

        Raises:
            ConfigurationError: nothing here makes vectors of that space.
        """
        ...


class Turns(Protocol):
    """Keeps the pace of calls to a model that limits them, for this process or for all that share the limit.

    A model without a quota, as long as it refuses nothing, gives every turn freely.
    """

    async def take(self, model: str, turn: Turn) -> float:
        """Take a turn and return 0; or take none, and return how many seconds it is until it is worth asking again.

        A turn that was taken is to be given back.
        """
        ...

    async def give_back(self, model: str, turn: Turn, *, used_tokens: int | None = None) -> None:
        """Say that the call is over, and what it used if that is known. Best effort: nothing is raised."""
        ...

    async def refused(self, model: str, *, wait_seconds: float) -> None:
        """Say that a call was refused (429): nobody takes a turn for so long, and turns are further apart then."""
        ...


class Extractor(Protocol):
    """Turns a file into segments of text, in a child process with limits on time and memory.

    Whatever the file does to the child, the caller gets segments or one error, and no process or file stays behind.
    """

    def extract(self, path: Path, *, media_type: str, start: int = 0) -> AsyncGenerator[Segment, None]:
        """Yield the segments of a file in reading order, from index `start` on.

        The same bytes give the same segments, so that a successor can go on where a killed worker stopped. Close the
        generator when leaving it early: the child lives as long as it.

        Raises:
            UnprocessableContent: `UNSUPPORTED_TYPE`, `CORRUPT`, `ENCRYPTED`, `EMPTY`, `NO_TEXT`, `TOO_COMPLEX`.
            WorkerCrashed: the child died for a reason that is not the file's.
            ReaderUnavailable: no child could be started; the file was not touched.
        """
        ...

    def sniff(self, path: Path, *, name: str) -> str:
        """Return the media type by the bytes; the name only decides between kinds of text.

        Raises:
            UnprocessableContent: `UNSUPPORTED_TYPE`, `EMPTY`, or what can be seen at once: `CORRUPT`, `ENCRYPTED`.
        """
        ...
