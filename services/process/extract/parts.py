"""The parts of zipped documents (OOXML, OpenDocument, EPUB), with a limit on what each unfolds into."""

from __future__ import annotations

import io
import zipfile
import zlib
from types import TracebackType
from typing import Any, Self
from xml.etree import ElementTree as ET

ODD = (KeyError, ValueError, OSError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile, ET.ParseError)
"""What comes of files that are not as they should be; also of parts that are missing, locked or too large."""

MAX_PART_BYTES = 48 * 1024 * 1024


class Parts:
    """An open archive; a context manager. All of it raises what `ODD` lists, and nothing else."""

    def __init__(self, data: bytes) -> None:
        """Read the list of parts."""
        self._archive = zipfile.ZipFile(io.BytesIO(data))

    def __enter__(self) -> Self:
        """Return this."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the archive."""
        self._archive.close()

    def __contains__(self, name: str) -> bool:
        return name in self._archive.NameToInfo

    def size_bytes(self, name: str) -> int:
        """Return what a part says it unfolds into; it is never read beyond that."""
        return self._archive.getinfo(name).file_size

    def read(self, name: str) -> bytes:
        """Return a part."""
        if self.size_bytes(name) > MAX_PART_BYTES:
            raise ValueError(f"{name} is too large")
        return self._archive.read(name)

    def xml(self, name: str) -> Any:
        """Return the root of a part; its elements have no types."""
        # The child's limits hold for what this parses, and the parser's own for entities.
        return ET.fromstring(self.read(name))  # noqa: S314
