"""Compound files, as old Office programs and Outlook write them: a small file system, read here and never trusted.

Only what three formats need and the library does not tell: streams by name. Every chain of sectors is followed for at
most as many steps as the file has sectors, so that no circle is endless and no stream is larger than its file.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator, Mapping
from itertools import islice

_MAGIC = bytes.fromhex("d0cf11e0a1b11ae1")
_ENTRY_BYTES = 128
_MINI_BYTES = 64
_MAX_ENTRIES = 100_000
_HEADER_SECTORS = 109
_NONE = 0xFFFFFFFA  # this and above are no sectors
_STORAGE, _STREAM, _ROOT = 1, 2, 5


class OleError(ValueError):
    """The file is not what it says."""


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A stream, or a storage with entries of its own. Names are unique in their storage, without regard to case."""

    name: str
    is_stream: bool
    size_bytes: int
    number: int
    first_sector: int


class Compound:
    """A compound file in memory."""

    def __init__(self, data: bytes) -> None:
        """Read the tables of sectors.

        Raises:
            OleError: it is no compound file, or a damaged one.
        """
        self._data = data
        try:
            (shift, mini_shift), (first_directory,) = (
                struct.unpack_from("<HH", data, 30),
                struct.unpack_from("<I", data, 48),
            )
            self._cutoff, first_mini, _, first_table, _ = struct.unpack_from("<5I", data, 56)
            if not data.startswith(_MAGIC) or shift not in {9, 12} or mini_shift != 6:
                raise OleError("no compound file")
            self._sector_bytes = 1 << shift
            self._sectors = len(data) // self._sector_bytes + 1
            self._table = b""
            self._table = b"".join(
                self._sector(number) for number in islice(self._table_sectors(first_table), self._sectors)
            )
            self._mini_table = self._chain(first_mini)
            directory = self._chain(first_directory)
            self._entries = [
                directory[at : at + _ENTRY_BYTES]
                for at in range(0, min(len(directory), _MAX_ENTRIES * _ENTRY_BYTES), _ENTRY_BYTES)
            ]
            root = self._entry(0)
            self._mini_stream = self._chain(root.first_sector)
        except (struct.error, IndexError, ValueError) as error:
            raise OleError("damaged") from error

    def entries(self, storage: Entry | None = None) -> Mapping[str, Entry]:
        """Return what a storage holds, the root if none is named, by name in lower case.

        Raises:
            OleError: the directory is damaged.
        """
        try:
            return {entry.name.lower(): entry for entry in self._children(0 if storage is None else storage.number)}
        except (struct.error, IndexError) as error:
            raise OleError("damaged") from error

    def read(self, entry: Entry) -> bytes:
        """Return a stream; what is cut off is left out."""
        if entry.size_bytes >= self._cutoff:
            return self._chain(entry.first_sector, entry.size_bytes)[: entry.size_bytes]
        numbers = _numbers(self._mini_table, entry.first_sector, self._sectors * self._sector_bytes // _MINI_BYTES)
        parts = [self._mini_stream[at * _MINI_BYTES : (at + 1) * _MINI_BYTES] for at in numbers]
        return b"".join(parts)[: entry.size_bytes]

    def _children(self, storage: int) -> Iterator[Entry]:
        (child,) = struct.unpack_from("<I", self._entries[storage], 76)
        seen, waiting = {storage}, [child]
        while waiting:
            number = waiting.pop()
            if number in seen or number >= len(self._entries):
                continue
            seen.add(number)
            waiting += struct.unpack_from("<II", self._entries[number], 68)  # the neighbours
            entry = self._entry(number)
            if self._entries[number][66] in {_STORAGE, _STREAM}:
                yield entry

    def _entry(self, number: int) -> Entry:
        raw = self._entries[number]
        (name_bytes,) = struct.unpack_from("<H", raw, 64)
        first, size = struct.unpack_from("<II", raw, 116)
        name = raw[: max(0, min(name_bytes, 64) - 2)].decode("utf-16-le", errors="replace")
        return Entry(name, raw[66] == _STREAM, size, number, first)

    def _table_sectors(self, more: int) -> Iterator[int]:
        yield from (number for number in struct.unpack_from(f"<{_HEADER_SECTORS}I", self._data, 76) if number < _NONE)
        for _ in range(self._sectors):
            if more >= _NONE:
                return
            sector = self._sector(more)
            *numbers, more = struct.unpack(f"<{len(sector) // 4}I", sector)
            yield from (number for number in numbers if number < _NONE)

    def _sector(self, number: int) -> bytes:
        start = (number + 1) * self._sector_bytes
        return self._data[start : start + self._sector_bytes]

    def _chain(self, first: int, size_bytes: int | None = None) -> bytes:
        most = self._sectors if size_bytes is None else min(self._sectors, -(-size_bytes // self._sector_bytes))
        return b"".join(self._sector(number) for number in _numbers(self._table, first, most))


def _numbers(table: bytes, first: int, most: int) -> Iterator[int]:
    number = first
    for _ in range(most):
        if number >= len(table) // 4:
            return
        yield number
        (number,) = struct.unpack_from("<I", table, number * 4)
