"""What the library does not tell of old Excel workbooks: where the used cells of each sheet stand."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from services.process.extract.odf import Corner
from services.process.extract.ole import Compound, OleError

_BEGINNING, _END, _SHEET, _CODE_PAGE = 0x809, 0x0A, 0x85, 0x42
_MANY_NUMBERS = 0xBD
# A number, a text, a shared or a formatted text, a packed number, a truth value or error, a formula.
_CELLS = {0x203, 0x204, 0xFD, 0xD6, 0x27E, 0x205, 0x06, 0x206, 0x406}
_UNICODE = 0x600
_WORKSHEET = 0


def corners(data: bytes) -> dict[str, Corner]:
    """Return where the used cells of each sheet stand; nothing when the file is not as expected."""
    try:
        book = Compound(data)
        streams = book.entries()
        stream = streams.get("workbook") or streams.get("book")
        return {} if stream is None else _corners(book.read(stream))
    except (OleError, struct.error, LookupError):
        return {}  # the cells are an extra; the text was read without them


def _corners(book: bytes) -> dict[str, Corner]:
    (version,) = struct.unpack_from("<H", book, 4)
    encoding, sheets = "cp1252", []
    for kind, body in _records(book, 0):
        if kind == _CODE_PAGE:
            encoding = f"cp{struct.unpack_from('<H', body)[0]}"
        elif kind == _SHEET and body[5] == _WORKSHEET:
            sheets.append((struct.unpack_from("<I", body)[0], body[6:]))
    found = {}
    for offset, name in sheets:
        if corner := _corner(book, offset):
            found[_name(name, version, encoding)] = corner
    return found


def _name(raw: bytes, version: int, encoding: str) -> str:
    if version < _UNICODE:
        return raw[1 : 1 + raw[0]].decode("cp1252" if encoding in {"cp32769", "cp1200"} else encoding, errors="replace")
    is_wide = raw[1] & 1
    return raw[2 : 2 + raw[0] * (1 + is_wide)].decode("utf-16-le" if is_wide else "latin-1", errors="replace")


def _corner(book: bytes, offset: int) -> Corner | None:
    left, top, right, bottom = 1 << 16, 1 << 16, -1, -1
    for kind, body in _records(book, offset):
        if kind in _CELLS or kind == _MANY_NUMBERS:
            row, column = struct.unpack_from("<HH", body)
            last = struct.unpack_from("<H", body, len(body) - 2)[0] if kind == _MANY_NUMBERS else column
            left, top, right, bottom = min(left, column), min(top, row), max(right, last), max(bottom, row)
    return None if right < 0 else (left + 1, top + 1, (bottom - top + 1, right - left + 1))


def _records(book: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """Yield the records from a beginning to its end; those of a chart within are passed over."""
    depth = 0
    while offset + 4 <= len(book):
        kind, length = struct.unpack_from("<HH", book, offset)
        if kind == _BEGINNING:
            depth += 1
        elif kind == _END:
            depth -= 1
            if depth <= 0:
                return
        elif depth == 1:
            yield kind, book[offset + 4 : offset + 4 + length]
        offset += 4 + length
