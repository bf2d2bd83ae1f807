# mypy: disable-error-code="no-untyped-call"
"""The two ends of a transfer that runs in a thread: both stop at the next block once they are told to."""

from __future__ import annotations

import base64
import hashlib
import threading
import zlib
from typing import BinaryIO

import google_crc32c

from shared.errors import DependencyUnavailable, UnprocessableContent

_GZIP_WINDOW = 31
_BLOCK_BYTES = 1 << 20


class TransferStopped(Exception):
    """Nobody waits for this transfer any more. Never seen outside of the thread that ran it."""


class Sink:
    """Takes the stored bytes of an object and writes the content to a file, hashing both.

    Stored bytes are checked against size and checksum; what is stored with gzip as its content encoding is unpacked,
    all its members together up to `limit_bytes`.
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        size_bytes: int,
        crc32c: str | None,
        gzipped: bool,
        limit_bytes: int,
        stop: threading.Event,
    ) -> None:
        """Expect `size_bytes` stored bytes with the checksum `crc32c`, as the object's metadata promise."""
        self._file, self._limit_bytes, self._stop = file, limit_bytes, stop
        self._expected_bytes, self._expected_crc32c = size_bytes, crc32c
        self._stored = google_crc32c.Checksum()
        self._stored_bytes = 0
        self._content = hashlib.sha256()
        self._unpacker = zlib.decompressobj(_GZIP_WINDOW) if gzipped else None
        self.size_bytes = 0

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the content as it stands in the file."""
        return self._content.hexdigest()

    def write(self, data: bytes) -> int:
        """Take the next block.

        Raises:
            TransferStopped: the caller has gone.
            DependencyUnavailable: `CHECKSUM_MISMATCH`: more than was promised.
            UnprocessableContent: `TOO_LARGE` or `CORRUPT`, when unpacking.
        """
        if self._stop.is_set():
            raise TransferStopped
        self._stored.update(data)
        self._stored_bytes += len(data)
        if self._stored_bytes > self._expected_bytes:
            raise _damaged()
        self._unpack(data) if self._unpacker else self._keep(data)
        return len(data)

    def finish(self) -> None:
        """Compare what came with what was promised.

        Raises:
            DependencyUnavailable: `CHECKSUM_MISMATCH`; fetch it again.
            UnprocessableContent: `CORRUPT`: it was stored incomplete.
        """
        crc32c = base64.b64encode(self._stored.digest()).decode()
        if self._stored_bytes != self._expected_bytes or self._expected_crc32c not in {None, crc32c}:
            raise _damaged()
        if self._unpacker is not None and not self._unpacker.eof:
            raise UnprocessableContent("The object says it is packed with gzip, but is cut short.", code="CORRUPT")

    def _unpack(self, data: bytes) -> None:
        assert self._unpacker is not None
        try:
            while data:
                if self._unpacker.eof:  # further members may follow, with zeros between them
                    data = data.lstrip(b"\0")
                    if not data:
                        return
                    self._unpacker = zlib.decompressobj(_GZIP_WINDOW)
                self._keep(self._unpacker.decompress(data, _BLOCK_BYTES))
                data = self._unpacker.unconsumed_tail or self._unpacker.unused_data
        except zlib.error:
            raise UnprocessableContent("The object says it is packed with gzip, but is not.", code="CORRUPT") from None

    def _keep(self, content: bytes) -> None:
        self.size_bytes += len(content)
        if self.size_bytes > self._limit_bytes:
            raise UnprocessableContent(f"Unpacked, the file has more than {self._limit_bytes} bytes.", code="TOO_LARGE")
        self._content.update(content)
        self._file.write(content)


def _damaged() -> DependencyUnavailable:
    return DependencyUnavailable("An object arrived damaged; it will be fetched again.", code="CHECKSUM_MISMATCH")


class Source:
    """Reads what is uploaded; a caller that has gone ends the upload before the object is complete."""

    def __init__(self, file: BinaryIO, *, stop: threading.Event) -> None:
        self._file, self._stop = file, stop

    def read(self, size: int = -1) -> bytes:
        """Return the next block.

        Raises:
            TransferStopped: the caller has gone.
        """
        if self._stop.is_set():
            raise TransferStopped
        return self._file.read(size)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move the position."""
        return self._file.seek(offset, whence)
