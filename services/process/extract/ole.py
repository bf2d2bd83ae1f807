# mypy: disable-error-code="no-untyped-call"
"""Compound files, as old Office programs and Outlook write them: a small file system, of which we read streams by name.

`olefile` follows the chains of sectors, each at most as far as the file has sectors, so that no circle is endless. What
it raises on a damaged file is any of a dozen kinds, and becomes one here.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from typing import Any

import olefile


class OleError(ValueError):
    """The file is not what it says."""


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A stream, or a storage with entries of its own. Names are unique in their storage, without regard to case."""

    path: tuple[str, ...]
    is_stream: bool
    size_bytes: int


class Compound:
    """A compound file in memory."""

    def __init__(self, data: bytes) -> None:
        """Read the tables of sectors and the directory.

        Raises:
            OleError: it is no compound file, or a damaged one.
        """
        try:
            # The library takes short bytes for the name of a file; a stream is always content.
            self._file = olefile.OleFileIO(io.BytesIO(data))
        except Exception as error:  # on hostile bytes the library raises what it happens to stumble over
            raise OleError("no compound file, or damaged") from error

    def entries(self, storage: Entry | None = None) -> Mapping[str, Entry]:
        """Return what a storage holds, the root if none is named, by name in lower case."""
        path = () if storage is None else storage.path
        return {
            name.lower(): Entry((*path, name), entry.entry_type == olefile.STGTY_STREAM, entry.size)
            for name, entry in self._children(path).items()
        }

    def read(self, entry: Entry) -> bytes:
        """Return a stream; what is cut off is left out.

        Raises:
            OleError: its sectors are not there.
        """
        try:
            content: bytes = self._file.openstream(list(entry.path)).read()
        except Exception as error:  # as above
            raise OleError("damaged") from error
        return content

    def _children(self, path: tuple[str, ...]) -> dict[str, Any]:
        directory: Any = self._file.root
        for name in path:
            directory = directory.kids_dict[name.lower()]
        return {child.name: child for child in directory.kids}
