"""Reads delimited text row by row, in an amount of memory that does not depend on the size of the file.

It is gone through twice: once for what only the whole tells (the encoding, the widest row, the last row that says
something), and once for the rows.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from services.process.extract import library
from services.process.extract.sections import Section, sheet_sections
from shared.errors import UnprocessableContent
from shared.model import media

_SAMPLE_CHARACTERS = 8_192
_DELIMITERS = ",;\t|"
_MOST = 0.9
_BLOCK_BYTES = 1024 * 1024
_STRANGE_BYTES = 256 * 1024
_MAX_LINE_CHARACTERS = 1_000_000
# What the library may have read the sample as; it does not say.
_ENCODINGS = (
    *("cp1252", "latin-1", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp874"),
    *("iso8859-2", "iso8859-5", "iso8859-7", "koi8-r", "koi8-u", "cp866", "mac-roman"),
    *("shift_jis", "cp932", "euc-jp", "iso2022-jp", "gb18030", "gbk", "big5", "euc-kr", "cp949"),
)


async def delimited_sections(path: Path, media_type: str) -> Iterator[Section]:
    """Return the rows as the cells of one sheet, called `data`.

    Raises:
        UnprocessableContent: `TOO_COMPLEX` for a line of more than a million characters, `CORRUPT` for a cell that
            never ends; also while the sections are read.
    """
    csv.field_size_limit(_MAX_LINE_CHARACTERS)
    encoding = await _encoding_of(path)
    with _opened(path, encoding) as text:
        delimiter = "\t" if media_type == media.TSV else _delimiter_of(text.read(_SAMPLE_CHARACTERS))
    row_count = column_count = widest = 0
    for number, row in enumerate(_rows(path, encoding, delimiter), 1):
        widest = max(widest, len(row))
        if any(cell.strip() for cell in row):
            row_count, column_count = number, widest
    rows = islice(_rows(path, encoding, delimiter), row_count)
    return sheet_sections("data", rows, column=1, row=1, width=column_count)


async def _encoding_of(path: Path) -> str:
    """Return the encoding: by the file's mark, as UTF-8, or what the library takes the lines that are neither for."""
    strange = b""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:  # nothing else runs in the child
        if file.peek(2)[:2] in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
            return "utf-16"
        try:
            while block := file.read(_BLOCK_BYTES):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            file.seek(0)
            while len(strange) < _STRANGE_BYTES and (line := file.readline(_BLOCK_BYTES)):
                strange += b"" if line.isascii() else line[:_STRANGE_BYTES]
        else:
            return "utf-8-sig"
    said = str((await library.read_document(strange, media.TEXT, plain=True)).content)
    return next((name for name in _ENCODINGS if _same(strange, name, said)), "cp1252")


def _same(data: bytes, encoding: str, text: str) -> bool:
    return data.decode(encoding, errors="replace").split() == text.split()


def _opened(path: Path, encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(path.open("rb"), encoding=encoding, errors="replace", newline="")


def _rows(path: Path, encoding: str, delimiter: str) -> Iterator[Sequence[str]]:
    with _opened(path, encoding) as text:
        lines = _lines(text)
        try:
            yield from csv.reader(lines, delimiter=delimiter)
        except csv.Error as error:
            raise library.corrupt() from error


def _lines(text: io.TextIOWrapper) -> Iterable[str]:
    while line := text.readline(_MAX_LINE_CHARACTERS):
        if len(line) == _MAX_LINE_CHARACTERS and not line.endswith(("\n", "\r")):
            raise UnprocessableContent(
                f"A line has more than {_MAX_LINE_CHARACTERS:,} characters; split the file into rows.",
                code="TOO_COMPLEX",
            )
        yield line


def _delimiter_of(sample: str) -> str:
    """Return the sign by which most rows have as many cells as the first, however many of it there are."""
    shares = {sign: _share_of_even_rows(sample, sign) for sign in _DELIMITERS}
    best = max(_DELIMITERS, key=lambda sign: shares[sign])
    if shares[best] > _MOST:
        return best
    try:
        return csv.Sniffer().sniff(sample, delimiters=_DELIMITERS).delimiter
    except csv.Error:
        return ","


def _share_of_even_rows(sample: str, delimiter: str) -> float:
    try:
        widths = [len(row) for row in csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter) if row]
    except csv.Error:
        return 0.0
    whole = widths[:-1] or widths  # the last row of a sample may be cut off
    return whole.count(whole[0]) / len(whole) if whole and whole[0] > 1 else 0.0
