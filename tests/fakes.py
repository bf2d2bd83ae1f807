"""Small stand-ins for the outside, for tests about our own decisions. Servers are used wherever they matter."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from shared.errors import RetryableError, Superseded
from shared.model.document import ObjectMetadata, ObjectRef, Segment
from shared.model.locator import Locator, LocatorKind
from shared.model.space import EmbeddingSpace
from shared.ports.broker import Message
from shared.ports.models import Embeddings, Purpose
from shared.ports.storage import Downloaded

BUCKET = "uploads"


def descending_generations() -> Iterator[int]:
    """Unique, and each smaller than the one before: Cloud Storage promises no order."""
    yield from range(9_000_000_000, 0, -7)


class SimulatedBucket:
    """An `ObjectStore` in memory, exact about generations, whose generations come in whatever order the test likes."""

    def __init__(self, generations: Iterator[int] | None = None) -> None:
        self._generations = generations or descending_generations()
        self.objects: dict[str, tuple[ObjectMetadata, bytes]] = {}
        self.stats = 0
        self.downloads: list[tuple[str, int]] = []

    def put(self, name: str, content: bytes, **metadata: str) -> ObjectMetadata:
        """Write a new generation."""
        live = ObjectMetadata(
            ref=ObjectRef(BUCKET, name),
            generation=next(self._generations),
            metageneration=1,
            size_bytes=len(content),
            crc32c=base64.b64encode(hashlib.md5(content).digest()[:4]).decode(),
            md5=base64.b64encode(hashlib.md5(content).digest()).decode(),
            content_type=None,
            updated_at=None,
            metadata={key.replace("_", "-"): value for key, value in metadata.items()},
        )
        self.objects[name] = (live, content)
        return live

    def describe(self, name: str, **metadata: str) -> None:
        """Change metadata: the generation stays, the metageneration moves."""
        live, content = self.objects[name]
        changed = {key.replace("_", "-"): value for key, value in metadata.items()}
        fields = {field: getattr(live, field) for field in live.__slots__}
        fields |= {"metageneration": live.metageneration + 1, "metadata": changed}
        self.objects[name] = (ObjectMetadata(**fields), content)

    def remove(self, name: str) -> None:
        """Delete the live generation."""
        del self.objects[name]

    async def stat(self, ref: ObjectRef) -> ObjectMetadata | None:
        self.stats += 1
        await asyncio.sleep(0)  # another task may change the bucket between the question and the answer
        found = self.objects.get(ref.name)
        return None if found is None else found[0]

    async def download(self, ref: ObjectRef, generation: int, to: Path, *, limit_bytes: int) -> Downloaded:
        live, content = self.objects.get(ref.name, (None, b""))
        if live is None or live.generation != generation:
            raise Superseded("that generation is gone.")
        self.downloads.append((ref.name, generation))
        to.write_bytes(content)
        return Downloaded(path=to, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

    async def list(self, bucket: str, prefix: str = "", *, start_after: str = "") -> AsyncIterator[ObjectMetadata]:
        for name in sorted(self.objects, key=lambda name: name.encode()):
            if name.startswith(prefix) and name > start_after:
                yield self.objects[name][0]

    async def upload(
        self, ref: ObjectRef, source: Path | bytes, *, content_type: str | None, metadata
    ) -> ObjectMetadata:
        content = source if isinstance(source, bytes) else source.read_bytes()
        return self.put(ref.name, content, **(metadata or {}))

    async def delete(self, ref: ObjectRef) -> None:
        self.objects.pop(ref.name, None)

    async def ping(self, bucket: str) -> None:
        return None


class RecordingPublisher:
    """A `Publisher` that remembers; it can be told to fail."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.failing = False

    async def publish(self, message: Message) -> str:
        if self.failing:
            raise RetryableError("the broker is away.")
        self.messages.append(message)
        return str(len(self.messages))

    def of(self, topic: str) -> list[Message]:
        """What was published to one topic."""
        return [message for message in self.messages if message.topic == topic]


class LineExtractor:
    """An `Extractor` for which each line of a text file is a segment."""

    def sniff(self, path: Path, *, name: str) -> str:
        return "text/plain"

    async def extract(self, path: Path, *, media_type: str, start: int = 0) -> AsyncIterator[Segment]:
        for index, line in enumerate(path.read_text().splitlines()):
            if index >= start and line.strip():
                yield Segment(index=index, text=line, locator=Locator(kind=LocatorKind.PAGE, page=index + 1))


class HashEmbedder:
    """An `Embedder` whose vectors follow from the text; counts what it is asked, and can be told to fail."""

    def __init__(self, *, batch_size: int = 4) -> None:
        self._batch_size = batch_size
        self.calls: list[list[str]] = []
        self.errors: list[Exception] = []

    @property
    def space(self) -> EmbeddingSpace:
        return EmbeddingSpace(model="hash", dimensions=8)

    @property
    def batch_size(self) -> int:
        return self._batch_size

    @property
    def max_tokens(self) -> int:
        return 256

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def requests(self, texts: Sequence[str]) -> list[int]:
        return [len(texts)]

    async def embed(self, texts: Sequence[str], *, purpose: Purpose) -> Embeddings:
        if self.errors:
            raise self.errors.pop(0)
        self.calls.append(list(texts))
        vectors = [[byte / 255 for byte in hashlib.sha256(text.encode()).digest()[:8]] for text in texts]
        return Embeddings(vectors=vectors, tokens=sum(map(self.count_tokens, texts)), calls=1)

    @property
    def texts(self) -> list[str]:
        """Every text that was paid for."""
        return [text for call in self.calls for text in call]
